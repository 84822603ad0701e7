package lan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// wait has Take wait so long for answers, which it does not when they come at once:
// how busy the machine of the test is makes no difference then.
func (h *Host) wait(patience time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.patience = patience
}

// Another host with one of the addresses: nothing is taken, Fit says so and, when
// it is gone, says so too.
func TestStranger(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			h := w.open([]Station{{Name: "second", MAC: mustMAC(secondMAC)}}, vip4, vip6, back)
			w.add(w.user, a)
			h.wait(5 * time.Second)
			err := h.Take(context.Background(), inTime(10*time.Second))
			var conflict *ConflictError
			if !errors.As(err, &conflict) || conflict.MAC.String() != userMAC || conflict.Address.Prefix.String() != a {
				t.Fatalf("taken: %v", err)
			}
			for _, s := range h.Status().Addresses {
				if s.Present {
					t.Errorf("%s was added", s.Address)
				}
			}
			if err := h.Fit(); !errors.As(err, &conflict) {
				t.Errorf("fit: %v", err)
			}
			w.in(w.user, fmt.Sprintf("ip address del %s dev lan0", a))
			if a == vip6 {
				return
			}
			h.wait(probeWait)
			eventually(t, "the stranger is forgotten", func() bool { return h.Fit() == nil })
			take(t, h, time.Second)
		})
	}
}

// repeatedly sends a frame from the user until it is stopped.
func (w *world) repeatedly(frame []byte) (stop func()) {
	_, four, six := w.ears(w.user, "lan0")
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				_ = four.send(frame) // what is not heard the test shows
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		four.close()
		six.close()
	}
}

// Another host that is starting, and asks whether it may have the address, is
// one too.
func TestStrangerAsks(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	h.wait(5 * time.Second)
	stop := w.repeatedly(probe(addr(vip4), mustMAC(userMAC)))
	defer stop()
	if err := h.Take(context.Background(), inTime(10*time.Second)); !errors.As(err, new(*ConflictError)) {
		t.Errorf("taken: %v", err)
	}
}

// What comes back of the host's own words, by another of its interfaces or a loop
// of the network, is nobody else; nor is what is said on another network.
func TestOwnVoice(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, back)
	h.wait(200 * time.Millisecond)
	const otherMAC = "02:00:00:00:01:01" // of lan1
	stop := w.repeatedly(announcement(addr(vip4), mustMAC(otherMAC))[0])
	err := h.Take(context.Background(), inTime(20*time.Second))
	stop()
	if err != nil {
		t.Fatal(err)
	}
	// On the other network somebody may have what he likes.
	l, four, six := w.ears(w.user, "lan1")
	defer four.close()
	defer six.close()
	if err := four.send(announcement(addr(vip4), l.mac)...); err != nil {
		t.Fatal(err)
	}
	if err := four.send(announcement(addr(back), l.mac)...); err != nil {
		t.Fatal(err)
	}
	if e := event(t, h, Conflict); e.Addr != addr(back) {
		t.Errorf("%+v", e)
	}
	if s := h.Status(); s.Addresses[0].Conflict != nil {
		t.Errorf("%+v", s.Addresses[0])
	}
}

// A friend that still answers is one whose lease is over.
func TestFriendIsLate(t *testing.T) {
	w := borrow(t)
	h := w.open([]Station{{Name: "second", MAC: mustMAC(secondMAC)}}, vip4, vip6)
	w.add(w.second, vip6)
	h.wait(200 * time.Millisecond)
	take(t, h, 10*time.Second)
	e := event(t, h, Stale)
	if !strings.Contains(e.Text, "second") || e.Addr != addr(vip6) {
		t.Errorf("%+v", e)
	}
	w.in(w.second, fmt.Sprintf("ip address del %s dev lan0", vip6))
}

