package soak

import (
	"io"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

func statusOf(epoch draas.Epoch, active draas.SiteID, phase failover.Phase, self draas.MemberID, fence string) *api.Status {
	return &api.Status{Self: self, Services: []api.ServiceStatus{{ID: byKernel, Epoch: epoch, Active: active, Phase: phase}},
		Reported: []api.Reported{{Member: self, Suspicions: 3, Fences: []api.FenceStatus{{Service: byKernel, State: fence}}}}}
}

// A member that goes backwards within one run of its daemon is found out.
func TestOperatorsSeeEpochsFall(t *testing.T) {
	b := newBook(io.Discard)
	o := newOperators(nil, b)
	o.suspicions[dr] = make(map[int]uint64)
	last := make(map[draas.ServiceID]draas.Epoch)
	for _, epoch := range []draas.Epoch{1, 2, 2} {
		o.hold(statusOf(epoch, dr, failover.PhaseElsewhere, dr, "open"), dr, 1, last)
	}
	if wrong := b.wrong(); len(wrong) > 0 || o.suspicions[dr][1] != 3 {
		t.Fatalf("%v; suspicions %v", wrong, o.suspicions)
	}
	o.hold(statusOf(1, dr, failover.PhaseElsewhere, dr, "open"), dr, 1, last)
	if wrong := b.wrong(); len(wrong) != 1 || !strings.Contains(wrong[0], "epoch 1 of kern after 2") {
		t.Errorf("it fell back from 2 to 1: %v", wrong)
	}
}

func TestSettledAt(t *testing.T) {
	good := statusOf(4, dr, failover.PhaseElsewhere, dr, "open")
	for _, tc := range []struct {
		name string
		s    *api.Status
		bad  string
	}{
		{"the active site", good, ""},
		{"the other site", statusOf(4, dr, failover.PhaseElsewhere, primary, "closed"), ""},
		{"moving", statusOf(4, dr, failover.PhaseFencing, primary, "closed"), "is fencing"},
		{"behind", statusOf(3, primary, failover.PhaseNormal, primary, "closed"), "under 3"},
		{"active and closed", statusOf(4, dr, failover.PhaseElsewhere, dr, "closed"), "is closed, not open"},
		{"both open", statusOf(4, dr, failover.PhaseElsewhere, primary, "open"), "is open, not closed"},
		{"never heard of it", &api.Status{Self: witness}, "does not know"},
	} {
		err := new(operators).settledAt(tc.s, good, byKernel)
		if (err == nil) != (tc.bad == "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.bad)
		}
	}
}

func TestVoters(t *testing.T) {
	log := func(roles ...api.LogRole) *api.Status {
		s := &api.Status{Self: dr}
		for _, r := range roles {
			s.Log = append(s.Log, api.LogMember{ID: dr, Role: r})
		}
		return s
	}
	v := api.LogVoter
	if err := voters(log(v, v, v)); err != nil {
		t.Error(err)
	}
	quarantined := log(v, v, v)
	quarantined.Log[1].Quarantine = "went backwards"
	for _, s := range []*api.Status{log(), log(v, v), log(v, v, api.LogLearner), log(v, v, v, v), quarantined} {
		if voters(s) == nil {
			t.Errorf("all is well with %+v", s.Log)
		}
	}
}
