package demo

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// calm is a cluster in which the primary serves and all see each other.
func calm() *api.Status {
	s := &api.Status{At: time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC), Leader: witness}
	sv := api.ServiceStatus{ID: service, Phase: failover.PhaseNormal, Active: "primary", Epoch: 1}
	for _, m := range members() {
		st := api.MemberStatus{ID: m, Started: true, SameConfig: true, SeenBy: make(map[draas.MemberID]draas.Verdict)}
		for _, by := range members() {
			if by != m {
				st.SeenBy[by] = draas.Healthy
			}
		}
		s.Members = append(s.Members, st)
		sv.Views = append(sv.Views, api.View{Site: "primary", Vantage: m, Verdict: draas.Healthy})
	}
	sv.Views = append(sv.Views, api.View{Site: "dr", Vantage: dr, Verdict: draas.Healthy})
	s.Services = []api.ServiceStatus{sv}
	return s
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name    string
		missing func(*api.Status) string
		change  func(*api.Status)
		want    string
	}{
		{"ready", ready, func(*api.Status) {}, ""},
		{"no leader", ready, func(s *api.Status) { s.Leader = "" }, "no leader"},
		{"no policy", ready, func(s *api.Status) { s.Members = nil }, "policy"},
		{"not started", ready, func(s *api.Status) { s.Members[1].Started = false }, "dr has not started"},
		{"unseen", ready, func(s *api.Status) { s.Members[0].SeenBy[witness] = draas.Unknown }, "witness sees the daemon of primary unknown"},
		{"own service", ready, func(s *api.Status) { s.Services[0].Views[3].Verdict = draas.Failed }, "dr sees its own service failed"},
		{"active", active, func(*api.Status) {}, ""},
		{"elsewhere", active, func(s *api.Status) { s.Services[0].Active = "dr" }, "active at \"dr\""},
		{"verifying", active, func(s *api.Status) { s.Services[0].Phase = failover.PhaseVerifying }, "verifying"},
		{"suspected", active, func(s *api.Status) { s.Services[0].Views[2].Verdict = draas.Suspect }, "witness sees web at primary suspect"},
		{"no target", active, func(s *api.Status) { s.Services[0].Views[3].Verdict = draas.Failed }, "dr sees its own web failed"},
		{"led", ledElsewhere, func(*api.Status) {}, ""},
		{"led here", ledElsewhere, func(s *api.Status) { s.Leader = primary }, "led by \"primary\""},
		{"moved", moved, func(s *api.Status) {
			s.Services[0].Active, s.Services[0].Phase = "dr", failover.PhaseElsewhere
		}, ""},
		{"not moved", moved, func(*api.Status) {}, "active at \"primary\""},
		{"reunited", reunited, func(*api.Status) {}, ""},
		{"one-eyed", reunited, func(s *api.Status) { s.Members[1].SeenBy[primary] = draas.Failed }, "primary sees the daemon of dr failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := calm()
			c.change(s)
			if got := c.missing(s); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("says %q, want %q", got, c.want)
			}
		})
	}
}

func TestPassive(t *testing.T) {
	s := calm()
	s.Self = primary
	s.Services[0].Active, s.Services[0].Epoch = "dr", 2
	if got := passive(s, 2); !strings.Contains(got, "guard") {
		t.Errorf("without a guard: %q", got)
	}
	s.Reported = []api.Reported{{Member: primary, Fences: []api.FenceStatus{{Service: service, State: "open"}}}}
	if got := passive(s, 2); !strings.Contains(got, "fence is open") {
		t.Errorf("with an open fence: %q", got)
	}
	s.Reported[0].Fences[0].State = "closed"
	if got := passive(s, 2); got != "" {
		t.Errorf("closed: %q", got)
	}
	if got := passive(s, 3); got == "" {
		t.Error("passive though it does not know the epoch")
	}
}

func TestDifferences(t *testing.T) {
	was, is := calm(), calm()
	is.Leader = ""
	is.Members[0].SeenBy[dr] = draas.Failed
	is.Services[0].Views[2].Verdict, is.Services[0].Views[2].Class = draas.Suspect, "timeout"
	var got []string
	for _, l := range differences(was, is) {
		got = append(got, l.text)
	}
	want := []string{"no leader", "dr sees the daemon of primary failed", "witness sees web at primary suspect (timeout)"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	if again := differences(is, is); len(again) != 0 {
		t.Errorf("nothing changed, and it says %v", again)
	}
}

func TestRecordLine(t *testing.T) {
	for _, c := range []struct {
		r    failover.Record
		want string
	}{
		{failover.Record{Kind: failover.RecordPhase, Phase: failover.PhaseFencing, Text: "permit 1 of primary is revoked"},
			"fencing: permit 1 of primary is revoked"},
		{failover.Record{Kind: failover.RecordDecision, Epoch: 2, Text: "failover of web"}, "decided, epoch 2: failover of web"},
		{failover.Record{Kind: failover.RecordRefusal, Text: "failover refused", Reasons: []failover.Reason{
			{Code: failover.ReasonVantage, Text: "dr sees"}, {Code: failover.ReasonHold, Text: "held off"}, {Code: failover.ReasonFence, OK: true, Text: "path"}}},
			"failover refused; held off"},
	} {
		if got := recordLine(c.r).text; got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestObserver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	f := startDaemon(t, socket, *calm())
	var out bytes.Buffer
	line := newTimeline(&out, false, calm().At)
	o := newObserver(socket, line)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); o.follow(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; o.client.Close() })

	fine := func() error { return nil }
	if _, err := o.await(ctx, "it is active", 5*time.Second, active, fine); err != nil {
		t.Fatal(err)
	}
	if _, err := o.await(ctx, "it has moved", 20*time.Millisecond, moved, fine); !errors.Is(err, errWait) || !strings.Contains(err.Error(), "normal") {
		t.Errorf("waited for what does not come: %v", err)
	}
	broken := errors.New("dr-draasd has ended")
	if _, err := o.await(ctx, "it has moved", time.Minute, moved, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("went on waiting though a process had ended: %v", err)
	}

	o.start()
	step := func(ms int, seen draas.Verdict) {
		s := calm()
		s.At = s.At.Add(time.Duration(ms) * time.Millisecond)
		s.Members[0].SeenBy[dr] = seen
		f.set(*s)
		if _, err := o.await(ctx, "the step is seen", 5*time.Second, func(got *api.Status) string {
			if got.At.Equal(s.At) {
				return ""
			}
			return "older"
		}, fine); err != nil {
			t.Fatal(err)
		}
	}
	step(100, draas.Suspect)
	step(200, draas.Failed)
	if got := o.observedCut(); got != 0 {
		t.Errorf("a cut of %v has not ended", got)
	}
	step(1350, draas.Healthy)
	step(1400, draas.Suspect)
	step(1450, draas.Healthy)
	if got := o.observedCut(); got != 1250*time.Millisecond {
		t.Errorf("observed a cut of %v, want 1.25s", got)
	}
	line.flushAll()
	if !strings.Contains(out.String(), "   0.200 s  dr sees the daemon of primary failed\n") {
		t.Errorf("the timeline is\n%s", out.String())
	}
}
