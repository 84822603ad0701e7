package config

import (
	"time"

	"github.com/draasd/draas"
)

// targetLost is a planned move whose target is lost while it is under way. It is
// two things at once, one of which somebody asked for: it is told, and neither
// max_rto nor how long users wait at frontends is held against it.
const targetLost = "target lost"

// undoEntries are the entries of the log from the old site's last answer to its
// next one: Release, Activate, verdict, Revoke, Activate.
const undoEntries = 5

// TakeWithin is how long a site may take to be active when nothing stands
// against that any more, before a move turns back: the log's leader may have
// been lost and another is elected, and then the proposal is lost once and made
// again after four heartbeats.
func (c *Config) TakeWithin() time.Duration { return 2*c.Raft.Election + 6*c.Raft.Heartbeat }

// untilUndone are the terms of a planned move whose target is lost, up to the
// old site's activation, by those of a lost site. The worst instant is right
// after the target took over, when it may have renewed for the last time and
// has served nobody: then it is as a lost site, after the old one has closed,
// and nothing is watched before the undo. Before that instant nobody has a
// permit, and take is what is waited for at most.
func (c *Config) untilUndone(s *Service, site []Term, fence Term) []Term {
	l := s.Timing.Lease
	detect, device := find(site, "detect"), find(site, "device")
	// While a site just activated is coming up only the silence of its daemon
	// counts, which is asked by the profile.
	peer := Check{Interval: c.Profile.Interval, Timeout: c.Profile.Timeout, Fall: c.Profile.Fall, Jitter: c.Profile.Jitter}
	if w := peer.worstSilent(); w > detect.Worst {
		detect = Term{"detect", w, max(detect.Typical, peer.typicalSilent()), "profile"}
	}
	elect := Term{"elect", max(0, 2*c.Raft.Election-detect.Worst), 0, "profile"}
	lease := Term{
		Name:    "lease",
		Worst:   max(0, l.Wait()-detect.Worst-elect.Worst),
		Typical: max(0, l.Wait()-s.Timing.Renew/2-detect.Typical),
		Sets:    s.policyPath() + ".lease",
	}
	off := switchOff(c.parts(s))
	switch {
	case s.OnLeaseLoss == draas.LeaseLossServe:
		lease.Worst, lease.Typical = 0, 0
	case c.TwoSite:
		device.Worst, device.Typical = max(0, off-lease.Worst), max(0, off/2-lease.Typical)
	}
	take := Term{Name: "take", Worst: c.TakeWithin(), Sets: "profile"}
	take = take.behind(detect, elect, lease, device)
	return []Term{fence, detect, elect, lease, device, take}
}
