// Package page draws a report: one HTML page that needs nothing else.
package page

import (
	"bufio"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas/measure"
)

//go:embed page.html
var source string

// maxDrawn bounds how many runs of a series are drawn; all are in the table.
const maxDrawn = 24

// Write writes the page. What it shows comes from servers, daemons and
// commands, and is escaped where it stands.
func Write(w io.Writer, s *measure.Series) error {
	t, err := template.New("page").Parse(source)
	if err != nil {
		return fmt.Errorf("parse template: %w", err)
	}
	b := bufio.NewWriter(w)
	if err := t.Execute(b, newView(s)); err != nil {
		return fmt.Errorf("draw page: %w", err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// view is all that the template shows.
type view struct {
	Title, Headline, Under string
	Tiles                  []tile
	Problem                string
	Series                 bool
	Spread                 []drawing
	Quantiles              table
	RunTable               table
	Runs                   []runView
	Drawn                  string // which of many runs are drawn
	How                    []pair
	Clocks                 table
}

// tile is a figure that is seen first.
type tile struct{ Label, Value, Note, Class string }

// pair is a line of what was done.
type pair struct{ Name, Text string }

// table is rows below a head.
type table struct {
	Caption string
	Head    []string
	Rows    [][]string
}

// runView is one run as it is shown.
type runView struct {
	Heading, Void string
	Open          bool
	Pictures      []drawing
	Stale         []drawing
	Legend        []pair // name of a site, its class
	Tables        []table
	Outputs       []pair // of commands
}

func newView(s *measure.Series) view {
	v := view{Title: "rtotest", Series: s.Wanted > 1 || len(s.Runs) > 1, Problem: s.Problem}
	if len(s.Runs) == 0 {
		v.Headline = "Nothing was measured"
		return v
	}
	v.Title = "rtotest: " + s.Runs[0].URL
	v.Headline, v.Under = headline(s, v.Series)
	v.Tiles = tiles(s)
	if v.Series {
		for i, width := range []float64{wide, narrow} {
			if d, ok := spread(fmt.Sprintf("spread%d", i), width, s); ok {
				v.Spread = append(v.Spread, d)
			}
		}
		v.Quantiles, v.RunTable = quantileTable(s), runTable(s)
	}
	drawn := choose(s)
	for _, c := range drawn {
		v.Runs = append(v.Runs, newRunView(c.index, c.why, s.Runs[c.index], v.Series))
	}
	if len(drawn) < len(s.Runs) {
		v.Drawn = fmt.Sprintf("%d of %d runs are drawn; all are in the table.", len(drawn), len(s.Runs))
	}
	v.How, v.Clocks = how(s), clocks(s.Runs[len(s.Runs)-1])
	return v
}

// headline says in one sentence what was found, and in another for whom.
func headline(s *measure.Series, series bool) (head, under string) {
	r, sum := s.Runs[0], &s.Summary
	under = fmt.Sprintf("%s, client %s, from %s", r.URL, r.Client, r.Started.Format("2006-01-02 15:04:05 MST"))
	switch {
	case !series && r.Void:
		return "This run proves nothing: " + r.VoidReason, under
	case !series && r.FirstFailure == nil:
		return "Users did not notice: no request failed", under
	case !series && !r.Recovered:
		return fmt.Sprintf("Users were without service for more than %s: it did not come back while this was measured", span(time.Duration(r.Downtime))), under
	case !series:
		return fmt.Sprintf("Users were without service for %s", span(time.Duration(r.Downtime))), under
	}
	text := fmt.Sprintf("%d runs", sum.Runs)
	c := sum.Clients[sum.Client]
	switch {
	case c == nil || len(c.Quantiles) == 0:
		text += ": none of them proves anything"
	case c.Quantiles[0].Value == nil:
		text += ": too few to say what is usual"
	case !c.Quantiles[0].Value.Recovered:
		text += ": users mostly did not get the service back"
	default:
		text += fmt.Sprintf(": half of the time users had the service back within %s", span(time.Duration(c.Quantiles[0].Value.Downtime)))
	}
	return text, under
}

// tiles are the figures that answer the first questions.
func tiles(s *measure.Series) []tile {
	var out []tile
	sum, r := &s.Summary, s.Runs[0]
	if len(s.Runs) == 1 {
		t := tile{Label: "downtime", Value: span(time.Duration(r.Downtime)), Note: "client " + string(r.Client)}
		switch {
		case r.Void:
			t.Class, t.Note = "unknown", "void"
		case !r.Recovered:
			t.Class, t.Value, t.Note = "bad", "> "+t.Value, "not over"
		}
		out = append(out, t)
	} else if c := sum.Clients[sum.Client]; c != nil {
		for _, q := range c.Quantiles {
			t := tile{Label: fmt.Sprintf("downtime p%g", q.Percent), Value: shown(q.Value), Note: bounds(q)}
			if q.Value == nil {
				t.Class, t.Note = "unknown", fmt.Sprintf("needs %d runs", q.Need)
			}
			out = append(out, t)
		}
	}
	switch of := fmt.Sprintf("of %d", sum.Runs); {
	case len(s.Runs) < 2:
	case sum.NotEnded > 0:
		out = append(out, tile{Label: "runs not over", Value: fmt.Sprint(sum.NotEnded), Note: fmt.Sprintf("%s, and %d void", of, sum.Void), Class: "bad"})
	case sum.Void > 0:
		out = append(out, tile{Label: "void runs", Value: fmt.Sprint(sum.Void), Note: of, Class: "unknown"})
	}
	switch {
	case sum.LossUnknown > 0:
		out = append(out, tile{Label: "lost writes", Value: "not known", Note: fmt.Sprintf("in %d of %d runs", sum.LossUnknown, sum.LossUnknown+sum.LossKnown), Class: "unknown"})
	case sum.LossKnown > 0:
		t := tile{Label: "lost writes (RPO)", Value: span(time.Duration(sum.WorstRPO)), Note: fmt.Sprintf("%d acknowledged writes", sum.Lost)}
		if sum.Lost == 0 {
			t.Value, t.Note = "none", "all acknowledged writes are there"
		}
		out = append(out, t)
	}
	if t, ok := lossTile(s); ok {
		out = append(out, t)
	}
	dual, wrong := time.Duration(0), 0
	for _, r := range s.Runs {
		dual, wrong = max(dual, time.Duration(r.DualActive)), wrong+r.WrongSite
	}
	t := tile{Label: "two sites active", Value: "never"}
	if dual > 0 {
		t.Value, t.Class = span(dual), "bad"
	}
	out = append(out, t)
	t = tile{Label: "answers of a past site", Value: fmt.Sprint(wrong)}
	if wrong > 0 {
		t.Class = "bad"
	}
	return append(out, t)
}

// lossTile is what draasd expects to be lost, beside what users were without.
func lossTile(s *measure.Series) (tile, bool) {
	sum := &s.Summary
	t := tile{Label: "expected loss", Value: "not known", Class: "unknown"}
	if sum.Told > sum.ToldUnknown {
		t.Value, t.Class = span(time.Duration(sum.WorstTold)), ""
	}
	if l := s.Runs[0].Loss; len(s.Runs) == 1 && l != nil {
		t.Note = clip(fmt.Sprintf("copy of %s's cloud, told by %s", l.From, l.By), 100)
	} else {
		t.Note = fmt.Sprintf("at worst, told by draasd of %d runs", sum.Told)
	}
	return t, sum.Told > 0
}

func shown(t *measure.Trial) string {
	switch {
	case t == nil:
		return "–"
	case !t.Recovered:
		return "> " + span(time.Duration(t.Downtime))
	}
	return span(time.Duration(t.Downtime))
}

// bound is a bound of a percentile: a run that was not over counts as longer
// than any, and not as its length.
func bound(t *measure.Trial) string {
	if t != nil && !t.Recovered {
		return "not over"
	}
	return shown(t)
}

func bounds(q measure.Quantile) string {
	switch {
	case q.Lower != nil && q.Upper != nil:
		return bound(q.Lower) + " to " + bound(q.Upper)
	case q.Lower != nil:
		return "at least " + bound(q.Lower)
	}
	return ""
}

// chosen is a run that is drawn, and why.
type chosen struct {
	index int
	why   string
}

// choose picks the runs to draw: of several the longest and the one in the
// middle come first, then the others in their order.
func choose(s *measure.Series) []chosen {
	if len(s.Runs) == 1 {
		return []chosen{{}}
	}
	var order []int
	for i, r := range s.Runs {
		if !r.Void {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := s.Runs[a], s.Runs[b]
		if x.Recovered != y.Recovered {
			if y.Recovered {
				return 1
			}
			return -1
		}
		return int(x.Downtime - y.Downtime)
	})
	var out []chosen
	taken := make(map[int]bool)
	take := func(i int, why string) {
		if !taken[i] && len(out) < maxDrawn {
			taken[i] = true
			out = append(out, chosen{i, why})
		}
	}
	if n := len(order); n > 0 {
		take(order[n-1], "the longest")
		take(order[(n-1)/2], "the one in the middle")
	}
	for i := range s.Runs {
		take(i, "")
	}
	return out
}

func newRunView(i int, why string, r *measure.Report, series bool) runView {
	d := newRun(r)
	v := runView{Heading: "What passed", Open: !series || why != ""}
	if series {
		v.Heading = fmt.Sprintf("Run %d: %s", i+1, result(r.Clients[r.Client]))
		if why != "" {
			v.Heading += " (" + why + ")"
		}
	}
	if r.Void {
		v.Void = r.VoidReason
	}
	for j, width := range []float64{wide, narrow} {
		v.Pictures = append(v.Pictures, d.timeline(fmt.Sprintf("run%dt%d", i, j), width))
		if p, ok := d.stale(fmt.Sprintf("run%ds%d", i, j), width); ok {
			v.Stale = append(v.Stale, p)
		}
	}
	for j, s := range d.sites {
		v.Legend = append(v.Legend, pair{string(s), fmt.Sprintf("s%d", min(j, 3)+1)})
	}
	if len(d.sites) == 0 {
		v.Legend = append(v.Legend, pair{"answered", "s0"})
	}
	v.Legend = append(v.Legend, pair{"failed", "failed"})
	if len(d.names) > 0 {
		v.Legend = append(v.Legend, pair{"no answer, asked directly: as it should be of a passive site", "closed"})
	}
	v.Tables = d.tables()
	for _, a := range []*measure.Action{r.Inject, r.Restore} {
		if a != nil {
			v.Outputs = append(v.Outputs, pair{command(a), strings.TrimSpace(a.Output)})
		}
	}
	return v
}

// command is a command and what became of it.
func command(a *measure.Action) string {
	text := fmt.Sprintf("%s (%s", a.Command, span(time.Duration(a.Took)))
	if a.Problem != "" {
		text += ", " + a.Problem
	}
	return text + ")"
}
