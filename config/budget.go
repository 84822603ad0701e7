package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// Assumptions of the RTO arithmetic about what the file does not say.
const (
	typicalEntry = 5 * time.Millisecond  // one entry of the replicated log between near sites
	answerChange = 20 * time.Millisecond // from the committed decision to changed answers (p99)
)

// How long a frontend takes to hear of a decision. It has a request waiting at
// every member, which is answered at once; it gives each up after a second, so
// that of a decision whose answers are lost it hears by the next ones.
const (
	FollowWorst   = time.Second
	followTypical = 10 * time.Millisecond
)

// actTime is what a kind of frontend takes to lead elsewhere once it has heard:
// our own changes a pointer, HAProxy and the kernel take one request, nginx
// tests its files and starts other workers.
func actTime(kind string) (worst, typical time.Duration) {
	switch kind {
	case FrontendHAProxy, FrontendNAT:
		return 100 * time.Millisecond, 10 * time.Millisecond
	case FrontendNginx:
		return 2 * time.Second, 200 * time.Millisecond
	}
	return 0, 0
}

// Term is one part of an RTO. Terms follow each other and add up.
type Term struct {
	Name    string // detect, elect, confirm (or least outage, or restart), lease, take, fence, device, quarantine, act, frontend, secondaries, ttl, resolver floor
	Worst   time.Duration
	Typical time.Duration
	Sets    string // the keys that make it what it is
}

// RTO is the downtime that the file implies for one disaster, from the last
// good answer to the first lasting one at another site, for an automatic
// move; without automatic a person's time comes on top. Longer network delays
// and what a runbook adds come on top too.
type RTO struct {
	Disaster string // "site lost", "service dead" or "target lost"; of a hybrid also "cloud lost" and "frontend lost"
	Terms    []Term
}

// Worst adds up the worst case.
func (r RTO) Worst() time.Duration {
	var sum time.Duration
	for _, t := range r.Terms {
		sum += t.Worst
	}
	return sum
}

// Typical adds up the usual case.
func (r RTO) Typical() time.Duration {
	var sum time.Duration
	for _, t := range r.Terms {
		sum += t.Typical
	}
	return sum
}

// Largest is the term with the most of the worst case.
func (r RTO) Largest() Term {
	var largest Term
	for _, t := range r.Terms {
		if t.Worst > largest.Worst {
			largest = t
		}
	}
	return largest
}

// String lists the worst case term by term.
func (r RTO) String() string {
	var terms []string
	for _, t := range r.Terms {
		if t.Worst > 0 {
			terms = append(terms, t.Name+" "+short(t.Worst))
		}
	}
	return fmt.Sprintf("%s (%s)", short(r.Worst()), strings.Join(terms, " + "))
}

// RTO gives the budgets of a unit: for a lost site, whose permit has to run
// out, and for a service that died while its site lives and can hand the
// permit over; for a hybrid also for what one of its halves masks alone. The
// last is that of a planned move whose target is lost on the way, which nobody
// promises (max_rto). For a group they are those of the part that takes longest;
// the service of a group can be asked for by itself. It is empty for what does
// not exist.
func (c *Config) RTO(id draas.ServiceID) []RTO {
	if s, ok := c.Service(id); ok {
		return c.serviceRTO(&s)
	}
	var longest []RTO
	for i := range c.Services {
		if s := &c.Services[i]; s.Group == id && id != "" {
			longest = longer(longest, c.serviceRTO(s))
		}
	}
	return longest
}

// longer takes the longer budget for each disaster.
func longer(a, b []RTO) []RTO {
	for _, r := range b {
		i := slices.IndexFunc(a, func(x RTO) bool { return x.Disaster == r.Disaster })
		switch {
		case i < 0:
			a = append(a, r)
		case r.Worst() > a[i].Worst():
			a[i] = r
		}
	}
	return a
}

