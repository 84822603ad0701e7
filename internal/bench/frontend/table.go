package frontend

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/draasd/draas/internal/bench/rounds"
)

// Target is what the project aims at, and what came out.
type Target struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Most  float64 `json:"most"`
	Unit  string  `json:"unit,omitempty"`
	Met   bool    `json:"met"`
}

// targets are those of the frontend scheme's issue, as far as they were
// measured.
func targets(r *Result) []Target {
	var out []Target
	add := func(name string, value, most float64, unit string) {
		out = append(out, Target{name, value, most, unit, value <= most})
	}
	for _, l := range r.Throughput {
		if l.Load != "keep-alive" || l.CPU == nil {
			continue
		}
		switch l.Proxy {
		case draasTCP:
			add("processor time of a keep-alive request, tcp, to HAProxy tcp", l.CPUToHAProxy.Median, 1, "")
		case draasHTTP:
			add("processor time of a keep-alive request, http, to nginx", l.CPUToNginx.Median, 1, "")
		}
	}
	for _, l := range r.Idle {
		if l.Proxy == draasTCP || l.Proxy == draasHTTP {
			add("idle connection, "+l.Proxy, l.PerKiB, 20, "KiB")
		}
	}
	for _, l := range r.Downtime {
		if l.Proxy != draasMoves {
			continue
		}
		add(l.Event+", failed requests", float64(l.Failed), 0, "")
		switch l.Event {
		case eventKilled:
			add(l.Event+", longest stall p50", l.Stalls.P50, 150, "ms")
			add(l.Event+", longest stall p99", l.Stalls.P99, 600, "ms")
		case eventHangs:
			add(l.Event+", longest stall p50", l.Stalls.P50, 500, "ms")
		case eventPlanned:
			add(l.Event+", longest stall p99", l.Stalls.P99, 100, "ms")
		}
	}
	return out
}

// write writes the tables.
func (r *Result) write(out io.Writer) {
	table := func(title, header string, rows func(w io.Writer)) {
		fmt.Fprintf(out, "\n%s\n", title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, header)
		rows(w)
		_ = w.Flush() // out has seen the error
	}
	if len(r.Throughput) > 0 {
		table("Throughput: median (least to most) of the rounds; ratios round by round, their median",
			"load\tproxy\trequests/s\tto direct\tCPU us/request\tto HAProxy tcp\tto nginx", func(w io.Writer) {
				for _, l := range r.Throughput {
					fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t", l.Load, l.Proxy, spell(l.Rate, 0), l.ToDirect.Median)
					if l.CPU == nil {
						fmt.Fprintln(w, "-\t-\t-")
						continue
					}
					fmt.Fprintf(w, "%s\t%.2f\t%.2f\n", spell(*l.CPU, 1), l.CPUToHAProxy.Median, l.CPUToNginx.Median)
				}
			})
	}
	if len(r.Idle) > 0 {
		table("Idle connections", "proxy\tconnections\tKiB before\tKiB held\tKiB/connection\tCPU", func(w io.Writer) {
			for _, l := range r.Idle {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.1f\t%.1f %%\n", l.Proxy, l.Connections, l.BeforeKiB, l.AfterKiB, l.PerKiB, l.CPUPercent)
			}
		})
	}
	if len(r.Downtime) > 0 {
		table("Downtime: the longest wait of each run, ms", "event\tproxy\truns\trequests/s\tfailed\tof\tp50\tp99\tmax\tbefore, p50\tp99 of requests, p50\theld\treplayed", func(w io.Writer) {
			for _, l := range r.Downtime {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", l.Event, l.Proxy, l.Runs, l.Rate, l.Failed, l.Sent,
					whole(l.Stalls.P50), whole(l.Stalls.P99), whole(l.Stalls.Max), whole(l.Before.P50), whole(l.Requests.P50), l.Held, l.Replayed)
			}
		})
		table("Where the time of our moves went: from the event until, ms, p50 (max)", "event\tsuspected\tdecided\treleased\tactive\tfirst answer", func(w io.Writer) {
			for _, l := range r.Downtime {
				if s := l.Steps; s != nil {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Event, brief(s.Suspected), brief(s.Decided), brief(s.Released), brief(s.Activated), brief(s.Answered))
				}
			}
		})
		for _, l := range r.Downtime {
			if l.Failure != "" {
				fmt.Fprintf(out, "%s, %s: a failure was: %s\n", l.Event, l.Proxy, l.Failure)
			}
		}
	}
	if len(r.Targets) > 0 {
		table("Targets", "what\tis\tat most\tmet", func(w io.Writer) {
			for _, t := range r.Targets {
				met := "yes"
				if !t.Met {
					met = "NO"
				}
				fmt.Fprintf(w, "%s\t%.2f %s\t%g %s\t%s\n", t.Name, t.Value, t.Unit, t.Most, t.Unit, met)
			}
		})
	}
}

func spell(r rounds.Range, digits int) string {
	f := func(x float64) string { return strconv.FormatFloat(x, 'f', digits, 64) }
	return fmt.Sprintf("%s (%s to %s)", f(r.Median), f(r.Min), f(r.Max))
}

func whole(ms float64) string { return strconv.FormatFloat(ms, 'f', 0, 64) }

func brief(s Spread) string { return fmt.Sprintf("%s (%s)", whole(s.P50), whole(s.Max)) }
