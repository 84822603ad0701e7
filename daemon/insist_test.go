package daemon

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// newLed is a lab whose witness leads and whose daemons can be got hold of. It is
// led for a while yet when the witness stands still: a second at the least.
func newLed(t *testing.T) (*lab, map[string]*Daemon) {
	t.Helper()
	l := newLabOf(t, "cautious")
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
	l.activateWithin(30 * time.Second)
	l.await("the witness leads", 30*time.Second, func() bool {
		s, dr := l.status("witness"), l.status("dr")
		return s != nil && dr != nil && s.Leader == "witness" && dr.Leader == "witness"
	})
	return l, daemons
}

// freeze has a daemon stand still until melt.
func freeze(t *testing.T, d *Daemon) (melt func()) {
	frozen, end := make(chan struct{}), make(chan struct{})
	d.loop.post(func(*loop) {
		close(frozen)
		<-end
	})
	<-frozen
	melt = sync.OnceFunc(func() { close(end) })
	t.Cleanup(melt)
	return melt
}

// pauses counts the pauses that dr knows of.
func (l *lab) pauses() (n int) {
	l.t.Helper()
	history, err := l.client("dr").History(l.t.Context(), "", 100)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range history {
		if r.Kind == failover.RecordPause {
			n++
		}
	}
	return n
}

func pauseWeb() api.Request {
	return api.Request{Service: "web", Request: failover.Request{Ask: failover.AskPause, Operator: "ann", Reason: "x", For: time.Hour}}
}

// An operator asks while the leader stands still: what was on its way to that one
// is lost, and decided by the next leader, once.
func TestRequestOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	l, daemons := newLed(t)
	freeze(t, daemons["witness"])
	ctx, cancel := context.WithTimeout(t.Context(), 2*apiTimeout)
	defer cancel()
	a, err := l.client("dr").Request(ctx, pauseWeb())
	if err != nil || !a.Accepted {
		t.Fatalf("%+v, %v", a, err)
	}
	if s := l.status("dr"); s == nil || s.Leader == "witness" {
		t.Fatalf("the witness still leads: %+v", s)
	}
	if n := l.pauses(); n != 1 {
		t.Errorf("decided %d times", n)
	}
}

// Nobody is surprised by what he has asked for and given up, once there is a
// leader again.
func TestRequestEndsWithItsAsker(t *testing.T) {
	t.Parallel()
	l, daemons := newLed(t)
	melt := freeze(t, daemons["primary"]) // so that dr cannot lead
	freeze(t, daemons["witness"])
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := l.client("dr").Request(ctx, pauseWeb())
		ended <- err
	}()
	waiting := func() (n int) {
		if err := daemons["dr"].loop.call(t.Context(), func(l *loop) { n = len(l.waiting) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	l.await("it was proposed", 5*time.Second, func() bool { return waiting() == 1 })
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("it was decided by one of three")
	}
	l.await("it is given up", 5*time.Second, func() bool { return waiting() == 0 })
	melt()
	l.await("another leads", 20*time.Second, func() bool {
		s := l.status("dr")
		return s != nil && s.Leader != "" && s.Leader != "witness"
	})
	if a := l.request("primary", api.Request{Request: failover.Request{Ask: failover.AskAcknowledge, Operator: "bob"}}); !a.Accepted {
		t.Fatalf("%+v", a.Record)
	}
	l.await("dr knows of it", 5*time.Second, func() bool {
		history, err := l.client("dr").History(t.Context(), "", 100)
		return err == nil && slices.ContainsFunc(history, func(r failover.Record) bool { return r.Kind == failover.RecordAcknowledge })
	})
	if n := l.pauses(); n != 0 {
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
