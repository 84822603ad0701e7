package soak

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// seenAt is the handover with the instants at which it was seen.
func seenAt(t *testing.T) *register {
	t.Helper()
	r := newRegister()
	for _, a := range handover {
		rec := failover.Record{Index: 10 * a.Epoch, At: time.Unix(0, a.At), Kind: failover.RecordPhase, Phase: failover.PhaseRedirecting,
			Epoch: draas.Epoch(a.Epoch), By: draas.MemberID(a.Site)}
		if _, news := r.record(rec, a.At+50*ms); !news {
			t.Fatalf("epoch %d is no news", a.Epoch)
		}
		if _, news := r.record(rec, a.At+90*ms); news {
			t.Fatalf("epoch %d is news again", a.Epoch)
		}
	}
	return r
}

func TestRegister(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reads []read
		users []answer
		bad   string // in the complaint; empty: none
	}{
		{"in order", []read{{10 * ms, 60 * ms, 1}, {1100 * ms, 1110 * ms, 2}, {2100 * ms, 2110 * ms, 3}}, []answer{at(0, 10, 20), at(1, 1010, 1020)}, ""},
		{"while it changes, either", []read{{990 * ms, 1060 * ms, 1}, {990 * ms, 1060 * ms, 2}}, nil, ""},
		{"stale", []read{{1100 * ms, 1110 * ms, 1}}, nil, "opEpoch"},
		{"old after new", []read{{1000 * ms, 1010 * ms, 2}, {1020 * ms, 1030 * ms, 1}}, nil, "opEpoch"},
		{"ahead of the log", []read{{10 * ms, 20 * ms, 2}}, nil, "opEpoch"},
		{"an answer of who is not active", nil, []answer{at(1, 500, 510)}, "opSite"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, s := seenAt(t), newServing()
			for _, x := range tc.reads {
				r.asked(x.Call, x.Return, draas.Epoch(x.Epoch))
			}
			for i, a := range tc.users {
				s.spans[uint64(i+1)] = &span{First: a, Last: a, Answers: 1}
			}
			_, err := r.linearizable(s, 5000*ms, time.Minute)
			if tc.bad == "" && err != nil || tc.bad != "" && (err == nil || !strings.Contains(err.Error(), tc.bad)) {
				t.Errorf("the check says %v, want %q", err, tc.bad)
			}
		})
	}
}

// Two members that tell different stories of one epoch are found out, and so
// is an epoch that nobody activated.
func TestRegisterDisagreement(t *testing.T) {
	r := seenAt(t)
	r.record(failover.Record{Index: 20, At: time.Unix(0, 1000*ms), Kind: failover.RecordPhase, Phase: failover.PhaseRedirecting, Epoch: 2, By: primary}, 3000*ms)
	if _, err := r.linearizable(newServing(), 5000*ms, time.Minute); err == nil {
		t.Error("epoch 2 stands at both sites, and nobody minds")
	}
	r = seenAt(t)
	delete(r.log, 2)
	if _, err := r.linearizable(newServing(), 5000*ms, time.Minute); err == nil {
		t.Error("epoch 2 is missing, and nobody minds")
	}
}

// What was read after everybody was last asked for activations says nothing.
func TestReadBeyondWhatIsKnown(t *testing.T) {
	r := seenAt(t)
	r.asked(4000*ms, 4001*ms, 4)
	if _, err := r.linearizable(newServing(), 3999*ms, time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := r.linearizable(newServing(), 4001*ms, time.Minute); err == nil {
		t.Error("epoch 4 was read, and nobody activated it")
	}
}

// An epoch that was seen shows that those before it were committed.
func TestSeen(t *testing.T) {
	r := seenAt(t)
	r.observe(2, 20*ms)
	var got []instant
	for _, a := range r.activations() {
		got = append(got, a.Seen)
	}
	if want := []instant{20 * ms, 20 * ms, 2050 * ms}; !slices.Equal(got, want) {
		t.Errorf("seen at %v, want %v", got, want)
	}
}

func TestThin(t *testing.T) {
	var reads []read
	for i := range instant(100) {
		reads = append(reads, read{Call: i, Return: i + 1, Epoch: uint64(1 + i/50)})
	}
	got := thin(reads)
	if len(got) != 4*keepReads || got[0].Return != 1 || got[2*keepReads-1].Return != 50 || got[4*keepReads-1].Return != 100 {
		t.Errorf("thinned to %v", got)
	}
}
