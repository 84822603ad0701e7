package measure

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// Millis is a duration that is written as milliseconds, in whole microseconds.
type Millis time.Duration

// MarshalJSON writes milliseconds.
func (m Millis) MarshalJSON() ([]byte, error) {
	us := time.Duration(m).Round(time.Microsecond).Microseconds()
	return strconv.AppendFloat(nil, float64(us)/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads milliseconds.
func (m *Millis) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("parse milliseconds: %w", err)
	}
	if most := float64(1<<63-1) / float64(time.Millisecond); f <= -most || f >= most {
		return fmt.Errorf("parse milliseconds: %.40s is beyond a duration", text)
	}
	*m = Millis(f * float64(time.Millisecond))
	return nil
}

func (m Millis) String() string { return time.Duration(m).Round(100 * time.Microsecond).String() }

// Report is what a run found. The embedded Outcome is that of the first kind
// of client, which is the one that is judged; WrongSite, WrongSiteTime,
// DualActive, Void and the lateness are of all together.
type Report struct {
	URL      string     `json:"url"`
	Started  time.Time  `json:"started"`
	Duration Millis     `json:"duration_ms"` // of the schedule
	Rate     float64    `json:"rate"`        // per second and client
	Timeout  Millis     `json:"timeout_ms"`
	Settle   Millis     `json:"settle_ms"`
	Users    int        `json:"users"` // of each kind of client
	Fault    *time.Time `json:"fault"` // null when not marked

	// Void says that the run proves nothing, and VoidReason why.
	Void       bool   `json:"void"`
	VoidReason string `json:"void_reason,omitempty"`

	Client Kind `json:"client"` // whose Outcome this is
	Outcome

	// WrongSite counts good answers, of any client, from a site that had
	// been succeeded; WrongSiteTime is the time over which they came.
	WrongSite     int    `json:"wrong_site"`
	WrongSiteTime Millis `json:"wrong_site_ms"`
	// DualActive is the time in which at least two sites were proved active.
	DualActive      Millis `json:"dual_active_ms"`
	DualActiveSpans []Span `json:"dual_active_spans,omitempty"`

	// Lateness is how long after their scheduled time requests were sent.
	LatenessP50 Millis `json:"lateness_p50_ms"`
	LatenessP99 Millis `json:"lateness_p99_ms"`
	LatenessMax Millis `json:"lateness_max_ms"`

	Clients map[Kind]*Outcome        `json:"clients"`
	Sites   map[draas.SiteID]*Counts `json:"sites,omitempty"` // asked directly

	// Number is the run's in a series, Inject and Restore the commands of it.
	Number  int     `json:"run,omitempty"`
	Inject  *Action `json:"inject,omitempty"`
	Restore *Action `json:"restore,omitempty"`

	Writes *Writes `json:"writes,omitempty"`
	Daemon *Daemon `json:"daemon,omitempty"`
	Tool   *Tool   `json:"tool,omitempty"`
	// StaleFrom is when the tails of Outcome.Stale begin: at the fault, or at
	// the first failure. Null when the service did not move.
	StaleFrom *time.Time `json:"stale_from,omitempty"`

	// Window is the part of the run that the strips draw: around the first
	// outages.
	Window Span `json:"window"`

	// Timeline is what it was worked out from; End and all instants in it
	// count from Started.
	Timeline *rto.Timeline `json:"-"`

	kinds []Kind
	names []draas.SiteID
}

// Counts is what one stream of requests got.
type Counts struct {
	Sent    int            `json:"sent"`
	Failed  int            `json:"failed"`
	Errors  map[string]int `json:"errors"` // by class, all of them
	Latency Latency        `json:"latency"`
	Served  []Served       `json:"served"`
	// Strip draws Report.Window: how requests that were due in it ended.
	Strip []Stretch `json:"strip,omitempty"`
}

// Stretch is a piece of a Strip. All of it is as its numbers say.
type Stretch struct {
	At     Millis       `json:"at_ms"` // since Report.Window.From
	Length Millis       `json:"length_ms"`
	Site   draas.SiteID `json:"site,omitempty"` // that gave most of the good answers
	Sent   int          `json:"sent"`
	Failed int          `json:"failed"`
}

// Outcome is what one kind of client saw.
type Outcome struct {
	Counts

	// Downtime is the length of the first outage, zero without one. When it
	// is not Recovered, no lasting good answer was seen before the run's end.
	Downtime     Millis     `json:"downtime_ms"`
	Recovered    bool       `json:"recovered"`
	FirstFailure *time.Time `json:"first_failure"` // scheduled; null when nothing failed
	FirstGood    *time.Time `json:"first_good"`    // the lasting good answer; null when there was none

	LargestGap     Millis    `json:"largest_gap_ms"` // between good answers
	LargestGapFrom time.Time `json:"largest_gap_from"`

	Outages []Outage `json:"outages"`
	Wrong   int      `json:"wrong_site"` // as Report.WrongSite, of this client

	// Parts divide the first outage by the daemon's move, when it is known.
	Parts []Part `json:"parts,omitempty"`
	// Loss is what that move has cost of the copy of the old site's cloud.
	Loss *Loss `json:"expected_loss,omitempty"`
	// Stale follows how many of the kind's users are sent to the old site.
	Stale []Stale `json:"stale,omitempty"`
}

