package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// RunResult is what one run showed. The figures are those of users who look
// the name up for every request (rtotest's client fresh), but WrongSite and
// DualActive are of all clients and probes together.
type RunResult struct {
	Scheme   string   `json:"scheme"`
	Disaster Disaster `json:"disaster"`
	// RTO is the downtime that users saw, zero when they saw none; null when
	// it had not ended when the run did. Phases add up to it, and are null
	// with it; they are all zero when nothing moved.
	RTO    *measure.Millis `json:"rto_ms"`
	Phases *Phases         `json:"phases_ms"`
	// Epoch is the service's at the end.
	Epoch      draas.Epoch    `json:"epoch"`
	Sent       int            `json:"sent"`
	Failed     int            `json:"failed"`
	WrongSite  int            `json:"wrong_site"`     // answers of a site that had been succeeded
	DualActive measure.Millis `json:"dual_active_ms"` // two sites were proved active
	FailedOver bool           `json:"failed_over"`
	// CutObserved is how long one of the sites did not see the other in
	// DisasterCut; zero in the others.
	CutObserved measure.Millis `json:"cut_observed_ms"`
	// Of schemes frontend and hybrid: requests that the frontends that live
	// held, and those that they sent again; and those that a hybrid's led on to
	// the other site than their own.
	Held      int64 `json:"held"`
	Replayed  int64 `json:"replayed"`
	Forwarded int64 `json:"forwarded,omitempty"`
	// LongestStall is the longest that a user waited for an answer, of all
	// kinds of client.
	LongestStall measure.Millis `json:"longest_stall_ms"`

	measured bool // rtotest has reported
	void     string
	broken   string // the users got lasting service from a wrong site
	move     *failover.Move
	later    []measure.Outage // after the first
	stalls   stalls
	others   map[measure.Kind]*measure.Outcome
	fault    time.Time
	last     map[draas.SiteID]time.Time // each site's last answer, asked directly
}

// take takes over what rtotest reports.
func (r *RunResult) take(p *measure.Report) {
	r.measured = true
	r.Sent, r.Failed = p.Sent, p.Failed
	r.WrongSite, r.DualActive = p.WrongSite, p.DualActive
	r.others, r.LongestStall = p.Clients, stall(p)
	if p.Void {
		r.void = p.VoidReason
	}
	if p.Fault != nil {
		r.fault = *p.Fault
	}
	r.last = make(map[draas.SiteID]time.Time)
	for site, c := range p.Sites {
		for _, s := range c.Served {
			if s.Last.After(r.last[site]) {
				r.last[site] = s.Last
			}
		}
	}
	r.downtime(p.Outages)
}

// downtime works out the RTO from the first outage. Later ones are told beside
// it: a second outage is another one to the users.
func (r *RunResult) downtime(outages []measure.Outage) {
	if len(outages) == 0 {
		r.RTO, r.Phases = new(measure.Millis), &Phases{}
		return
	}
	first, last := outages[0], outages[len(outages)-1]
	if !last.Recovered {
		return
	}
	right := dr
	if !r.Disaster.moves() {
		right = primary
	}
	if last.Site != right.Site() {
		r.broken = fmt.Sprintf("service came back from %q, not from %s", last.Site, right)
	}
	r.later = outages[1:]
	r.RTO, r.Phases = new(measure.Millis), &Phases{}
	*r.RTO = measure.Millis(first.To.Sub(first.From))
	if r.move != nil {
		*r.Phases = phasesOf(first.From, first.To, r.move.Times)
	}
}

// Check judges the run: nil when it proved what it had to.
func (r *RunResult) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !r.measured {
		return errors.New("nothing was measured")
	}
	if r.void != "" {
		fail("void: %s", r.void)
	}
	if r.DualActive > 0 {
		fail("two sites were active for %v", r.DualActive)
	}
	if r.WrongSite > 0 {
		fail("%d answers came from a site that had been succeeded", r.WrongSite)
	}
	if r.RTO == nil {
		fail("recovery missed: the users had no lasting service again")
	}
	if r.broken != "" {
		fail("%s", r.broken)
	}
	for kind, o := range r.others {
		if r.masked() && o.Failed > 0 {
			fail("%d requests of client %s failed: the frontend holds them, or sends them again", o.Failed, kind)
		}
	}
	if r.Disaster.moves() {
		if !r.FailedOver {
			fail("the service did not move")
		}
		return errors.Join(errs...)
	}
	if r.FailedOver {
		fail("the service moved: epoch %d", r.Epoch)
	}
	if r.Disaster == DisasterEntry {
		return errors.Join(errs...)
	}
	if r.Failed > 0 {
		fail("%d requests failed", r.Failed)
	}
	if r.CutObserved == 0 {
		fail("no member noticed the cut: it proves nothing")
	}
	return errors.Join(errs...)
}

// masked reports whether a frontend that users reach outlives the disaster:
// then none of their requests may fail.
func (r *RunResult) masked() bool {
	switch r.Disaster {
	case DisasterSite, DisasterSilent, DisasterEntry:
		return r.Scheme == schemeFrontend
	}
	return r.Scheme != schemeDNS
}

// remarks writes what the table has no column for.
func (r *RunResult) remarks(out io.Writer) {
	for _, kind := range slices.Sorted(maps.Keys(r.others)) {
		if o := r.others[kind]; kind != measure.Fresh {
			fmt.Fprintf(out, "  client %s: %d of %d failed, downtime %v\n", kind, o.Failed, o.Sent, o.Downtime)
		}
	}
	switch r.Scheme {
	case schemeFrontend:
		fmt.Fprintf(out, "  the frontend held %d requests and sent %d again; the longest wait of a user was %s ms\n", r.Held, r.Replayed, ms(r.LongestStall))
	case schemeHybrid:
		fmt.Fprintf(out, "  the frontends that live held %d requests, sent %d again, and led %d on to the other site; the longest wait of a user was %s ms\n",
			r.Held, r.Replayed, r.Forwarded, ms(r.LongestStall))
	}
	if at, known := r.last[primary.Site()]; known && r.Disaster.moves() && !r.fault.IsZero() {
		fmt.Fprintf(out, "  last answer of %s, asked directly: %+.3f s\n", primary, at.Sub(r.fault).Seconds())
	}
	for _, o := range r.later {
		fmt.Fprintf(out, "  the users met another outage of %v, %+.3f s\n", o.Length, o.From.Sub(r.fault).Seconds())
	}
	if r.stalls.Count > 0 {
		fmt.Fprintf(out, "  the machine stalled %d times, %v at the longest\n", r.stalls.Count, r.stalls.Longest.Round(time.Millisecond))
	}
}

// writeFile writes the result as JSON.
func (r *Result) writeFile(path string) error {
	out := *r
	if out.Runs == nil {
		out.Runs = []RunResult{}
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
