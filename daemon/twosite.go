package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

const (
	// aloneEvery is how often a member of two looks at what it may do alone.
	aloneEvery = time.Second
	// byDevice is the operator of what follows from devices' word.
	byDevice = "device fence"
)

// errBack stops a takeover whose reasons are gone.
var errBack = errors.New("it is not lost any more")

// proof is what devices have confirmed to be off, and when that was begun.
type proof struct {
	off   map[failover.FenceCommand]string // the evidence
	since time.Duration                    // boot clock
}

// survivor is a member of a cluster of two sites that has lost the other: it
// has the lost site switched off, starts the cluster anew and takes over. All
// that it goes by is derived again each time, so that a crash anywhere leads
// to the same place: before the new generation nothing has happened but what
// devices did, and they are asked again; after it the member decides alone,
// still sees the units lost, and has their site confirmed off once more.
type survivor struct {
	*Daemon
	devices *deviceLink

	mu    sync.Mutex
	round proof // under way
}

// survive looks after the case that the other site is lost, until ctx ends.
func (d *Daemon) survive(ctx context.Context) {
	s := &survivor{Daemon: d}
	s.devices = newDeviceLink(d.log, s.confirmed)
	defer s.devices.wait()
	tick := time.NewTicker(aloneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p, err := d.picture(ctx); err == nil {
			s.look(ctx, p)
		}
	}
}

// decidesAlone reports whether nobody else votes.
func decidesAlone(core quorum.CoreStatus) bool {
	voters := 0
	for _, m := range core.Members {
		if m.Role == quorum.RoleVoter {
			voters++
		}
	}
	return voters == 1 && core.Leader == core.Self
}

// cutOff reports whether a voter has been without a leader for longer than it
// takes to elect one.
func cutOff(p picture, election time.Duration) bool {
	return p.core.Role == quorum.RoleVoter && p.core.Leader == "" && p.now.Boot-p.core.Contact > election
}

func (s *survivor) look(ctx context.Context, p picture) {
	w := s.now()
	if p.core.Role == quorum.RoleVoter && p.core.Leader != "" {
		s.settled(ctx)
	}
	anew := decidesAlone(p.core) && p.core.Generation.Number > 0
	switch {
	case !w.cfg.TwoSite || !anew && !cutOff(p, w.cfg.Raft.Election):
		s.drop(ctx)
	case anew && len(s.proven.off) > 0:
		s.take(ctx, p)
	default:
		s.fence(ctx, p, anew)
	}
}

// drop calls off what is under way.
func (s *survivor) drop(ctx context.Context) {
	s.devices.follow(ctx, nil)
	s.mu.Lock()
	s.round = proof{}
	s.mu.Unlock()
	s.proven = proof{}
}

// confirmed is told by the devices of a unit.
func (s *survivor) confirmed(unit draas.ServiceID, epoch draas.Epoch, evidence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.round.off {
		if c.Service == unit && c.Epoch == epoch {
			s.round.off[c] = evidence
		}
	}
}

// fence has the lost site switched off. When all of it is confirmed, and what
// was confirmed first is not old, the cluster starts anew without it.
func (s *survivor) fence(ctx context.Context, p picture, anew bool) {
	wanted := p.alone.Fence
	if len(wanted) == 0 {
		s.drop(ctx)
		return
	}
	s.devices.use(s.now())
	round := s.begin(wanted, p.now.Boot)
	s.devices.follow(ctx, wanted)
	for _, evidence := range round.off {
		if evidence == "" {
			return
		}
	}
	if age := p.now.Boot - round.since; age > proofHolds(s.now().cfg) {
		s.log.Warn("the first confirmation is too old to rest on; asking all devices again", "age", age.Round(time.Second))
		s.drop(ctx)
		return
	}
	s.proven = round
	if anew {
		s.take(ctx, p)
		return
	}
	if err := s.startWithout(ctx, wanted); err != nil {
		s.log.Warn("not taking over", "err", err)
		s.drop(ctx)
	}
}

// begin notes who is to be switched off, and returns what is confirmed so far.
func (s *survivor) begin(wanted []failover.FenceCommand, now time.Duration) proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	off := make(map[failover.FenceCommand]string, len(wanted))
	for _, c := range wanted {
		off[c] = s.round.off[c]
	}
	if len(s.round.off) == 0 {
		s.round.since = now
		s.log.Warn("the other site is lost: having it switched off", "units", unitNames(wanted))
	}
	s.round.off = off
	return proof{maps.Clone(off), s.round.since}
}

// proofHolds bounds the time from when the first device is asked until the
// last has confirmed. A host that was confirmed long ago may have been started
// again.
func proofHolds(c *config.Config) time.Duration {
	longest := time.Duration(0)
	for i := range c.Services {
		for _, f := range c.Services[i].Fence.Devices {
			longest = max(longest, f.Timeout+f.Stay)
		}
	}
	return 2*longest + 10*time.Second
}

