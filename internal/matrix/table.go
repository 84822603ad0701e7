package matrix

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The lines between which the tables stand in docs/results.md.
const (
	tableBegin = "<!-- matrix: written by make matrix from here -->"
	tableEnd   = "<!-- matrix: to here -->"
)

// WriteTable writes the tables into a file, between the lines that mark their
// place.
func WriteTable(path string, results []Result) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	next, err := insert(text, []byte(table(results)))
	if err != nil {
		return fmt.Errorf("write table: %s: %w", path, err)
	}
	if err := os.WriteFile(path, next, 0o644); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

var errMarks = errors.New("the lines that mark the place of the tables are not there, once each and in order")

// insert puts a text between the marks, in the place of what is there.
func insert(file, text []byte) ([]byte, error) {
	from, to := bytes.Index(file, []byte(tableBegin)), bytes.Index(file, []byte(tableEnd))
	if from < 0 || to < from || bytes.Count(file, []byte(tableBegin)) > 1 || bytes.Count(file, []byte(tableEnd)) > 1 {
		return nil, errMarks
	}
	from += len(tableBegin)
	return bytes.Join([][]byte{file[:from], file[to:]}, append([]byte("\n\n"), append(text, '\n')...)), nil
}

// table is the tables: of each disaster a line for every column.
func table(results []Result) string {
	var b strings.Builder
	first, last := span(results)
	fmt.Fprintf(&b, "%d runs, %s to %s. Of each kind of client: median RTO (greatest), requests that failed in all\n"+
		"runs together, longest that a request waited that was answered; ms. Upset are runs in which the machine let\n"+
		"nobody run for more than %v: they are in no figure of time.\n",
		len(results), first.Format("2 Jan 2006 15:04"), last.Format("2 Jan 15:04 MST"), upsetAfter)
	for _, cell := range cellNames(results) {
		copies := copyColumns(results, cell)
		fmt.Fprintf(&b, "\n### %s%s\n\n| | N |", strings.ToUpper(cell[:1]), cell[1:])
		for _, k := range kinds() {
			b.WriteString(" " + k + " |")
		}
		b.WriteString(" wrong-site | dual-active | claimed twice | unclaimed | lost writes | allowed |")
		for _, more := range copies {
			b.WriteString(" " + more.head + " |")
		}
		b.WriteString("\n|---|---|" + strings.Repeat("---|", len(kinds())+6+len(copies)) + "\n")
		for _, c := range columns() {
			if s, ok := sum(results, c.Name, cell); ok {
				b.WriteString(s.line(c))
				for _, more := range copies {
					b.WriteString(" " + more.text(s) + " |")
				}
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

// copyColumn is a column about the copy of the cloud.
type copyColumn struct {
	head string
	text func(summary) string
}

// copyColumns are those that a disaster's table has besides.
func copyColumns(results []Result, cell string) []copyColumn {
	median := func(format string, f figure) string { return fmt.Sprintf(format+" ("+format+")", f.Median, f.Max) }
	var told, warned bool
	for _, c := range columns() {
		s, _ := sum(results, c.Name, cell)
		told, warned = told || s.Losses.N > 0, warned || s.Warned.Max > 0
	}
	var all []copyColumn
	if told {
		all = []copyColumn{
			{"expected loss, s", func(s summary) string { return median("%.1f", s.Losses.ToldS) }},
			{"truth, s", func(s summary) string { return median("%.1f", s.Losses.TrueS) }},
			{"expected objects, at least", func(s summary) string { return median("%.0f", s.Losses.ToldN) }},
			{"objects lost", func(s summary) string { return median("%.0f", s.Losses.TrueN) }},
		}
	}
	if warned {
		all = append(all, copyColumn{"warned of, s", func(s summary) string { return median("%.1f", s.Warned) }})
	}
	return all
}

func (s summary) line(c column) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %d", c.Name, s.N)
	for _, more := range []struct {
		n    int
		what string
	}{{s.Upset, "upset"}, {s.Void, "void"}} {
		if more.n > 0 {
			fmt.Fprintf(&b, ", and %d %s", more.n, more.what)
		}
	}
	for _, kind := range kinds() {
		b.WriteString(" | ")
		k, ok := s.Kinds[kind]
		if !ok {
			b.WriteString("-")
			continue
		}
		fmt.Fprintf(&b, "%.0f (%.0f), %d, %.0f", k.RTO.Median, k.RTO.Max, k.Failed, k.StallMS)
		if k.Lasting > 0 {
			fmt.Fprintf(&b, "; **not served again: %d**", k.Lasting)
		}
	}
	lost := "not known"
	if s.LostKnown > 0 {
		lost = fmt.Sprintf("%.0f (%.0f)", s.Lost.Median, s.Lost.Max)
	}
	allowed := "-"
	if s.BoundMS > 0 {
		allowed = fmt.Sprintf("%.0f", s.BoundMS)
	}
	wrong, dual, claims, unclaimed := fmt.Sprint(s.WrongSite), fmt.Sprintf("%.0f ms", s.DualMS), "-", "-"
	if c.Pair {
		claims, unclaimed = fmt.Sprintf("%.0f ms", s.ClaimsMS), fmt.Sprintf("%.0f (%.0f) ms", s.Unclaimed.Median, s.Unclaimed.Max)
	}
	if c.Peer != nil {
		wrong = "-" // they know no order of sites
	}
	fmt.Fprintf(&b, " | %s | %s | %s | %s | %s | %s |", wrong, dual, claims, unclaimed, lost, allowed)
	return b.String()
}