func (c *Config) serviceRTO(s *Service) []RTO {
	at, policy := join("service", string(s.ID)), s.policyPath()

	lost := detectLost(s, at)
	elect := Term{"elect", max(0, 2*c.Raft.Election-lost.Worst), 0, "profile"}
	patience := s.Timing.patience(policy, false)
	l := s.Timing.Lease
	lease := Term{
		Name: "lease",
		// The last renewal may have passed in the instant before the disaster;
		// detection and confirmation run while the lease runs out.
		Worst:   max(0, l.Wait()-lost.Worst-elect.Worst-patience.Worst),
		Typical: max(0, l.Wait()-s.Timing.Renew/2-lost.Typical-patience.Typical),
		Sets:    policy + ".lease",
	}
	device := Term{Name: "device", Sets: "timeout and stay of the devices of " + policy}
	parts := c.parts(s)
	off, onlyDevices := switchOff(parts), slices.ContainsFunc(parts, byDevice)
	switch {
	case onlyDevices || s.OnLeaseLoss == draas.LeaseLossServe: // the end of the lease proves nothing then
		lease.Worst, lease.Typical = 0, 0
		device.Worst, device.Typical = off, off/2
	case c.TwoSite: // both are begun at the decision
		device.Worst, device.Typical = max(0, off-lease.Worst), max(0, off/2-lease.Typical)
	}
	site := []Term{lost, elect, patience, lease, device}
	margin := l.Margin // in a group the slowest fence of all
	fence := Term{"fence", margin, margin / 2, at + ".fence.margin"}
	if s.Group != "" {
		fence.Sets = "fence.margin of the services of " + policy
	}
	var target []Term
	if !onlyDevices { // the old site would be off by then
		target = c.untilUndone(s, site, fence)
	}

	patience = s.Timing.patience(policy, true)
	device.Worst, device.Typical = 0, 0
	if onlyDevices {
		device.Worst, device.Typical = off, off/2 // it cannot stop serving by itself
	}
	dead := []Term{detectDead(s, at), patience, fence, device}
	if s.Scheme == SchemeHybrid {
		return c.hybridRTO(s, site, dead, target)
	}
	led, quarantine := []Term{c.fronts(s)}, Term{Name: "quarantine"}
	if s.Scheme != SchemeFrontend {
		led, quarantine = c.answers(s)
	}
	all := []RTO{
		{Disaster: siteLost, Terms: slices.Concat(site, []Term{quarantine.behind(lease, find(site, "device")), c.act(s, 3)}, led)},
		{Disaster: serviceDead, Terms: slices.Concat(dead, []Term{quarantine.behind(fence, device), c.act(s, 4)}, led)},
	}
	if target != nil {
		quarantine = quarantine.behind(find(target, "lease"), find(target, "device"))
		all = append(all, RTO{Disaster: targetLost, Terms: slices.Concat(target, []Term{quarantine, c.act(s, undoEntries)}, led)})
	}
	return all
}

// answers are the terms between changed answers and the users, and how long a
// DNS service that compares nothing is left alone before it is told.
func (c *Config) answers(s *Service) (terms []Term, quarantine Term) {
	at := join("service", string(s.ID))
	follow, quarantine := c.followers(s)
	ttl := Term{"ttl", s.DNS.TTL, s.DNS.TTL / 2, at + ".dns.ttl"}
	// Who keeps an answer for longer than its TTL does so in place of it.
	kept := max(s.DNS.Floor, s.DNS.TTL)
	floor := Term{"resolver floor", kept - ttl.Worst, kept/2 - ttl.Typical, at + ".dns.resolver_floor"}
	return []Term{follow, ttl, floor}, quarantine
}

// fronts is the term of the slowest of a service's frontends. What a frontend
// sees of a dead service only makes the members look earlier, which no worst
// case counts on.
func (c *Config) fronts(s *Service) Term {
	t := Term{"frontend", FollowWorst, followTypical, join("service", string(s.ID)) + ".frontend.use"}
	for _, id := range s.Frontend.Use {
		f, _ := c.Frontend(id)
		if worst, typical := actTime(f.Kind); FollowWorst+worst > t.Worst {
			t = Term{"frontend", FollowWorst + worst, followTypical + typical, join("frontend", id) + ".kind"}
		}
	}
	return t
}

// followers are the terms of the servers of a name's zones: what they answer
// until they have followed, and how long a service that compares nothing is
// left alone before it is told.
func (c *Config) followers(s *Service) (follow, quarantine Term) {
	follow, quarantine = Term{Name: "secondaries"}, Term{Name: "quarantine"}
	for _, id := range s.DNS.Zones() {
		z := c.DNS[id]
		if lag, sets := z.Lag(); lag > follow.Worst {
			follow = Term{"secondaries", lag, lag / 2, sets}
		}
		if q := c.Quarantine(z); q > quarantine.Worst {
			quarantine = Term{"quarantine", q, q, join("dns", id) + ".late"}
		}
	}
	return follow, quarantine
}

