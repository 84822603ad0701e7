package matrix

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"strings"
)

//go:embed page.html
var pageSource string

// WritePage draws the page.
func WritePage(path string, results []Result) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw page: %w", err)
	}
	b := bufio.NewWriter(f)
	err = draw(b, results)
	if err = errors.Join(err, b.Flush(), f.Close()); err != nil {
		return fmt.Errorf("draw page: %w", err)
	}
	return nil
}

// pageView is all that the template shows.
type pageView struct {
	Under  string
	Kinds  []string
	Grids  []grid
	Legend []swatch
}

// grid is a picture: a line for each disaster, a group for each column.
type grid struct {
	Title   string
	Columns []string
	Rows    []gridRow
}

type gridRow struct {
	Cell   string
	Groups []group
}

// group is a column's cell: a box for each kind of client.
type group struct {
	Boxes []box
	Note  string // below them
	Bad   bool
}

type box struct {
	Text  string
	Class string // of its colour
	Title string // told when it is pointed at
}

type swatch struct{ Class, Text string }

// shades are the colours, by what users felt at most, in ms.
var shades = []struct {
	most float64
	text string
}{{100, "0.1 s"}, {500, "0.5 s"}, {1000, "1 s"}, {2500, "2.5 s"}, {5000, "5 s"}}

func shade(ms float64) string {
	for i, s := range shades {
		if ms <= s.most {
			return fmt.Sprintf("s%d", i)
		}
	}
	return fmt.Sprintf("s%d", len(shades))
}

func draw(w io.Writer, results []Result) error {
	t, err := template.New("matrix").Parse(pageSource)
	if err != nil {
		return fmt.Errorf("parse template: %w", err)
	}
	first, last := span(results)
	v := pageView{Kinds: kinds(), Under: fmt.Sprintf("%d runs, %s to %s", len(results), first.Format("2 January 2006 15:04"), last.Format("2 January 15:04 MST"))}
	for i, s := range shades {
		v.Legend = append(v.Legend, swatch{fmt.Sprintf("s%d", i), "up to " + s.text})
	}
	v.Legend = append(v.Legend, swatch{fmt.Sprintf("s%d", len(shades)), "longer"})
	for _, g := range []struct {
		title string
		has   func(column) bool
	}{
		{"Lease of 2 s", func(c column) bool { return c.Peer == nil && !c.variant() }},
		{fmt.Sprintf("Lease of %v", metroLease), func(c column) bool { return c.Metro }},
		{"The zone on a BIND outside, changed by updates", func(c column) bool { return c.BIND }},
		{"Others, which decide by what they see themselves, and fence nothing", func(c column) bool { return c.Peer != nil }},
	} {
		if drawn := newGrid(g.title, g.has, results); len(drawn.Rows) > 0 {
			v.Grids = append(v.Grids, drawn)
		}
	}
	return t.Execute(w, v)
}

func newGrid(title string, has func(column) bool, results []Result) grid {
	g := grid{Title: title}
	var those []column
	for _, c := range columns() {
		if has(c) {
			those = append(those, c)
			g.Columns = append(g.Columns, c.Name)
		}
	}
	for _, cell := range cellNames(results) {
		row, any := gridRow{Cell: cell}, false
		for _, c := range those {
			s, ok := sum(results, c.Name, cell)
			any = any || ok
			row.Groups = append(row.Groups, newGroup(s, ok))
		}
		if any {
			g.Rows = append(g.Rows, row)
		}
	}
	return g
}

func newGroup(s summary, ok bool) group {
	var g group
	for _, kind := range kinds() {
		k, known := s.Kinds[kind]
		if !ok || !known {
			g.Boxes = append(g.Boxes, box{Text: "–", Class: "none"})
			continue
		}
		text := seconds(k.Felt.Median)
		if 2*k.Lasting > k.N {
			text = ">" + text
		}
		g.Boxes = append(g.Boxes, box{Text: text, Class: shade(k.Felt.Median), Title: fmt.Sprintf(
			"%s: N %d, RTO %.0f ms (most %.0f), longest wait %.0f ms, %d of %d requests failed, not served again in %d runs",
			kind, k.N, k.RTO.Median, k.RTO.Max, k.StallMS, k.Failed, k.Sent, k.Lasting)})
	}
	if !ok {
		return g
	}
	notes := []string{fmt.Sprintf("N %d", s.N)}
	worst := 0.0
	for _, k := range s.Kinds {
		worst = max(worst, k.Felt.Max)
	}
	if s.N > 0 {
		notes = append(notes, "most "+seconds(worst)+" s")
	}
	if s.Upset > 0 {
		notes = append(notes, fmt.Sprintf("%d upset", s.Upset))
	}
	if s.LostKnown > 0 && s.Lost.Max > 0 {
		notes = append(notes, fmt.Sprintf("lost %.0f", s.Lost.Median))
	}
	if l := s.Losses; l.N > 0 {
		notes = append(notes, fmt.Sprintf("cloud: told %.1f s, true %.1f s", l.ToldS.Median, l.TrueS.Median))
	}
	if s.Warned.Max > 0 {
		notes = append(notes, fmt.Sprintf("warned of after %.0f s", s.Warned.Median))
	}
	if s.DualMS > 0 {
		notes = append(notes, fmt.Sprintf("two sites served for %.0f ms", s.DualMS))
	}
	if s.ClaimsMS > 0 {
		notes = append(notes, fmt.Sprintf("address held twice for %s s", seconds(s.ClaimsMS)))
	}
	if s.WrongSite > 0 {
		notes = append(notes, fmt.Sprintf("%d from a wrong site", s.WrongSite))
	}
	g.Note, g.Bad = strings.Join(notes, " · "), s.DualMS > 0 || s.WrongSite > 0 || s.ClaimsMS > 0
	return g
}

// seconds writes two digits or so of a time in ms.
func seconds(ms float64) string {
	switch {
	case ms < 995:
		return fmt.Sprintf("%.2f", ms/1000)
	case ms < 9950:
		return fmt.Sprintf("%.1f", ms/1000)
	}
	return fmt.Sprintf("%.0f", ms/1000)
}
