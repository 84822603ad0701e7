package demo

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// target is what a disaster's RTO should be with the fast profile; zero means
// that nothing is asked.
type target struct {
	disaster    Disaster
	median, max time.Duration
}

// targets are those of the project's first issue, section Speed.
func targets() []target {
	return []target{
		{disaster: DisasterService, median: 400 * time.Millisecond},
		{disaster: DisasterSite, median: 2500 * time.Millisecond, max: 4 * time.Second},
		{disaster: DisasterSilent, median: 2500 * time.Millisecond, max: 4 * time.Second},
	}
}

// writeBench sets the figures beside the targets. planned is how many runs
// there should be: one that could not be measured leaves no figure, and is
// told.
func writeBench(out io.Writer, runs []RunResult, planned int) {
	rows := [][]string{{"disaster", "met", "runs", "median", "target", "p90", "max", "target", "stalls", "longest stall"}}
	for _, t := range targets() {
		var taken []time.Duration
		var all stalls
		n := 0
		for i := range runs {
			run := &runs[i]
			if run.Disaster != t.disaster {
				continue
			}
			n++
			all.Count += run.stalls.Count
			all.Longest = max(all.Longest, run.stalls.Longest)
			if run.RTO != nil {
				taken = append(taken, time.Duration(*run.RTO))
			}
		}
		if len(taken) == 0 {
			continue
		}
		median, most := rto.Percentile(taken, 50), slices.Max(taken)
		met := "yes"
		if median > t.median || t.max > 0 && most > t.max || len(taken) < n {
			met = "no"
		}
		row := []string{string(t.disaster), met, strconv.Itoa(n), duration(median), duration(t.median),
			duration(rto.Percentile(taken, 90)), duration(most), "", strconv.Itoa(all.Count), duration(all.Longest)}
		if t.max > 0 {
			row[7] = duration(t.max)
		}
		rows = append(rows, row)
	}
	writeRows(out, rows, 2)
	fmt.Fprintf(out, "users' RTO in ms, profile fast, lease 2 s; stalls: times when this machine let nobody run for more than %v\n", stallLate)
	if len(runs) < planned {
		fmt.Fprintf(out, "%d of %d runs were not measured\n", planned-len(runs), planned)
	}
}

func duration(d time.Duration) string { return ms(measure.Millis(d)) }