// Latency is of good answers, counted from their scheduled time.
type Latency struct {
	P50  Millis `json:"p50_ms"`
	P90  Millis `json:"p90_ms"`
	P99  Millis `json:"p99_ms"`
	P999 Millis `json:"p999_ms"`
	Max  Millis `json:"max_ms"`
}

// Outage is one stretch without lasting service.
type Outage struct {
	From      time.Time    `json:"from"`
	To        time.Time    `json:"to"`
	Length    Millis       `json:"length_ms"`
	Recovered bool         `json:"recovered"`
	Failed    int          `json:"failed"`
	Site      draas.SiteID `json:"site"` // that ended it; empty when unknown
	Epoch     draas.Epoch  `json:"epoch"`
}

// Served sums up the good answers of one site at one epoch.
type Served struct {
	Site    draas.SiteID `json:"site"`  // empty when unknown
	Epoch   draas.Epoch  `json:"epoch"` // zero when not stamped
	Answers int          `json:"answers"`
	First   time.Time    `json:"first"`
	Last    time.Time    `json:"last"`
}

// Span is a stretch of time.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Errors of Report.Check.
var (
	ErrVoid     = errors.New("void")
	ErrExceeded = errors.New("exceeded")
)

// Check judges the run. It returns an ErrVoid when the run proves nothing, and
// an ErrExceeded when an outage of the judged client was longer than maxRTO or
// did not end, or when two sites were active or a succeeded one answered.
func (r *Report) Check(maxRTO time.Duration) error {
	if r.Void {
		return fmt.Errorf("%w: %s", ErrVoid, r.VoidReason)
	}
	for _, o := range r.Outages {
		switch {
		case !o.Recovered:
			return fmt.Errorf("%w: no lasting good answer before the end, %v after the first failure", ErrExceeded, o.Length)
		case time.Duration(o.Length) > maxRTO:
			return fmt.Errorf("%w: down for %v, allowed are %v", ErrExceeded, o.Length, maxRTO)
		}
	}
	switch {
	case r.DualActive > 0:
		return fmt.Errorf("%w: two sites were active for %v", ErrExceeded, r.DualActive)
	case r.WrongSite > 0:
		return fmt.Errorf("%w: %d answers came from a site that had been succeeded", ErrExceeded, r.WrongSite)
	}
	return nil
}

// Judge holds the run against what is allowed: maxRTO zero and maxRPO nil
// allow anything. The worst finding is returned, as Check and CheckLoss do.
func (r *Report) Judge(maxRTO time.Duration, maxRPO *time.Duration) error {
	err := r.CheckLoss(maxRPO)
	if maxRTO > 0 {
		if e := r.Check(maxRTO); worse(e, err) {
			err = e
		}
	}
	return err
}

// CheckLoss judges the lost writes; nil allows any. It returns an ErrVoid when
// they are not known, and an ErrExceeded when more of the past was lost.
func (r *Report) CheckLoss(maxRPO *time.Duration) error {
	switch w := r.Writes; {
	case maxRPO == nil || w == nil:
	case !w.Known:
		return fmt.Errorf("%w: what was lost is not known: %s", ErrVoid, w.Unread)
	case w.Lost > 0 && time.Duration(w.RPO) > *maxRPO:
		return fmt.Errorf("%w: %d acknowledged writes of %v are lost, allowed are %v", ErrExceeded, w.Lost, w.RPO, *maxRPO)
	}
	return nil
}

// worse reports whether a finding outweighs another: one that proves something
// outweighs a void.
func worse(a, b error) bool { return a != nil && (b == nil || isVoid(b) && !isVoid(a)) }

func isVoid(err error) bool { return errors.Is(err, ErrVoid) }

