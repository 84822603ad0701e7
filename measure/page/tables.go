package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// tables are the figures of a run: the pictures' too, in numbers.
func (v *run) tables() []table {
	all := []table{v.partTable(), v.clientTable(), v.siteTable(), v.turnTable(), v.stepTable(), v.lossTable(), writeTable(v.Writes)}
	var out []table
	for _, t := range all {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (v *run) partTable() table {
	o := v.Clients[v.Client]
	t := table{Caption: fmt.Sprintf("What the downtime of client %s was spent on", v.Client), Head: []string{"part", "length", "share", "what passes"}}
	for i, p := range o.Parts {
		share := ""
		if o.Downtime > 0 {
			share = fmt.Sprintf("%.0f %%", 100*float64(p.Length)/float64(o.Downtime))
		}
		t.Rows = append(t.Rows, []string{fmt.Sprintf("%d %s", i+1, p.Name), span(time.Duration(p.Length)), share, p.Meaning()})
	}
	return t
}

func (v *run) clientTable() table {
	t := table{Caption: "What each kind of client saw", Head: []string{"client", "downtime", "from", "to", "requests", "failed", "kinds of failure", "largest gap", "p50", "p99"}}
	for _, k := range v.kinds {
		o := v.Clients[k]
		down, from, to := "none", "", ""
		if o.FirstFailure != nil {
			down, from, to = span(time.Duration(o.Downtime)), span(o.FirstFailure.Sub(v.zero)), "not over"
			if !o.Recovered {
				down = "> " + down
			}
			if o.FirstGood != nil {
				to = span(o.FirstGood.Sub(v.zero))
			}
		}
		t.Rows = append(t.Rows, []string{string(k), down, from, to, fmt.Sprint(o.Sent), fmt.Sprint(o.Failed), failures(o.Errors),
			span(time.Duration(o.LargestGap)), latency(o.Latency.P50), latency(o.Latency.P99)})
	}
	return t
}

func (v *run) siteTable() table {
	t := table{Caption: "What each site answered when it was asked directly", Head: []string{"site", "requests", "failed", "answered", "p50"}}
	for _, n := range v.names {
		c := v.Sites[n]
		var when []string
		for _, s := range c.Served {
			when = append(when, fmt.Sprintf("%s to %s%s", span(s.First.Sub(v.zero)), span(s.Last.Sub(v.zero)), epoch(s)))
		}
		t.Rows = append(t.Rows, []string{string(n), fmt.Sprint(c.Sent), fmt.Sprint(c.Failed), strings.Join(when, ", "), latency(c.Latency.P50)})
	}
	return t
}

func epoch(s measure.Served) string {
	if s.Epoch == 0 {
		return ""
	}
	return fmt.Sprintf(" (epoch %s)", s.Epoch)
}

func (v *run) turnTable() table {
	t := table{Caption: "What draasd says of the move, on the clock of this measurement", Head: []string{"move", "point", "at", "give or take", "by the clock of"}}
	if v.Daemon == nil {
		return t
	}
	if v.Daemon.Problem != "" {
		t.Rows = append(t.Rows, []string{"not known", clip(v.Daemon.Problem, 300), "", "", ""})
	}
	for _, m := range v.Daemon.Moves {
		for i, turn := range m.Turns {
			name := ""
			if i == 0 {
				name = clip(m.InWords(), 200)
			}
			sure := latency(turn.Error)
			if !turn.Shifted {
				sure = "not known"
			}
			t.Rows = append(t.Rows, []string{name, turn.Name, span(turn.At.Sub(v.zero)), sure, string(turn.By)})
		}
	}
	return t
}

func (v *run) stepTable() table {
	t := table{Caption: "The steps of the move", Head: []string{"step", "outcome", "attempts", "what was observed"}}
	if v.Daemon == nil {
		return t
	}
	for _, m := range v.Daemon.Moves {
		for _, s := range m.Steps {
			t.Rows = append(t.Rows, []string{s.Name, s.Outcome, fmt.Sprint(s.Attempts), clip(s.Evidence, 200)})
		}
	}
	return t
}

func (v *run) lossTable() table {
	t := table{Caption: "What draasd expects to be lost of the old site's cloud, as its history tells: nothing here has measured it",
		Head: []string{"move", "behind", "objects, at least", "told by", "in words"}}
	if v.Daemon == nil {
		return t
	}
	for _, m := range v.Daemon.Moves {
		l := m.Loss
		if l == nil {
			continue
		}
		behind, objects := "not known", ""
		if l.Known {
			behind, objects = span(time.Duration(l.Behind)), fmt.Sprint(l.Objects)
		}
		t.Rows = append(t.Rows, []string{clip(m.InWords(), 200), behind, objects, string(l.By), clip(l.Text, 200)})
	}
	return t
}

func writeTable(w *measure.Writes) table {
	t := table{Caption: "Writes", Head: []string{"what", "number"}}
	if w == nil {
		return t
	}
	t.Rows = [][]string{{"sent", fmt.Sprint(w.Sent)}, {"acknowledged", fmt.Sprint(w.Acked)}}
	if !w.Known {
		t.Rows = append(t.Rows, []string{"stored", "not known: " + clip(w.Unread, 300)})
		return t
	}
	t.Rows = append(t.Rows, []string{"acknowledged and lost", fmt.Sprint(w.Lost)},
		[]string{"RPO: from the last write kept to the last one lost", span(time.Duration(w.RPO))},
		[]string{"at least: from the first one lost", span(time.Duration(w.AtLeast))},
		[]string{"stored without an acknowledgement", fmt.Sprint(w.Unacked)},
		[]string{"stored again", fmt.Sprint(w.Duplicates)}, []string{"stored behind a later one", fmt.Sprint(w.Disordered)},
		[]string{"stored and never sent", fmt.Sprint(w.Foreign)})
	return t
}

func failures(errors map[string]int) string {
	var out []string
	for _, class := range rto.Failures() {
		if n := errors[class.String()]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", class, n))
		}
	}
	return strings.Join(out, ", ")
}

// latency writes a short time.
func latency(m measure.Millis) string {
	return fmt.Sprintf("%.1f"+hard+"ms", float64(m)/float64(time.Millisecond))
}

func quantileTable(s *measure.Series) table {
	t := table{Caption: "Downtime over the runs; each bound holds with 95 %, whatever the distribution",
		Head: []string{"client", "percentile", "downtime", "at least", "at most"}}
	for _, k := range measure.Kinds() {
		c := s.Summary.Clients[k]
		if c == nil {
			continue
		}
		for i, q := range c.Quantiles {
			name := ""
			if i == 0 {
				name = string(k)
			}
			value, upper := shown(q.Value), bound(q.Upper)
			if q.Value == nil {
				value = fmt.Sprintf("needs %d runs", q.Need)
			}
			if q.Upper == nil {
				upper = fmt.Sprintf("needs %d runs", q.NeedUpper)
			}
			t.Rows = append(t.Rows, []string{name, fmt.Sprintf("p%g", q.Percent), value, bound(q.Lower), upper})
		}
	}
	return t
}

func runTable(s *measure.Series) table {
	t := table{Caption: "Every run", Head: []string{"run", "at", "downtime", "ended by", "lost writes", "RPO", "expected loss", "notes"}}
	for i, r := range s.Runs {
		down, by, lost, rpo := result(r.Clients[r.Client]), "", "", ""
		if len(r.Outages) > 0 && r.Recovered {
			by = siteName(r.Outages[0].Site)
		}
		if w := r.Writes; w != nil {
			lost, rpo = "not known", "not known"
			if w.Known {
				lost, rpo = fmt.Sprint(w.Lost), span(time.Duration(w.RPO))
			}
		}
		told := ""
		if l := r.Loss; l != nil {
			told = "not known"
			if l.Known {
				told = span(time.Duration(l.Behind))
			}
		}
		var notes []string
		if r.Void {
			down = "void"
			notes = append(notes, r.VoidReason)
		}
		if r.Restore != nil && r.Restore.Problem != "" {
			notes = append(notes, "restore: "+r.Restore.Problem)
		}
		t.Rows = append(t.Rows, []string{fmt.Sprint(i + 1), r.Started.Format("15:04:05"), strings.TrimPrefix(down, "down for "), by, lost, rpo, told, clip(strings.Join(notes, "; "), 200)})
	}
	return t
}

// how says how it was measured.
func how(s *measure.Series) []pair {
	r := s.Runs[0]
	out := []pair{{"asked", fmt.Sprintf("%s, %g requests a second of each client, %s for each", r.URL, r.Rate, span(time.Duration(r.Timeout)))}}
	if r.Users > 1 {
		out = append(out, pair{"users", fmt.Sprintf("%d of each kind, who take turns", r.Users)})
	}
	out = append(out,
		pair{"downtime", fmt.Sprintf("from when the first failed request was due to the arrival of the first good answer that lasted for %s", span(time.Duration(r.Settle)))},
		pair{"own lateness", fmt.Sprintf("p50 %s, p99 %s, at most %s: nothing here is finer than that", latency(r.LatenessP50), latency(r.LatenessP99), latency(r.LatenessMax))})
	if r.Inject != nil {
		out = append(out, pair{"disaster", r.Inject.Command})
	}
	if r.Restore != nil {
		out = append(out, pair{"made good by", r.Restore.Command})
	}
	tool := s.Tool
	if tool == nil {
		tool = r.Tool
	}
	if tool != nil {
		out = append(out, pair{"version", strings.TrimSpace(tool.Version + ", " + tool.Go)}, pair{"command", strings.Join(tool.Command, " ")})
	}
	return out
}

func clocks(r *measure.Report) table {
	t := table{Caption: "Clocks of the members, against this machine's", Head: []string{"member", "ahead by", "give or take", "asked", "note"}}
	if r.Daemon == nil {
		return t
	}
	for _, c := range r.Daemon.Members {
		row := []string{string(c.Member), "not known", "", fmt.Sprint(c.Samples), clip(c.Problem, 200)}
		if c.Known {
			row[1], row[2] = fmt.Sprintf("%+.1f"+hard+"ms", float64(c.Offset)/float64(time.Millisecond)), latency(c.Error)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
