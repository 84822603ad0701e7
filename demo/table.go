package demo

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// writeTable writes a row per run, and below them the median and the maximum
// when there are several of the same disaster.
func (r *Result) writeTable(out io.Writer) {
	rows := [][]string{slices.Concat([]string{"disaster", "scheme", "RTO"}, phaseNames(),
		[]string{"epoch", "sent", "failed", "wrong-site", "dual-active"})}
	for i := range r.Runs {
		rows = append(rows, r.Runs[i].row())
	}
	if r.alike() {
		rows = append(rows, r.summary("median", func(v []time.Duration) time.Duration { return rto.Percentile(v, 50) }),
			r.summary("max", slices.Max[[]time.Duration]))
	}
	writeRows(out, rows, 2)
	fmt.Fprintln(out, "times in ms; phases add up to the RTO, which is the users': first failed to first lasting good answer")
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Disaster.moves() {
			continue
		}
		if run.Disaster == DisasterEntry {
			fmt.Fprintf(out, "%s: the name leads to the frontend at %s, which leads on to %s: the service has not moved\n", run.Disaster, dr, primary)
			continue
		}
		result := "nothing moved"
		if run.FailedOver {
			result = "the service moved, which it must not"
		}
		fmt.Fprintf(out, "%s: the sites did not see each other for %s ms: %s\n", run.Disaster, ms(run.CutObserved), result)
	}
}

// alike reports whether there are several runs, all of one disaster.
func (r *Result) alike() bool {
	return len(r.Runs) > 1 && !slices.ContainsFunc(r.Runs, func(run RunResult) bool { return run.Disaster != r.Runs[0].Disaster })
}

const notApplicable = "n/a"

func (r *RunResult) row() []string {
	row := []string{string(r.Disaster), r.Scheme}
	switch {
	case r.RTO == nil:
		row = append(row, "none", notApplicable, notApplicable, notApplicable, notApplicable, notApplicable)
	case !r.FailedOver:
		row = append(row, ms(*r.RTO), notApplicable, notApplicable, notApplicable, notApplicable, notApplicable)
	default:
		row = append(row, ms(*r.RTO))
		for _, p := range r.Phases.list() {
			row = append(row, ms(p))
		}
	}
	return append(row, strconv.FormatUint(uint64(r.Epoch), 10), strconv.Itoa(r.Sent), strconv.Itoa(r.Failed),
		strconv.Itoa(r.WrongSite), ms(r.DualActive))
}

// summary is a row of one figure of every column of times. Each column is
// summed up by itself: its phases need not add up.
func (r *Result) summary(name string, of func([]time.Duration) time.Duration) []string {
	var columns [6][]time.Duration
	var dual []time.Duration
	failed, wrong := 0, 0
	for i := range r.Runs {
		run := &r.Runs[i]
		dual = append(dual, time.Duration(run.DualActive))
		failed, wrong = max(failed, run.Failed), max(wrong, run.WrongSite)
		if run.RTO == nil {
			continue
		}
		columns[0] = append(columns[0], time.Duration(*run.RTO))
		if !run.FailedOver {
			continue
		}
		for k, p := range run.Phases.list() {
			columns[k+1] = append(columns[k+1], time.Duration(p))
		}
	}
	row := []string{name, ""}
	for _, c := range columns {
		if len(c) == 0 {
			row = append(row, notApplicable)
			continue
		}
		row = append(row, ms(measure.Millis(of(c))))
	}
	if name != "max" {
		return append(row, "", "", "", "", ms(measure.Millis(of(dual))))
	}
	return append(row, "", "", strconv.Itoa(failed), strconv.Itoa(wrong), ms(measure.Millis(of(dual))))
}

// ms is a time in milliseconds, with one decimal below ten.
func ms(m measure.Millis) string {
	v := float64(time.Duration(m)) / float64(time.Millisecond)
	if v != 0 && v < 9.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// writeRows aligns the first columns to the left and the rest to the right.
func writeRows(out io.Writer, rows [][]string, left int) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			if i < left {
				fmt.Fprintf(&b, "%-*s", width[i], cell)
			} else {
				fmt.Fprintf(&b, "%*s", width[i], cell)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(b.String(), " "))
	}
}
