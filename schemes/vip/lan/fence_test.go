package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// Renewals lose no packet, of a user and of the questions who has the address.
func TestRenewalsLoseNothing(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			h := w.open(nil, a)
			take(t, h, 10*time.Second)
			done := make(chan string)
			go func() {
				// The exit status is by what was lost, too.
				out, _ := shell(w.user, fmt.Sprintf("ping -q -c 400 -i 0.001 -W 1 %s", addr(a)))
				done <- out
			}()
			for n := 0; ; n++ {
				select {
				case out := <-done:
					if !strings.Contains(out, "400 received") || n < 50 {
						t.Errorf("%d renewals: %s", n, out)
					}
					return
				default:
					if err := h.Extend(inTime(10 * time.Second)); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// A permit that is written late, by a process that was stopped after it read the
// clock, opens nothing: neither the kernel's timer nor its wall clock alone is
// what shuts the fence.
func TestLateWrite(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	start := now()
	clock := func() draas.Reading { return start }
	f := newFence("late", []netip.Addr{addr(vip4), addr(vip6)}, clock)
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	w.in(nil, "ip address add "+vip4+" dev lan0", "ip address add "+vip6+" dev lan0 nodad")
	for what, c := range map[string]struct {
		deadline draas.Deadline
		open     bool
	}{
		"in time":                        {draas.DeadlineAt(start, time.Minute), true},
		"late by the wall clock":         {draas.Deadline{Boot: start.Boot + time.Minute, Wall: start.Wall + time.Nanosecond}, false},
		"after the timer, wall set back": {draas.Deadline{Boot: start.Boot + 100*time.Millisecond, Wall: start.Wall + time.Minute}, false},
	} {
		if err := f.open(c.deadline); err != nil {
			t.Fatal(err)
		}
		written := now().Boot
		eventually(t, "the time is over", func() bool { return now().Boot > written+120*time.Millisecond })
		for _, a := range []string{vip4, vip6} {
			said, err := visit(w.user, a, 300*time.Millisecond)
			if open := err == nil && said == "first"; open != c.open {
				t.Errorf("%s, %s: %q, %v", what, a, said, err)
			}
		}
		if found := w.answers(w.user, firstMAC, vip4, vip6); c.open == (len(found) == 0) {
			t.Errorf("%s: %q", what, found)
		}
	}
	if err := f.open(draas.DeadlineAt(start, 0)); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("a deadline that has passed: %v", err)
	}
}

// The deadline is judged again when the kernel has it.
func TestPassedWhileWriting(t *testing.T) {
	borrow(t)
	start, calls := now(), 0
	f := newFence("slow", []netip.Addr{addr(vip4)}, func() draas.Reading {
		calls++
		return start.Add(time.Duration(calls) * time.Second)
	})
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	if err := f.open(draas.DeadlineAt(start, 1500*time.Millisecond)); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("opened: %v", err)
	}
	elems, err := f.conn.GetSetElements(f.rules.tables[0].open)
	if err != nil || len(elems) != 0 {
		t.Errorf("open: %v, %v", elems, err)
	}
}

// What the kernel leads on to a server is fenced, too: the fence stands before
// the translation, and behind that of the answers.
func TestTranslated(t *testing.T) {
	w := borrow(t)
	r := w.start(w.second, nil)
	if got := r.do(order{Do: "open", Name: "second", Addrs: addresses(back)}); got.Err != "" {
		t.Fatal(got.Err)
	}
	h := w.open(nil, vip4)
	w.in(nil, "sysctl -qw net.ipv4.ip_forward=1", fmt.Sprintf(`nft 'add table ip web
		add chain ip web to { type nat hook prerouting priority dstnat; }
		add chain ip web from { type nat hook postrouting priority srcnat; }
		add rule ip web to ip daddr %s tcp dport 80 dnat to 10.8.0.%d
		add rule ip web from oifname lan1 masquerade'`, addr(vip4), secondN))
	t.Cleanup(func() { w.in(nil, "sysctl -qw net.ipv4.ip_forward=0") })
	w.in(nil, "ip address add "+vip4+" dev lan0")
	visitByMAC := func() (string, error) {
		w.in(w.user, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", addr(vip4), firstMAC))
		return visit(w.user, vip4, 200*time.Millisecond)
	}
	if said, err := visitByMAC(); err == nil {
		t.Errorf("shut: %q", said)
	}
	take(t, h, 300*time.Millisecond)
	if said, err := visitByMAC(); err != nil || said != "second" {
		t.Errorf("open: %q, %v", said, err)
	}
	event(t, h, Expired)
	if said, err := visitByMAC(); err == nil {
		t.Errorf("shut again: %q", said)
	}
}
