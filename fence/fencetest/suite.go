package fencetest

import (
	"context"
	"errors"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/internal/lab"
)

// Subject is one fence with a living service behind it, and its users.
type Subject struct {
	Fence fence.Fence
	Clock fence.Clock
	// Ask is one request of a user on a new connection; nil when it was
	// answered.
	Ask func(context.Context) error
	// Connect makes a user's connection that stays; ask sends one request on
	// it.
	Connect func(context.Context) (ask func(context.Context) error, err error)
	// SelfTimed says that the fence closes at its deadline with nobody calling
	// Close.
	SelfTimed bool
	// Late is the time after which "soon" has failed; zero means 5 s.
	Late time.Duration
}

// Run checks that the fences which make returns keep the contract of
// fence.Fence. Each case gets its own.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	cases := []struct {
		name string
		run  func(*testing.T, *subject)
	}{
		{"closed at first", closedAtFirst},
		{"open, extend, close", openExtendClose},
		{"close is idempotent", closeTwice},
		{"open is idempotent", openTwice},
		{"opens again", opensAgain},
		{"a passed deadline does not open", passedDeadline},
		{"close cuts who is connected", cutsConnected},
		{"the deadline closes by itself", selfTimed},
		{"an extended deadline holds", extendedHolds},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			if s.Late == 0 {
				s.Late = 5 * time.Second
			}
			if s.Fence.Worst() <= 0 {
				t.Fatal("Worst must be positive")
			}
			c.run(t, &subject{T: t, Subject: s})
		})
	}
}

type subject struct {
	*testing.T
	Subject
}

func (s *subject) permit(e draas.Epoch, d time.Duration) fence.Permit {
	return fence.Permit{Epoch: e, Deadline: draas.DeadlineAt(s.Clock.Now(), d)}
}

func (s *subject) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// state waits a little for a state: commands take their time.
func (s *subject) state(want fence.State) {
	s.Helper()
	var last fence.State
	var err error
	s.soon(func() bool {
		last, err = s.Fence.State(s.Context())
		return last == want
	}, func() { s.Fatalf("state %s (%v), want %s", last, err, want) })
}

func (s *subject) reachable(want bool) {
	s.Helper()
	var err error
	s.soon(func() bool {
		err = s.request(s.Ask)
		return (err == nil) == want
	}, func() { s.Fatalf("reachable %v (%v), want %v", err == nil, err, want) })
}

func (s *subject) request(ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	return ask(ctx)
}

// soon polls until ok, or calls failed once it is late.
func (s *subject) soon(ok func() bool, failed func()) {
	s.Helper()
	end := time.Now().Add(s.Late)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			failed()
			return
		}
		<-tick.C
	}
}

func (s *subject) close() {
	s.Helper()
	s.must("close", s.Fence.Close(s.Context()))
	s.state(fence.Closed)
}

func (s *subject) open(p fence.Permit) {
	s.Helper()
	s.must("open", s.Fence.Open(s.Context(), p))
	s.state(fence.Open)
	s.reachable(true)
}

func closedAtFirst(_ *testing.T, s *subject) {
	s.close()
	s.reachable(false)
}

func openExtendClose(_ *testing.T, s *subject) {
	s.close()
	s.open(s.permit(1, time.Minute))
	s.must("extend", s.Fence.Extend(s.Context(), s.permit(1, 2*time.Minute)))
	s.state(fence.Open)
	s.must("extend to the next epoch", s.Fence.Extend(s.Context(), s.permit(2, 2*time.Minute)))
	s.reachable(true)
	s.close()
	s.reachable(false)
}

func closeTwice(_ *testing.T, s *subject) {
	s.close()
	s.close()
	s.open(s.permit(1, time.Minute))
	s.close()
	s.close()
	s.reachable(false)
}

func openTwice(_ *testing.T, s *subject) {
	s.close()
	s.open(s.permit(1, time.Minute))
	s.open(s.permit(1, time.Minute))
	s.close()
	s.reachable(false)
}

func opensAgain(_ *testing.T, s *subject) {
	s.close()
	for e := range draas.Epoch(3) {
		s.open(s.permit(e+1, time.Minute))
		s.close()
		s.reachable(false)
	}
}

func passedDeadline(t *testing.T, s *subject) {
	if !s.SelfTimed {
		return // the guard judges for those who only run commands
	}
	s.close()
	now := s.Clock.Now()
	for name, d := range map[string]draas.Deadline{
		"by both clocks":     draas.DeadlineAt(now, -time.Millisecond),
		"by the boot clock":  {Boot: now.Boot - 1, Wall: now.Wall + time.Minute},
		"by the wall clock":  {Boot: now.Boot + time.Minute, Wall: now.Wall - 1},
		"the zero, too":      {},
		"and that very tick": {Boot: now.Boot, Wall: now.Wall},
	} {
		if err := s.Fence.Open(t.Context(), fence.Permit{Epoch: 1, Deadline: d}); !errors.Is(err, draas.ErrExpired) {
			t.Errorf("open with a deadline passed %s: %v, want ErrExpired", name, err)
		}
		s.state(fence.Closed)
		s.reachable(false)
	}
}

func cutsConnected(t *testing.T, s *subject) {
	s.close()
	s.open(s.permit(1, time.Minute))
	ask, err := s.Connect(t.Context())
	s.must("connect", err)
	s.must("ask on the connection", s.request(ask))
	s.close()
	if s.request(ask) == nil {
		t.Fatal("a connected user was answered after the close")
	}
}

func selfTimed(t *testing.T, s *subject) {
	if !s.SelfTimed {
		return // the guard holds the deadline for it
	}
	s.close()
	s.open(s.permit(1, time.Minute))
	ask, err := s.Connect(t.Context())
	s.must("connect", err)
	// Only the guard never shortens a permit; a fence holds what it is given.
	p := s.permit(1, 1500*time.Millisecond)
	s.must("extend", s.Fence.Extend(t.Context(), p))
	var last draas.Reading
	late := lab.Late(func() {
		for !p.Deadline.Passed(s.Clock.Now().Add(-s.Fence.Worst() - 50*time.Millisecond)) {
			for _, ask := range []func(context.Context) error{ask, s.Ask} {
				if s.request(ask) == nil {
					last = s.Clock.Now()
				}
			}
		}
	})
	if last.Boot == 0 {
		t.Fatal("never answered")
	}
	// An answer comes as much later as the machine stalled on its way.
	if over := last.Boot - p.Deadline.Boot; over > s.Fence.Worst()+late {
		t.Fatalf("last answer %v after the deadline, bound %v; the machine let nobody run for %v", over, s.Fence.Worst(), late)
	}
	s.reachable(false)
}

func extendedHolds(t *testing.T, s *subject) {
	s.close()
	first := s.permit(1, time.Second)
	s.must("open", s.Fence.Open(t.Context(), first))
	s.must("extend", s.Fence.Extend(t.Context(), s.permit(1, time.Minute)))
	s.reachable(true)
	ask, err := s.Connect(t.Context())
	s.must("connect", err)
	for !first.Deadline.Passed(s.Clock.Now().Add(-50 * time.Millisecond)) {
		s.must("ask before and after the first deadline", s.request(ask))
	}
	s.close()
}