// startWithout ends this run to start the cluster anew, if it still looks as
// it did when the devices were asked.
func (s *survivor) startWithout(ctx context.Context, wanted []failover.FenceCommand) error {
	var refused error
	err := s.loop.call(ctx, func(l *loop) {
		st := l.replica.Status()
		if st.Leader != "" || st.Role != quorum.RoleVoter || !slices.Equal(l.replica.Alone(l.clock.Now()).Fence, wanted) {
			refused = errBack
			return
		}
		l.quit = errForce
	})
	if err != nil {
		return err
	}
	if refused == nil {
		s.log.Warn("the lost site is off, confirmed by devices: starting the cluster anew without it", "units", unitNames(wanted))
	}
	return refused
}

// take asks for the units whose site devices have off.
func (s *survivor) take(ctx context.Context, p picture) {
	if p.now.Boot-s.proven.since > 2*proofHolds(s.now().cfg) {
		s.log.Warn("this site was not ready for too long; asking all devices again")
		s.drop(ctx)
		return
	}
	for _, c := range slices.SortedFunc(maps.Keys(s.proven.off), func(a, b failover.FenceCommand) int {
		return strings.Compare(string(a.Service), string(b.Service))
	}) {
		sv := p.state.Services[c.Service]
		if sv == nil || sv.Active != c.Site || sv.Epoch != c.Epoch || sv.Phase.Moving() {
			delete(s.proven.off, c)
			continue
		}
		if !readyAt(p.state, c.Service, s.self) {
			continue // this daemon has just started: looked at again
		}
		ask, cancel := context.WithTimeout(ctx, apiTimeout)
		rec, err := s.loop.request(ask, c.Service, s.self.Site(), failover.Request{Move: failover.MoveFailover,
			Operator: byDevice, Reason: s.proven.off[c], Expect: c.Epoch, Vouch: true})
		cancel()
		if err != nil {
			s.log.Warn("asked to take over; asking again", "service", c.Service, "err", err)
			continue
		}
		if rec.Kind == failover.RecordRefusal {
			s.log.Warn("not taken over, see its history", "service", c.Service, "answer", rec.Text)
		}
		delete(s.proven.off, c)
	}
	if len(s.proven.off) == 0 {
		s.drop(ctx)
	}
}

// readyAt reports whether a member sees its own site ready for a unit.
func readyAt(s failover.State, unit draas.ServiceID, m draas.MemberID) bool {
	sv, policy := s.Services[unit], s.Policy.Services[unit]
	if !policy.Warm {
		return true
	}
	if len(policy.Parts) == 0 {
		return sv.Views[m.Site()][m].Verdict == draas.Healthy
	}
	for _, part := range policy.Parts {
		if sv.Parts[part][m.Site()][m].Verdict != draas.Healthy {
			return false
		}
	}
	return true
}

func unitNames(commands []failover.FenceCommand) string {
	var out []string
	for _, c := range commands {
		out = append(out, fmt.Sprintf("%s at %s", c.Service, c.Site))
	}
	return strings.Join(out, ", ")
}

// lost is what a member of two sites has to say that has lost the other.
func (v sight) lost() []alarm {
	a := alarm{key: "leader:" + string(v.status.Self), page: true, after: alarmLeaderless, command: "draasd takeover --old-site-is-off",
		text: "the other site cannot be reached, and two sites have no third to decide: permits run out and nothing serves. When you have made sure that the other site is off and stays off, take over here"}
	var units []string
	for _, u := range v.alone.Lost {
		units = append(units, string(u.Service))
		a.reasons = append(a.reasons, u.Reasons...)
	}
	if len(v.alone.Fence) > 0 {
		a.text = fmt.Sprintf("the other site is lost, with %s: devices are asked to switch it off. When all have confirmed that it is off this site takes over; it is not, as long as this alarm stands. When you have made sure yourself, take over here", strings.Join(units, ", "))
	}
	return []alarm{a}
}

// single is a member of two sites that decides alone.
func (v sight) single() []alarm {
	if !decidesAlone(v.core) {
		return nil
	}
	var out []alarm
	for _, m := range v.state.Policy.Members {
		if m.ID != v.status.Self && !slices.ContainsFunc(v.core.Members, func(c quorum.MemberStatus) bool { return c.ID == m.ID }) {
			a := alarm{key: "single:" + string(m.ID),
				text: fmt.Sprintf("%s is not in the cluster: this site decides alone, and nothing can be moved", m.ID)}
			if v.core.Generation.Number > 0 { // not by a goodbye
				a.page, a.text = true, fmt.Sprintf("%s was lost and the cluster started anew without it: this site decides alone, and nothing can be moved until %s has joined it", m.ID, m.ID)
			}
			out = append(out, a)
		}
	}
	for _, u := range v.alone.Lost {
		out = append(out, alarm{key: "lost:" + string(u.Service), service: u.Service, page: true, after: alarmLeaderless, reasons: u.Reasons,
			text:    fmt.Sprintf("%s is active at %s, which was lost, and has not been taken over", u.Service, u.Site),
			command: fmt.Sprintf("draasd failover %s --vouch", u.Service)})
	}
	return out
}
