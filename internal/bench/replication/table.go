package replication

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/draasd/draas/internal/bench/rounds"
)

// Target is what the project aims at, and what came out.
type Target struct {
	Name  string       `json:"name"`
	Value rounds.Range `json:"value"`
	Bound float64      `json:"bound"`
	Least bool         `json:"least"` // the bound is the least, not the most
	Unit  string       `json:"unit,omitempty"`
	Met   bool         `json:"met"`
}

const (
	atLeast = true
	atMost  = false
)

func (b *bench) target(name string, value rounds.Range, least bool, bound float64, unit string) {
	met := value.Median <= bound
	if least {
		met = value.Median >= bound
	}
	b.r.Targets = append(b.r.Targets, Target{name, value, bound, least, unit, met})
}

func (b *bench) note(format string, args ...any) {
	b.r.Notes = append(b.r.Notes, fmt.Sprintf(format, args...))
}

// write writes the tables as docs/results.md has them.
func (r *Result) write(out io.Writer) {
	if len(r.Lines) > 0 {
		fmt.Fprintf(out, "\n| part | what | s (range) | CPU s | most memory, MiB | requests | MB/s |\n|---|---|---|---|---|---|---|\n")
	}
	for _, l := range r.Lines {
		requests, rate := "-", "-"
		if l.Requests > 0 {
			requests = strconv.FormatFloat(l.Requests, 'f', 0, 64)
		}
		if l.Bytes > 0 && l.Seconds.Median > 0 {
			rate = strconv.FormatFloat(float64(l.Bytes)/l.Seconds.Median/1e6, 'f', 0, 64)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %.2f | %.0f | %s | %s |\n", l.Part, l.What, spell(l.Seconds), l.CPU.Median, l.MiB.Max, requests, rate)
	}
	if len(r.Targets) > 0 {
		fmt.Fprintf(out, "\n| target | is (range) | aim | met |\n|---|---|---|---|\n")
	}
	for _, t := range r.Targets {
		aim, met := "at most ", "yes"
		if t.Least {
			aim = "at least "
		}
		if !t.Met {
			met = "**no**"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", t.Name, spell(t.Value), strings.TrimSpace(fmt.Sprintf("%s%g %s", aim, t.Bound, t.Unit)), met)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(out)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "- %s\n", n)
	}
}

func spell(r rounds.Range) string {
	if r.Min == r.Max {
		return number(r.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(r.Median), number(r.Min), number(r.Max))
}

// number with three figures.
func number(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}