// Another host that claims a held address is told of, and not fought: one more
// announcement in ten seconds.
func TestClaimedWhileHeld(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			serve(t, "first")
			h := w.open([]Station{{Name: "second", MAC: mustMAC(secondMAC)}}, vip4, vip6)
			take(t, h, 20*time.Second)
			heard := w.overhear(w.second, "lan0")
			mine := func() int {
				n := 0
				for _, c := range heard.claims(addr(a)) {
					if c.mac.String() == firstMAC {
						n++
					}
				}
				return n
			}
			eventually(t, "what is announced after it was taken", func() bool { return mine() >= 2*len(announcement(addr(a), mustMAC(firstMAC))) })
			before := mine()
			w.claim(w.user, a, a, a, a, a)
			e := event(t, h, Conflict)
			if !strings.Contains(e.Text, userMAC) || !strings.Contains(e.Text, "another host") || e.Addr != addr(a) {
				t.Errorf("%+v", e)
			}
			eventually(t, "it is announced once more", func() bool { return mine() > before })
			w.claim(w.second, a)
			if e := event(t, h, Conflict); !strings.Contains(e.Text, "frontend second") {
				t.Errorf("%+v", e)
			}
			s := h.Status()
			if got := mine() - before; !s.Held || got > len(announcement(addr(a), mustMAC(firstMAC))) {
				t.Errorf("%d announcements, %+v", got, s)
			}
			if said, err := visit(w.user, a, 500*time.Millisecond); err != nil || said != "first" {
				t.Errorf("%q, %v", said, err)
			}
			select {
			case e := <-h.Events():
				t.Errorf("told of again: %+v", e)
			default:
			}
		})
	}
}

// What the holder before said, and is only read now, is no answer to a question
// that came later.
func TestOldNews(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	heard := make(chan time.Duration)
	l, four, six := w.ears(w.second, "lan0")
	defer six.close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := four.hear(func(_ sight, came time.Duration) { heard <- came }); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer four.close()
	var came time.Duration
	// The kernel begins to stamp a moment after it was told to.
	eventually(t, "a frame's time is that of when it came", func() bool {
		before := time.Duration(time.Now().UnixNano())
		w.claim(w.user, vip4) // two frames: the second waits until the first is taken
		after := time.Duration(time.Now().UnixNano())
		<-heard
		came = <-heard
		return came >= before && came <= after
	})
	s := hearing{place: h.places[0], sight: sight{addr: addr(vip4), mac: l.mac}, came: came}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.question.wall = came + 1
	if err := h.judge(s); err != nil {
		t.Errorf("before the question: %v", err)
	}
	h.question.wall = came
	if err := h.judge(s); !errors.As(err, new(*ConflictError)) {
		t.Errorf("after the question: %v", err)
	}
}

// What the holder before said, and the keeper takes up only when the address is
// held, is no conflict: it is not told of, not answered, and leaves no rival whom
// this host would ask for when it has dropped the address.
func TestOldNewsWhileHeld(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip6)
	take(t, h, 20*time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	s := hearing{place: h.places[0], sight: sight{addr: addr(vip6), mac: mustMAC(secondMAC)}, came: h.question.wall - 1}
	h.noted(s)
	if p := h.places[0]; p.rival != nil || p.defended != 0 || len(h.events) > 0 {
		t.Errorf("before the question: rival %v, defended at %v, %d events", p.rival, p.defended, len(h.events))
	}
	// A wall clock that was set back hides nobody for long.
	h.question.boot -= oldNews
	h.noted(s)
	if p := h.places[0]; p.rival.String() != secondMAC || p.defended == 0 || len(h.events) != 1 {
		t.Errorf("long after the question: rival %v, defended at %v, %d events", p.rival, p.defended, len(h.events))
	}
	h.places[0].rival, h.places[0].told = nil, 0
	h.question.boot = h.cfg.Clock().Boot
	s.came = h.question.wall
	if h.noted(s); h.places[0].rival == nil || len(h.events) != 2 {
		t.Errorf("after the question: rival %v, %d events", h.places[0].rival, len(h.events))
	}
}
