package lan

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab"
)

const (
	firstMAC  = "02:00:00:00:00:01"
	secondMAC = "02:00:00:00:00:02"
	userMAC   = "02:00:00:00:00:09"
)

func addr(prefix string) netip.Addr { return netip.MustParsePrefix(prefix).Addr() }

// answers reports which of the addresses anything at all is heard from: a
// connection, an echo, or who has it. What the machine remembers is as before.
func (w *world) answers(m *lab.Machine, mac string, addrs ...string) []string {
	w.t.Helper()
	var found []string
	for _, a := range addrs {
		ip := addr(a)
		w.in(m, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", ip, mac))
		if said, err := visit(m, a, 60*time.Millisecond); err == nil {
			found = append(found, fmt.Sprintf("%s serves: %q", ip, said))
		}
		if out, err := shell(m, fmt.Sprintf("ping -c 2 -i 0.02 -W 0.1 %s", ip)); err == nil {
			found = append(found, fmt.Sprintf("%s echoes: %s", ip, out))
		}
		w.in(m, fmt.Sprintf("ip neigh del %s dev lan0", ip))
	}
	heard := w.overhear(m, "lan0")
	l, four, six := w.ears(m, "lan0")
	for _, a := range addrs {
		e, ip := six, addr(a)
		if ip.Is4() {
			e = four
		}
		if err := e.send(probe(ip, l.mac)); err != nil {
			w.t.Error(err)
		}
	}
	// An ordinary question, too: the first was one that claims nothing.
	for _, a := range addrs {
		_, _ = visit(m, a, 30*time.Millisecond) // nobody is there
		_, _ = shell(m, "ip neigh del "+addr(a).String()+" dev lan0")
	}
	four.close()
	six.close()
	for _, a := range addrs {
		for _, c := range heard.claims(addr(a)) {
			found = append(found, fmt.Sprintf("%s is said to be at %s", c.addr, c.mac))
		}
	}
	return found
}

// A frontend that is killed, or stands still, with the addresses on its
// interface says nothing more for them when its lease is over, whoever asks and
// whatever they remember; and the next frontend has them.
func TestHolderDies(t *testing.T) {
	for _, signal := range []string{"KILL", "STOP"} {
		t.Run(signal, func(t *testing.T) {
			w := borrow(t)
			serve(t, "first")
			h := w.open(nil, vip4, vip6)
			r := w.remote(w.second, nil, nil, vip4, vip6)
			const lease = 300 * time.Millisecond
			start := now().Boot
			if got := r.do(order{Do: "take", For: lease}); got.Err != "" {
				t.Fatal(got.Err)
			}
			if said, err := visit(w.user, vip4, 200*time.Millisecond); err != nil || said != "second" {
				t.Fatalf("%q, %v", said, err)
			}
			if err := r.signal(signal); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the lease is over", func() bool { return now().Boot > start+lease+20*time.Millisecond })
			if list := w.in(w.second, "ip -br address show dev lan0"); !strings.Contains(list, "10.7.0.100/32") || !strings.Contains(list, "fd07::100/128") {
				t.Fatalf("the addresses are not there any more: %s", list)
			}
			if found := w.answers(w.user, secondMAC, vip4, vip6); len(found) > 0 {
				t.Errorf("after its lease: %q", found)
			}
			take(t, h, 10*time.Second)
			for _, a := range []string{vip4, vip6} {
				if said, err := visit(w.user, a, 500*time.Millisecond); err != nil || said != "first" {
					t.Errorf("%s: %q, %v", a, said, err)
				}
			}
			if signal == "STOP" {
				if err := r.signal("CONT"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "what went on has dropped the addresses", func() bool {
					list := w.in(w.second, "ip -br address show dev lan0")
					return !strings.Contains(list, ".100/") && !strings.Contains(list, "::100/")
				})
			}
			// Somebody who has its MAC address written down gets no answer, and not a
			// wrong one.
			w.in(w.user, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", addr(vip4), secondMAC))
			if said, err := visit(w.user, vip4, 100*time.Millisecond); err == nil {
				t.Errorf("by a static entry: %q", said)
			}
			for _, a := range h.Status().Addresses {
				if a.Conflict != nil {
					t.Errorf("seen elsewhere: %+v", a)
				}
			}
		})
	}
}

// Announcements that are lost are made again: nobody waits until what he
// remembers grows old.
func TestAnnouncementsAreLost(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	h := w.open(nil, vip4)
	r := w.remote(w.second, nil, nil, vip4)
	if got := r.do(order{Do: "take", For: 10 * time.Second}); got.Err != "" {
		t.Fatal(got.Err)
	}
	if said, err := visit(w.user, vip4, 500*time.Millisecond); err != nil || said != "second" {
		t.Fatalf("%q, %v", said, err)
	}
	if got := r.do(order{Do: "drop"}); got.Err != "" {
		t.Fatal(got.Err)
	}
	w.in(w.wire, fmt.Sprintf("nft 'add table netdev lost; add chain netdev lost c { type filter hook ingress device p0-%d priority 0; }; add rule netdev lost c ether type arp counter drop'", firstN))
	start := time.Now()
	take(t, h, 10*time.Second)
	if said, err := visit(w.user, vip4, 50*time.Millisecond); err == nil {
		t.Fatalf("nothing was lost: %q", said)
	}
	w.in(w.wire, "nft delete table netdev lost")
	eventually(t, "users find it", func() bool {
		said, err := visit(w.user, vip4, 20*time.Millisecond)
		return err == nil && said == "first"
	})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("found after %v", took)
	}
}

// Without IPv6 the host is not fit, and IPv4 is not taken either.
func TestNoIPv6(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, "fd08::100/128")
	w.in(nil, "sysctl -qw net.ipv6.conf.lan1.disable_ipv6=1")
	t.Cleanup(func() {
		w.in(nil, "sysctl -qw net.ipv6.conf.lan1.disable_ipv6=0", fmt.Sprintf("ip address add fd08::%x/64 dev lan1 nodad", firstN))
	})
	if err := h.Fit(); err == nil || !strings.Contains(err.Error(), "IPv6 is disabled on interface lan1") {
		t.Errorf("fit: %v", err)
	}
	if err := h.Take(context.Background(), inTime(time.Second)); err == nil {
		t.Error("taken")
	}
	for _, s := range h.Status().Addresses {
		if s.Present {
			t.Errorf("%s was added", s.Address)
		}
	}
}

