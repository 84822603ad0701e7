package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// An operator asks while the leader stands still: what was on its way to that one
// is lost, and decided by the next leader, once.
func TestRequestOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	daemons := make(map[string]*Daemon)
	for _, site := range []string{"primary", "dr"} {
		l.startService(site)
		l.startGuard(site)
	}
	for _, m := range []string{"primary", "dr", "witness"} {
		d, err := New(Options{ConfigPath: l.file(m), Log: l.log})
		if err != nil {
			t.Fatal(err)
		}
		daemons[m] = d
		l.start("daemon "+m, d.Run)
	}
	l.activate()
	l.await("the witness leads", 20*time.Second, func() bool {
		s, dr := l.status("witness"), l.status("dr")
		return s != nil && dr != nil && s.Leader == "witness" && dr.Leader == "witness"
	})
	frozen, melt := make(chan struct{}), make(chan struct{})
	daemons["witness"].loop.post(func(*loop) {
		close(frozen)
		<-melt
	})
	<-frozen
	defer close(melt)
	ctx, cancel := context.WithTimeout(t.Context(), 2*apiTimeout)
	defer cancel()
	a, err := l.client("dr").Request(ctx, api.Request{Service: "web", Request: failover.Request{Ask: failover.AskPause, Operator: "ann", Reason: "x", For: time.Hour}})
	if err != nil || !a.Accepted {
		t.Fatalf("%+v, %v", a, err)
	}
	if s := l.status("dr"); s == nil || s.Leader == "witness" {
		t.Fatalf("the witness still leads: %+v", s)
	}
	history, err := l.client("dr").History(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range history {
		if r.Kind == failover.RecordPause {
			n++
		}
	}
	if n != 1 {
		t.Errorf("decided %d times", n)
	}
}

// Of two requests of one member the later one would void the other, so it waits.
func TestRequestsWaitForEachOther(t *testing.T) {
	t.Parallel()
	l := newLoop(nil, nil)
	l.asking <- struct{}{} // the first one's
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.request(ctx, "web", "", failover.Request{Ask: failover.AskResume}); err == nil || !strings.Contains(err.Error(), "another request is waiting for its decision") {
		t.Fatalf("%v", err)
	}
	if len(l.inbox) > 0 {
		t.Fatal("it was proposed")
	}
}