// report works the outcome out.
func (r *run) report(fault *time.Time, end time.Duration) *Report {
	t := &rto.Timeline{Sites: r.sites, Addrs: r.addrs, End: end}
	for _, s := range r.streams {
		t.Streams = append(t.Streams, rto.Stream{Name: s.name, Direct: s.site != "", Samples: s.samples})
	}
	o := rto.Options{Settle: r.config.Settle, Join: r.config.join()}
	if fault != nil {
		o.Marked, o.Fault = true, fault.Sub(r.start)
	}
	for _, s := range r.config.ExpectSites {
		o.Expect = append(o.Expect, r.intern(s))
	}
	res := rto.Analyse(t, o)

	p := &Report{
		URL:           r.config.URL,
		Started:       r.wall(0),
		Duration:      Millis(end),
		Rate:          r.config.Rate,
		Timeout:       Millis(r.config.Timeout),
		Settle:        Millis(r.config.Settle),
		Users:         r.config.Users,
		Void:          res.Void != "",
		VoidReason:    res.Void,
		Client:        r.config.Clients[0],
		WrongSiteTime: Millis(res.WrongTime),
		DualActive:    Millis(res.DualTime),
		LatenessP50:   quantile(r.lateness, 50),
		LatenessP99:   quantile(r.lateness, 99),
		LatenessMax:   Millis(time.Duration(r.lateness.Max()) * time.Microsecond),
		Clients:       make(map[Kind]*Outcome),
		Timeline:      t,
		kinds:         r.config.Clients,
	}
	if fault != nil {
		at := fault.UTC()
		p.Fault = &at
	}
	for _, d := range res.Dual {
		p.DualActiveSpans = append(p.DualActiveSpans, Span{From: r.wall(d.From), To: r.wall(d.To)})
	}
	for i, c := range res.Clients {
		p.Clients[r.config.Clients[i]] = r.outcome(c, r.streams[i].latency)
		p.WrongSite += c.Wrong
	}
	r.addStale(p, t, o, res)
	window := r.window(res, o, end)
	p.Window = Span{From: r.wall(window.From), To: r.wall(window.To)}
	for i, k := range r.config.Clients {
		p.Clients[k].Strip = r.strip(t.Streams[i].Samples, r.config.Users, window)
	}
	p.Outcome = *p.Clients[p.Client]
	if len(res.Direct) > 0 {
		p.Sites = make(map[draas.SiteID]*Counts)
	}
	for i, c := range res.Direct {
		s := r.streams[len(res.Clients)+i]
		counts := r.counts(c, s.latency)
		counts.Strip = r.strip(t.Streams[len(res.Clients)+i].Samples, 1, window)
		p.Sites[s.site] = &counts
		p.names = append(p.names, s.site)
	}
	return p
}

// addStale follows the users from the fault, or from the judged client's
// first failure, or else from when another site answered it first.
func (r *run) addStale(p *Report, t *rto.Timeline, o rto.Options, res *rto.Result) {
	judged := res.Clients[0]
	from := o.Fault
	switch {
	case o.Marked:
	case len(judged.Outages) > 0:
		from = judged.Outages[0].From
	case len(judged.Served) > 1:
		from = judged.Served[1].First - 1
	default:
		return
	}
	tails, ok := staleTail(t, r.config.Clients, from)
	if !ok {
		return
	}
	at := r.wall(from)
	p.StaleFrom = &at
	for i, k := range r.config.Clients {
		p.Clients[k].Stale = tails[i]
	}
}

// order lists the kinds of client as they were given; in a report that was
// read from JSON as Kinds does.
func (r *Report) order() []Kind {
	if r.kinds != nil {
		return r.kinds
	}
	var kinds []Kind
	for _, k := range Kinds() {
		if r.Clients[k] != nil {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// wall is the wall clock's time of an instant of the run, in UTC, as the
// clock stood at the start.
func (r *run) wall(at time.Duration) time.Time { return r.start.Add(at).Round(0).UTC() }

func (r *run) counts(c rto.Client, latency *hdrhistogram.Histogram) Counts {
	n := Counts{
		Sent:   c.Sent,
		Failed: c.Failed,
		Errors: make(map[string]int),
		Served: []Served{},
		Latency: Latency{
			P50: quantile(latency, 50), P90: quantile(latency, 90), P99: quantile(latency, 99),
			P999: quantile(latency, 99.9), Max: Millis(time.Duration(latency.Max()) * time.Microsecond),
		},
	}
	for _, class := range rto.Failures() {
		n.Errors[class.String()] = c.Classes[class]
	}
	for _, s := range c.Served {
		n.Served = append(n.Served, Served{Site: r.sites[s.Site], Epoch: s.Epoch, Answers: s.Answers,
			First: r.wall(s.First), Last: r.wall(s.Last)})
	}
	return n
}

func (r *run) outcome(c rto.Client, latency *hdrhistogram.Histogram) *Outcome {
	o := &Outcome{
		Counts:         r.counts(c, latency),
		Recovered:      true,
		LargestGap:     Millis(c.Gap.Len()),
		LargestGapFrom: r.wall(c.Gap.From),
		Outages:        []Outage{},
		Wrong:          c.Wrong,
	}
	for _, u := range c.Outages {
		o.Outages = append(o.Outages, Outage{From: r.wall(u.From), To: r.wall(u.To), Length: Millis(u.Len()),
			Recovered: u.Recovered, Failed: u.Failed, Site: r.sites[u.Site], Epoch: u.Epoch})
	}
	if len(o.Outages) > 0 {
		first := &o.Outages[0]
		o.Downtime, o.Recovered, o.FirstFailure = first.Length, first.Recovered, &first.From
		if first.Recovered {
			o.FirstGood = &first.To
		}
	}
	return o
}

func quantile(h *hdrhistogram.Histogram, q float64) Millis {
	return Millis(time.Duration(h.ValueAtQuantile(q)) * time.Microsecond)
}