// What cannot be had wholly is dropped: here the second address is refused when
// the first is there.
func TestAllOrNothing(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, "fd08::100/128")
	t.Cleanup(func() {
		w.in(nil, "sysctl -qw net.ipv6.conf.lan1.disable_ipv6=0", fmt.Sprintf("ip address add fd08::%x/64 dev lan1 nodad", firstN))
	})
	h.mu.Lock()
	h.fence.clock = func() draas.Reading { // read when the question is over
		w.in(nil, "sysctl -qw net.ipv6.conf.lan1.disable_ipv6=1")
		return now()
	}
	h.mu.Unlock()
	if err := h.Take(context.Background(), inTime(time.Second)); err == nil || !strings.Contains(err.Error(), "add address fd08::100") {
		t.Errorf("taken: %v", err)
	}
	if s := h.Status(); s.Held || s.Addresses[0].Present {
		t.Errorf("%+v", s)
	}
}

// An interface that goes down is told of; when it is up again the addresses are
// there again, those of IPv6 too, which the kernel took away, and announced.
func TestLinkFlaps(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	h := w.open(nil, vip4, vip6)
	take(t, h, 20*time.Second)
	w.in(nil, "ip address del "+vip6+" dev lan0") // and put back: that has not to be waited for again
	event(t, h, Removed)
	eventually(t, "put back", func() bool { return h.Status().Addresses[1].Present })
	w.in(nil, "ip link set lan0 down")
	if e := event(t, h, LinkDown); e.Interface != "lan0" {
		t.Errorf("%+v", e)
	}
	if err := h.Fit(); err == nil || !strings.Contains(err.Error(), "lan0 is down") {
		t.Errorf("fit: %v", err)
	}
	heard := w.overhear(w.user, "lan0")
	w.in(nil, "ip link set lan0 up", fmt.Sprintf("ip address add fd07::%x/64 dev lan0 nodad", firstN))
	event(t, h, LinkUp)
	eventually(t, "announced again", func() bool { return len(heard.claims(addr(vip4))) > 0 && len(heard.claims(addr(vip6))) > 0 })
	for _, a := range []string{vip4, vip6} {
		if said, err := visit(w.user, a, 2*time.Second); err != nil || said != "first" {
			t.Errorf("%s: %q, %v", a, said, err)
		}
	}
	if err := h.Fit(); err != nil {
		t.Error(err)
	}
}

// That the kernel has taken an address off an interface that goes down may be seen
// before that it is down, and right after another has removed one: that is no
// second removal, for which there is a pause.
func TestLinkGoesDownLate(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip6)
	take(t, h, 20*time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.places[0]
	stood := h.seen
	defer func() { h.seen = stood }()
	h.seen.addrs = nil
	p.repaired = h.cfg.Clock().Boot
	h.addressChanged(p, p.state)
	if !p.mending || p.repaired == 0 {
		t.Errorf("taken off an interface that is up: to be put back %v, last %v", p.mending, p.repaired)
	}
	was := p.state
	p.state.up = false
	if h.addressChanged(p, was); !p.mending || p.repaired != 0 {
		t.Errorf("the interface went down: to be put back %v, last %v", p.mending, p.repaired)
	}
}