// behind is what is left of a time when others, which begin no later, are over.
func (t Term) behind(others ...Term) Term {
	for _, o := range others {
		t.Worst, t.Typical = max(0, t.Worst-o.Worst), max(0, t.Typical-o.Typical)
	}
	return t
}

// parts lists a service with all that move with it.
func (c *Config) parts(s *Service) []*Service {
	if s.Group == "" {
		return []*Service{s}
	}
	var parts []*Service
	for i := range c.Services {
		if c.Services[i].Group == s.Group {
			parts = append(parts, &c.Services[i])
		}
	}
	return parts
}

// switchOff is the longest that the devices of a unit take until a site has
// stayed off: all of them are used at the same time.
func switchOff(parts []*Service) time.Duration {
	var longest time.Duration
	for _, s := range parts {
		for i := range s.Fence.Devices {
			longest = max(longest, s.Fence.Devices[i].Timeout+s.Fence.Devices[i].Stay)
		}
	}
	return longest
}

// byDevice reports whether nothing but a device stops a part of a unit.
func byDevice(s *Service) bool { return s.Fence.Kind == draas.FenceDevice }

// patience is how long a confirmed failure is watched before a move: the
// longest of confirm, least_outage and, while the site's daemon is there to
// see a restart, restart. All count from the verdict.
func (t *Timing) patience(at string, alive bool) Term {
	longest := Term{"confirm", t.Confirm, t.Confirm, at + ".confirm"}
	if d := t.LeastOutage; d > longest.Worst {
		longest = Term{"least outage", d, d, at + ".least_outage"}
	}
	if d := t.Restart; alive && d > longest.Worst {
		longest = Term{"restart", d, d, at + ".restart"}
	}
	return longest
}

// act is the time for a number of log entries one after the other (verdict,
// Revoke, Release if there is one, Activate), and for DNS answers to change.
func (c *Config) act(s *Service, entries int) Term {
	t := c.entries(entries)
	if s.Scheme != SchemeFrontend {
		t.Worst, t.Typical = t.Worst+answerChange, t.Typical+answerChange
	}
	return t
}

// entries is the time for a number of log entries. In the worst case each is
// lost once and goes with the next heartbeat.
func (c *Config) entries(entries int) Term {
	return Term{
		Name:    "act",
		Worst:   time.Duration(entries) * c.Raft.Heartbeat,
		Typical: time.Duration(entries) * typicalEntry,
		Sets:    "profile",
	}
}

// worstSilent is the time from a disaster right after a good probe until the
// fall-th probe in a row has run into its timeout.
func (k *Check) worstSilent() time.Duration {
	return time.Duration(float64(k.Interval)*(1+k.Jitter))*time.Duration(k.Fall) + k.Timeout
}

// typicalSilent is the same from the middle of an interval without jitter.
func (k *Check) typicalSilent() time.Duration {
	return k.Interval/2 + k.Interval*time.Duration(k.Fall-1) + k.Timeout
}

// typicalRefused is the time when the connection is refused, which brings the
// next looks at once; other checks find out at their interval.
func (k *Check) typicalRefused() time.Duration {
	switch k.Type {
	case CheckTCP, CheckHTTP, CheckHTTPS:
		return k.Interval/2 + k.SecondLook*time.Duration(k.Fall-1)
	}
	return k.Interval/2 + k.Interval*time.Duration(k.Fall-1)
}

// detectLost is when the quickest check has seen that a site is silent: all
// checks see that.
func detectLost(s *Service, at string) Term {
	t := Term{Name: "detect"}
	for i := range s.Checks {
		k := &s.Checks[i]
		if w := k.worstSilent(); i == 0 || w < t.Worst {
			t.Worst, t.Typical, t.Sets = w, k.typicalSilent(), checkKeys(at, i)
		}
	}
	return t
}

// detectDead is when the slowest check has seen that the service is dead: it
// may be the only one that sees it, and a service that hangs refuses nothing.
func detectDead(s *Service, at string) Term {
	t := Term{Name: "detect"}
	for i := range s.Checks {
		k := &s.Checks[i]
		if w := k.worstSilent(); i == 0 || w > t.Worst {
			t.Worst, t.Typical, t.Sets = w, k.typicalRefused(), checkKeys(at, i)
		}
	}
	return t
}

