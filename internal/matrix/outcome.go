package matrix

import (
	"cmp"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/rto"
)

// Result is what one run showed: a line of the file of results.
type Result struct {
	Column string    `json:"column"`
	Cell   string    `json:"cell"`
	At     time.Time `json:"at"` // of the disaster
	// Took is how long the run was, and Home how long the way back after it,
	// in seconds.
	Took float64 `json:"took_s"`
	Home float64 `json:"home_s"`

	Kinds map[string]Seen `json:"kinds"` // by kind of client
	// WrongSite counts answers, to users, of a site that had been succeeded.
	// DualMS is the time in which both sites were proved to serve.
	WrongSite int     `json:"wrong_site"`
	DualMS    float64 `json:"dual_active_ms"`
	// ClaimsMS is the time in which both of a pair answered for its address.
	ClaimsMS float64 `json:"double_claim_ms,omitempty"`
	// UnclaimedMS is the longest time after the disaster in which none did.
	UnclaimedMS float64 `json:"unclaimed_ms,omitempty"`
	// Acked counts the writes that were acknowledged, and Lost those of them
	// that could not be read back from who served at the end; -1: nothing
	// could.
	Acked int `json:"acked"`
	Lost  int `json:"lost"`

	From  string `json:"from"` // where the service was active before
	To    string `json:"to"`   // and after
	Moves int    `json:"moves"`
	// WarnedS is when the member that copies the cloud warned that it does not get
	// on, in seconds after the disaster, and Loss what the move has cost of the copy.
	WarnedS float64 `json:"warned_s,omitempty"`
	Loss    *Loss   `json:"loss,omitempty"`
	// Steps are when the last move got where, in ms after the disaster.
	Steps map[string]float64 `json:"steps_ms,omitempty"`

	BoundMS float64  `json:"bound_ms,omitempty"` // what the file's arithmetic allows
	Late    float64  `json:"machine_late_ms"`    // how long the machine let nobody run
	Upset   string   `json:"upset,omitempty"`    // why its times prove nothing
	Void    string   `json:"void,omitempty"`     // why the run proves nothing
	Faults  []string `json:"faults,omitempty"`   // what was wrong

	struck   bool  // the disaster was made
	unwarned error // why nobody warned, where the cell wants that
}

// Seen is what clients of one kind saw.
type Seen struct {
	Sent   int `json:"sent"`
	Failed int `json:"failed"`
	// RTOMS is the longest outage, from the first failed request to the first
	// good answer that lasted; zero: nothing failed.
	RTOMS     float64 `json:"rto_ms"`
	Outages   int     `json:"outages"`
	Recovered bool    `json:"recovered"`
	// StallMS is the longest that a request waited that was then answered, and
	// GapMS the longest time in which no good answer came.
	StallMS float64 `json:"stall_ms"`
	GapMS   float64 `json:"gap_ms"`
	Why     string  `json:"why,omitempty"` // a failure
}

// Felt is the longest that a user of the kind was without an answer, whether
// he was told so or waited, in ms.
func (s Seen) Felt() float64 { return max(s.RTOMS, s.StallMS) }

func ms(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// settled is how long service must last to end an outage.
const settledFor = 500 * time.Millisecond

// timeline puts what everybody saw on one scale. Epochs before the one in
// which the run began are not those of the answers: a service learns its own
// a moment after it was made active.
func (c *crowd) timeline(epoch draas.Epoch, end time.Time) *rto.Timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &rto.Timeline{Sites: []draas.SiteID{""}, Addrs: []string{""}, End: end.Sub(c.began)}
	index := make(map[string]rto.Site)
	zero := c.began.UnixNano()
	names := make([]string, 0, len(c.answers))
	for n := range c.answers {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		s := rto.Stream{Name: n, Direct: c.direct[n]}
		for _, a := range c.answers[n] {
			if a.At < zero {
				continue
			}
			site, ok := index[a.Site]
			if !ok && a.Site != "" {
				site = rto.Site(len(t.Sites))
				t.Sites = append(t.Sites, draas.SiteID(a.Site))
				index[a.Site] = site
			}
			x := rto.Sample{At: time.Duration(a.At - zero), Sent: time.Duration(a.Sent - zero), Done: time.Duration(a.Done - zero),
				Stamp: rto.Unstamped, Site: site, Class: a.Class}
			if a.Stamp != 0 {
				x.Stamp = time.Duration(a.Stamp - zero)
			}
			if e := draas.Epoch(a.Epoch); e >= epoch {
				x.Epoch = e
			}
			s.Samples = append(s.Samples, x)
		}
		slices.SortStableFunc(s.Samples, func(a, b rto.Sample) int { return cmp.Compare(a.At, b.At) })
		t.Streams = append(t.Streams, s)
	}
	return t
}

// join is how far apart two answers of a site may be for it to count as active
// in between: two periods and a half.
const join = 5 * time.Second / (2 * rate)

// judge works out what was seen of a disaster at an instant.
func (c *crowd) judge(r *Result, epoch draas.Epoch, fault, end time.Time) {
	t := c.timeline(epoch, end)
	at := fault.Sub(c.began)
	res := rto.Analyse(t, rto.Options{Fault: at, Marked: true, Settle: settledFor, Join: join})
	r.Void, r.DualMS = res.Void, ms(res.DualTime)
	r.Kinds, r.WrongSite = make(map[string]Seen), 0
	for _, k := range res.Clients {
		r.WrongSite += k.Wrong
		s := Seen{Sent: k.Sent, Failed: k.Failed, Recovered: true, Outages: len(k.Outages), GapMS: ms(k.Gap.Len())}
		for _, o := range k.Outages {
			s.RTOMS = max(s.RTOMS, ms(o.Len()))
			s.Recovered = s.Recovered && o.Recovered
		}
		r.Kinds[k.Name] = s
	}
	for _, s := range t.Streams {
		k, ok := r.Kinds[s.Name]
		if !ok {
			continue
		}
		for _, x := range s.Samples {
			if x.Good() && x.Done >= at {
				k.StallMS = max(k.StallMS, ms(x.Done-x.At))
			}
		}
		c.mu.Lock()
		if i := slices.IndexFunc(c.answers[s.Name], func(a answer) bool { return a.Class != rto.Good }); i >= 0 {
			k.Why = c.answers[s.Name][i].Why
		}
		c.mu.Unlock()
		r.Kinds[s.Name] = k
	}
	c.mu.Lock()
	r.ClaimsMS, r.UnclaimedMS = ms(doubleClaims(c.claims)), ms(unclaimed(c.claims, fault))
	c.mu.Unlock()
	r.Lost = -1
	if w := c.writes; w != nil {
		r.Acked = w.Acked
		if w.Known {
			r.Lost = w.Lost
		}
	}
}

// bound is what the arithmetic allows for a disaster of that name, zero if it
// says nothing of it.
func bound(all []config.RTO, name string) time.Duration {
	for _, r := range all {
		if r.Disaster == name {
			return r.Worst()
		}
	}
	return 0
}