// The cable is pulled: the other end of it goes down.
func TestNoCarrier(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	take(t, h, 20*time.Second)
	w.in(w.wire, fmt.Sprintf("ip link set p0-%d down", firstN))
	event(t, h, LinkDown)
	if err := h.Fit(); err == nil || !strings.Contains(err.Error(), "no carrier") {
		t.Errorf("fit: %v", err)
	}
	w.in(w.wire, fmt.Sprintf("ip link set p0-%d up", firstN))
	event(t, h, LinkUp)
	if err := h.Fit(); err != nil {
		t.Error(err)
	}
}

func TestRenamed(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	h := w.open(nil, vip4)
	take(t, h, 20*time.Second)
	w.in(nil, "ip link set lan0 name renamed")
	t.Cleanup(func() { w.in(nil, "ip link set renamed name lan0") })
	if e := event(t, h, LinkRenamed); !strings.Contains(e.Text, "lan0 is called renamed") {
		t.Errorf("%+v", e)
	}
	if said, err := visit(w.user, vip4, 500*time.Millisecond); err != nil || said != "first" {
		t.Errorf("%q, %v", said, err)
	}
	if err := h.Fit(); err == nil || !strings.Contains(err.Error(), "lan0 does not exist") {
		t.Errorf("fit: %v", err)
	}
	if s := h.Status(); !s.Addresses[0].Present {
		t.Errorf("%+v", s)
	}
	if err := h.Drop(); err != nil {
		t.Error(err)
	}
	if list := w.in(nil, "ip -br address show dev renamed"); strings.Contains(list, ".100/") {
		t.Errorf("still there: %s", list)
	}
	if err := h.Take(context.Background(), inTime(time.Second)); err == nil {
		t.Error("taken on an interface of another name")
	}
}

func TestDeleted(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, back)
	take(t, h, 20*time.Second)
	w.in(nil, "ip link del lan0")
	replugged := false
	replug := func() {
		if !replugged {
			replugged = true
			if err := w.plug(nil, 0, firstN); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(replug)
	if e := event(t, h, LinkDown); !strings.Contains(e.Text, "lan0 is gone") {
		t.Errorf("%+v", e)
	}
	if err := h.Fit(); err == nil || !strings.Contains(err.Error(), "lan0 does not exist") {
		t.Errorf("fit: %v", err)
	}
	replug()
	eventually(t, "the new interface carries", func() bool {
		err := h.Fit()
		return err != nil && strings.Contains(err.Error(), "is another one")
	})
	if err := h.Drop(); err != nil {
		t.Error(err)
	}
	eventually(t, "the host is fit again", func() bool { return h.Fit() == nil })
	take(t, h, time.Second)
}

// An address that somebody removes is put back, but not again and again.
func TestRemoved(t *testing.T) {
	for _, a := range []string{vip4, vip6} {
		t.Run(a, func(t *testing.T) {
			w := borrow(t)
			h := w.open(nil, vip4, vip6)
			take(t, h, 20*time.Second)
			i := 0
			if a == vip6 {
				i = 1
			}
			w.in(nil, fmt.Sprintf("ip address del %s dev lan0", a))
			if e := event(t, h, Removed); e.Addr != addr(a) {
				t.Errorf("%+v", e)
			}
			eventually(t, "put back", func() bool { return h.Status().Addresses[i].Present })
			if err := h.Fit(); err != nil {
				t.Error(err)
			}
			w.in(nil, fmt.Sprintf("ip address del %s dev lan0", a))
			event(t, h, Removed)
			eventually(t, "said to be unfit", func() bool { return h.Fit() != nil })
			if h.Status().Addresses[i].Present {
				t.Error("put back at once, again")
			}
		})
	}
}

func TestRulesAreFlushed(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	h := w.open(nil, vip4, vip6)
	for _, damage := range []string{
		"nft flush ruleset",
		"nft delete table arp draas_vip_shop",
		"nft flush chain inet draas_vip_shop from",
		"nft delete element inet draas_vip_shop mine6 '{ fd07::100 }'",
		"nft add table inet draas_vip_shop '{ flags dormant; }'",
		"nft insert rule inet draas_vip_shop check accept",
	} {
		for _, held := range []bool{false, true} {
			if held {
				take(t, h, 20*time.Second)
			}
			w.in(nil, damage)
			if e := event(t, h, FenceLost); !strings.Contains(e.Text, "restored") {
				t.Errorf("%+v", e)
			}
			h.mu.Lock()
			whole, err := h.fence.whole()
			h.mu.Unlock()
			if !whole || err != nil {
				t.Errorf("%s: not restored: %v", damage, err)
			}
			if err := h.Fit(); err != nil {
				t.Error(err)
			}
			if held {
				for _, a := range []string{vip4, vip6} {
					if said, err := visit(w.user, a, 500*time.Millisecond); err != nil || said != "first" {
						t.Errorf("%s, held: %s: %q, %v", damage, a, said, err)
					}
				}
				if err := h.Drop(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
