package rto

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Options are the choices that the arithmetic leaves open.
type Options struct {
	// Fault is the instant of the fault, when Marked.
	Fault  time.Duration
	Marked bool
	// Settle is how long the service must be without failure before an
	// answer counts as the end of an outage.
	Settle time.Duration
	// Join is how far apart two good answers of a site may be for it to
	// count as active in between: 2.5 periods of the schedule.
	Join time.Duration
	// Expect is the order in which sites should be active. It orders answers
	// when no answer carries an epoch, and an outage ends only at its last.
	Expect []Site
}

// Result is what a timeline says.
type Result struct {
	// Void says why the run proves nothing; empty when it counts.
	Void string
	// Clients are the streams that are not Direct, in their order.
	Clients []Client
	// Direct are the probers of single sites, in their order.
	Direct []Client
	// Wrong are the stretches in which any client was given answers of a
	// site that had been succeeded. WrongTime is their length.
	Wrong     []Span
	WrongTime time.Duration
	// Dual are the stretches in which at least two sites were proved
	// active. DualTime is their length.
	Dual     []Span
	DualTime time.Duration
}

// Client is what one stream says.
type Client struct {
	Name    string
	Sent    int
	Failed  int
	Classes [numClasses]int
	// Wrong counts good answers from a site that had been succeeded.
	Wrong int
	// Outages are in order of time; the first is the run's downtime.
	Outages []Outage
	// Gap is the longest stretch without a good answer's arrival, the run's
	// two ends included.
	Gap Span
	// Served says who answered, in order of the first answer.
	Served []Served
}

// Served sums up the good answers of one site at one epoch.
type Served struct {
	Site        Site
	Epoch       draas.Epoch
	Answers     int
	First, Last time.Duration // arrivals
}

// instant is what a span of a single instant counts for in a total: the
// resolution of the report. Without it, proof of two active sites at one
// instant would add up to nothing.
const instant = time.Millisecond

// Analyse works out the result. The samples of each stream must be in the
// order of At.
func Analyse(t *Timeline, o Options) *Result {
	r := &Result{Void: void(t, o)}
	succeeded := succession(t, o)
	var wrong []Span
	for i := range t.Streams {
		s := &t.Streams[i]
		c := sum(s)
		c.Gap = gap(s.Samples, t.End)
		if s.Direct {
			r.Direct = append(r.Direct, c)
			continue
		}
		c.Outages = outages(s.Samples, succeeded, o, t.End)
		var spans []Span
		spans, c.Wrong = succeeded.spans(s.Samples, o.Join)
		wrong = append(wrong, spans...)
		r.Clients = append(r.Clients, c)
	}
	r.Wrong = merge(wrong)
	r.WrongTime = total(r.Wrong)
	r.Dual = dualActive(t, o.Join)
	r.DualTime = total(r.Dual)
	return r
}

// sum counts a stream's answers.
func sum(s *Stream) Client {
	type key struct {
		site  Site
		epoch draas.Epoch
	}
	c := Client{Name: s.Name, Sent: len(s.Samples)}
	index := make(map[key]int)
	for _, a := range s.Samples {
		c.Classes[a.Class]++
		if !a.Good() {
			c.Failed++
			continue
		}
		k := key{a.Site, a.Epoch}
		i, ok := index[k]
		if !ok {
			i = len(c.Served)
			index[k] = i
			c.Served = append(c.Served, Served{Site: a.Site, Epoch: a.Epoch, First: a.Done, Last: a.Done})
		}
		e := &c.Served[i]
		e.Answers++
		e.First, e.Last = min(e.First, a.Done), max(e.Last, a.Done)
	}
	slices.SortStableFunc(c.Served, func(a, b Served) int { return cmp.Compare(a.First, b.First) })
	return c
}

// void says why the run proves nothing. A failure counts as before the fault
// only when it was known before it: a request in flight fails with the fault.
func void(t *Timeline, o Options) string {
	sent := 0
	for i := range t.Streams {
		s := &t.Streams[i]
		if s.Direct {
			continue
		}
		sent += len(s.Samples)
		if reason := voidStream(s, o); reason != "" {
			return reason
		}
	}
	if sent == 0 {
		return "nothing was sent"
	}
	return ""
}

func voidStream(s *Stream, o Options) string {
	if len(s.Samples) == 0 {
		return ""
	}
	good, failed := 0, 0
	for _, a := range s.Samples {
		switch {
		case o.Marked && a.Done >= o.Fault:
		case a.Good():
			good++
		case o.Marked:
			failed++
		case good == 0:
			return fmt.Sprintf("%s: the first failure (at %v, %v) came before any good answer",
				s.Name, a.At.Round(time.Millisecond), a.Class)
		}
	}
	switch {
	case failed > 0:
		return fmt.Sprintf("%s: %d of its requests failed before the fault", s.Name, failed)
	case o.Marked && good == 0:
		return s.Name + ": no good answer before the fault"
	}
	return ""
}

// merge joins spans that touch or overlap; the result is in order.
func merge(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	var out []Span
	for _, s := range spans {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

// total is the length of merged spans, each counted for at least an instant.
func total(spans []Span) time.Duration {
	var sum time.Duration
	for _, s := range spans {
		sum += max(s.Len(), instant)
	}
	return sum
}