func checkKeys(at string, i int) string {
	return "interval, fall and timeout of " + elem(at+".check", i)
}

// Bounds of a detection that makes sense.
const (
	minDetect = 100 * time.Millisecond // machines stall this long: quicker is a false alarm
	maxDetect = 30 * time.Minute       // longer, a person has long been called
)

// renewals is how many renewals must fit in a permit: two may be lost.
const renewals = 3

// budgets refuses times that do not nest (DESIGN.md, rule 12).
func (d *decoder) budgets(c *Config, u *Unit) {
	at, sound := u.path(), true
	for i := range u.Parts {
		part := join("service", string(u.Parts[i].ID))
		sound = sound && d.clean(part+".fence.margin", part+".fence.kind")
	}
	if sound && d.clean("profile", "watchdog", at+".lease", at+".renew") {
		d.lease(c, u)
	}
	whole := !slices.ContainsFunc(u.Parts, func(s Service) bool { return len(s.Checks) == 0 || !d.clean(join("service", string(s.ID))) })
	if u.MaxRTO > 0 && u.Automatic && whole && d.clean("profile", at) {
		d.promise(c, u)
	}
}

func (d *decoder) detection(k *Check, at string) {
	if !d.clean(at) {
		return
	}
	path := at
	for _, key := range []string{".fall", ".interval", ".timeout"} {
		if d.has(at + key) {
			path = at + key
		}
	}
	worst := k.worstSilent()
	switch {
	case worst < minDetect:
		d.report(path, fmt.Sprintf("a failure is believed after %s, and machines stall longer than that", short(worst)), fmt.Sprintf("let fall x interval + timeout be at least %s", short(minDetect)))
	case worst > maxDetect:
		d.report(path, fmt.Sprintf("a failure is believed only after %s", short(worst)), fmt.Sprintf("let fall x interval + timeout be at most %s", short(maxDetect)))
	}
}

// lease checks that the permit leaves the holder room to renew and to close.
func (d *decoder) lease(c *Config, u *Unit) {
	t, at := u.Timing, u.path()
	slowest := slices.MaxFunc(u.Parts, func(a, b Service) int { return cmp.Compare(a.Fence.Margin, b.Fence.Margin) })
	path := at
	for _, key := range []string{join("service", string(slowest.ID)) + ".fence.margin", at + ".renew", at + ".lease"} {
		if d.has(key) {
			path = key
		}
	}
	why, faster := "", "a fence that closes faster"
	if slowest.Fence.Margin == c.Watchdog.Timeout && c.Watchdog.Timeout > 0 {
		why, faster = " (that of the watchdog)", "a shorter watchdog.timeout"
	}
	// The least lease that would do, rounded up to 100 ms.
	enough := func(hold time.Duration) string {
		const step = 100 * time.Millisecond
		need := time.Duration(float64(hold+t.Lease.Margin)/(1-t.Lease.Drift)) + 1
		return short((need + step - 1) / step * step)
	}
	hold := t.Lease.Hold()
	left := fmt.Sprintf("a lease of %s less %.0f %% clock drift and a fence margin of %s%s leaves ", short(t.Lease.Length), 100*t.Lease.Drift, short(t.Lease.Margin), why)
	change := 2*c.Raft.Election + t.Renew
	need := max(renewals*t.Renew, change)
	switch {
	case hold <= 0:
		d.report(path, left+"no time to serve", "give a lease of at least "+enough(need)+", or "+faster)
	case renewals*t.Renew > hold:
		d.report(path, fmt.Sprintf("%s%s: too little for %d renewals, one each %s", left, short(hold), renewals, short(t.Renew)),
			fmt.Sprintf("give a lease of at least %s, or renew at most each %s", enough(need), short((hold/renewals).Truncate(10*time.Millisecond))))
	case change > hold:
		d.report(path, fmt.Sprintf("%s%s: less than the log needs to elect a leader (%s) and to renew (%s)", left, short(hold), short(2*c.Raft.Election), short(t.Renew)),
			"give a lease of at least "+enough(need)+", so that a change of leader does not close the fence")
	}
}
