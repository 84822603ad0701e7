package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

func take(t testing.TB, h *Host, d time.Duration) {
	t.Helper()
	if err := h.Take(context.Background(), inTime(d)); err != nil {
		t.Fatal(err)
	}
}

// Addresses of both families on two interfaces are taken together, answer, and
// are gone together.
func TestTakeAndDrop(t *testing.T) {
	w := borrow(t)
	user := w.user
	serve(t, "first")
	h := w.open(nil, vip4, vip6, back)
	if err := h.Fit(); err != nil {
		t.Fatal(err)
	}
	if _, err := visit(user, vip4, 50*time.Millisecond); err == nil {
		t.Fatal("the address answers before it is taken")
	}
	take(t, h, 10*time.Second)
	for _, a := range []string{vip4, vip6, back} {
		if said, err := visit(user, a, 2*time.Second); err != nil || said != "first" {
			t.Errorf("%s: %q, %v", a, said, err)
		}
	}
	s := h.Status()
	if !s.Held || len(s.Addresses) != 3 {
		t.Errorf("%+v", s)
	}
	for _, a := range s.Addresses {
		if !a.Present || a.Announced == 0 || a.MAC == nil || a.Conflict != nil {
			t.Errorf("%+v", a)
		}
	}
	if err := h.Fit(); err != nil {
		t.Error(err)
	}
	if err := h.Drop(); err != nil {
		t.Fatal(err)
	}
	if s := h.Status(); s.Held || s.Addresses[0].Present || s.Addresses[1].Present || s.Addresses[2].Present {
		t.Errorf("%+v", s)
	}
	for _, a := range []string{vip4, vip6, back} {
		if said, err := visit(user, a, 50*time.Millisecond); err == nil {
			t.Errorf("%s still answers: %q", a, said)
		}
	}
}

// The next frontend's announcement corrects what users remember, at once.
func TestMove(t *testing.T) {
	w := borrow(t)
	user, second := w.user, w.second
	serve(t, "first")
	h := w.open(nil, vip4, vip6)
	r := w.remote(second, nil, nil, vip4, vip6)
	reach := func(name string, patience time.Duration) {
		t.Helper()
		for _, a := range []string{vip4, vip6} {
			if said, err := visit(user, a, patience); err != nil || said != name {
				t.Errorf("%s: %q, %v; remembered: %s", a, said, err, w.in(user, "ip neigh"))
			}
		}
	}
	remembered := func(mac string) {
		t.Helper()
		for _, a := range []string{vip4, vip6} {
			addr := netip.MustParsePrefix(a).Addr()
			if line := w.in(user, fmt.Sprintf("ip neigh show %s", addr)); !strings.Contains(line, mac) {
				t.Errorf("remembered of %s: %q, not %s", addr, line, mac)
			}
		}
	}
	for range 2 {
		take(t, h, 10*time.Second)
		// Less than the second after which a lost packet is sent again.
		reach("first", 500*time.Millisecond)
		remembered(firstMAC)
		if err := h.Drop(); err != nil {
			t.Fatal(err)
		}
		if got := r.do(order{Do: "take", For: 10 * time.Second}); got.Err != "" {
			t.Fatal(got.Err)
		}
		remembered(secondMAC)
		reach("second", 500*time.Millisecond)
		if got := r.do(order{Do: "drop"}); got.Err != "" || got.Status.Held {
			t.Fatalf("%+v", got)
		}
	}
}

// A held address is announced at once, after 100 ms and after a second.
func TestAnnounced(t *testing.T) {
	w := borrow(t)
	user := w.user
	heard := w.overhear(user, "lan0")
	h := w.open(nil, vip4, vip6)
	take(t, h, 10*time.Second)
	four, six := netip.MustParsePrefix(vip4).Addr(), netip.MustParsePrefix(vip6).Addr()
	eventually(t, "three rounds", func() bool {
		return len(heard.claims(four)) >= 6 && len(heard.claims(six)) >= 3
	})
	claims := heard.claims(six)
	for i, least := range []time.Duration{0, 90 * time.Millisecond, 900 * time.Millisecond} {
		if after := claims[i].at - claims[0].at; after < least || after > least+500*time.Millisecond {
			t.Errorf("announcement %d after %v", i, after)
		}
	}
	if got := claims[0].mac.String(); got != firstMAC {
		t.Errorf("announced with %s", got)
	}
}

func TestExtend(t *testing.T) {
	w := borrow(t)
	user := w.user
	serve(t, "first")
	h := w.open(nil, vip4)
	if err := h.Extend(inTime(time.Second)); !errors.Is(err, ErrNotHeld) {
		t.Errorf("extended before it was taken: %v", err)
	}
	const lease = time.Second // longer than a busy machine stands still
	take(t, h, lease)
	end := now().Boot + 3*lease/2
	for now().Boot < end {
		if err := h.Extend(inTime(lease)); err != nil {
			t.Fatal(err)
		}
		if said, err := visit(user, vip4, lease-200*time.Millisecond); err != nil || said != "first" {
			t.Fatalf("%q, %v", said, err)
		}
	}
	// An earlier deadline changes nothing.
	take(t, h, 20*time.Second)
	until := h.Status().Until
	if err := h.Extend(inTime(time.Millisecond)); err != nil {
		t.Error(err)
	}
	if got := h.Status(); !got.Held || got.Until != until {
		t.Errorf("%+v", got)
	}
	if said, err := visit(user, vip4, lease); err != nil || said != "first" {
		t.Errorf("%q, %v", said, err)
	}
}

// What nobody renews is dropped by the Host itself.
func TestLeaseEnds(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, vip6)
	take(t, h, 150*time.Millisecond)
	e := event(t, h, Expired)
	if s := h.Status(); s.Held || s.Addresses[0].Present || s.Addresses[1].Present {
		t.Errorf("%+v after %+v", s, e)
	}
	if err := h.Extend(inTime(time.Second)); !errors.Is(err, ErrNotHeld) {
		t.Errorf("extended: %v", err)
	}
	take(t, h, time.Second)
}

// A deadline that passed takes nothing, and a renewal that comes too late is
// none: another may have had the addresses since.
func TestTooLate(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	if err := h.Take(context.Background(), inTime(time.Millisecond)); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("taken for a millisecond: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Take(ctx, inTime(time.Second)); !errors.Is(err, context.Canceled) {
		t.Errorf("taken in a context that has ended: %v", err)
	}
	if s := h.Status(); s.Held || s.Addresses[0].Present {
		t.Errorf("%+v", s)
	}
	take(t, h, time.Second)
	h.mu.Lock()
	h.until = inTime(0) // as if the keeper had not come to it yet
	err := h.extend(inTime(time.Second))
	h.mu.Unlock()
	if s := h.Status(); !errors.Is(err, ErrNotHeld) || s.Held || s.Addresses[0].Present {
		t.Errorf("%v, %+v", err, s)
	}
	take(t, h, time.Second)
	if err := h.Extend(draas.Deadline{Boot: now().Boot + time.Minute, Wall: h.Status().Until.Wall + 1}); err != nil {
		t.Fatal(err)
	}
	if left := h.Status().Until.Left(now()); left > time.Second {
		t.Errorf("a deadline is that of the nearer clock, and not %v away", left)
	}
}

// Addresses that an earlier run left are removed, with whatever prefix length.
func TestOpenRemovesLeftovers(t *testing.T) {
	w := borrow(t)
	w.in(nil, "ip address add 10.7.0.100/24 dev lan0", "ip address add fd07::100/64 dev lan0 nodad", "ip address add 10.8.0.100/32 dev lan1")
	h := w.open(nil, vip4, vip6, back)
	for _, a := range h.Status().Addresses {
		if a.Present {
			t.Errorf("%s is still there", a.Address)
		}
	}
	if list := w.in(nil, "ip -br address"); !strings.Contains(list, "10.7.0.1/24") {
		t.Errorf("the host's own address is gone: %s", list)
	}
}

// The operator's prefix length is kept. A route to the network is made only when
// there is none; no connection of the host's own starts from the address.
func TestPrefixes(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, "10.7.0.100/24", "fd07::100/64", "10.8.200.1/24")
	take(t, h, 10*time.Second)
	list := w.in(nil, "ip address show dev lan0", "ip address show dev lan1")
	for _, want := range []string{"inet 10.7.0.100/24 scope global secondary noprefixroute lan0", "inet6 fd07::100/64 scope global nodad deprecated noprefixroute", "inet 10.8.200.1/24 scope global lan1"} {
		if !strings.Contains(list, want) {
			t.Errorf("not %q in\n%s", want, list)
		}
	}
	if got := w.in(nil, "ip route get fd07::9", "ip route get 10.7.0.9"); strings.Contains(got, "::100") || strings.Contains(got, ".100") {
		t.Errorf("connections would start from the address: %s", got)
	}
}

// CAP_NET_ADMIN and CAP_NET_RAW are enough, and without them the operator reads
// what is missing.
func TestPrivileges(t *testing.T) {
	w := borrow(t)
	user, second := w.user, w.second
	w.in(second, "sysctl -qw net.ipv4.ip_unprivileged_port_start=80")
	as := func(caps string) []string {
		return []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all" + caps, "--ambient-caps=-all" + caps, "--bounding-set=-all" + caps, "--"}
	}
	r := w.remote(second, as(",+net_admin,+net_raw"), nil, vip4, vip6)
	if got := r.do(order{Do: "take", For: 10 * time.Second}); got.Err != "" {
		t.Fatal(got.Err)
	}
	for _, a := range []string{vip4, vip6} {
		if said, err := visit(user, a, 2*time.Second); err != nil || said != "second" {
			t.Errorf("%s: %q, %v", a, said, err)
		}
	}
	if got := r.do(order{Do: "drop"}); got.Err != "" {
		t.Error(got.Err)
	}
	for _, caps := range []string{"", ",+net_admin", ",+net_raw"} {
		third := w.start(second, as(caps))
		got := third.do(order{Do: "open", Addrs: addresses(vip4)})
		if caps == ",+net_admin" && got.Err == "" || got.Err == "" && caps != ",+net_admin" {
			got = third.do(order{Do: "take", For: time.Second})
		}
		if !strings.Contains(got.Err, "CAP_NET_ADMIN and CAP_NET_RAW") {
			t.Errorf("with %q: %q", caps, got.Err)
		}
		if list := w.in(second, "ip -br address"); strings.Contains(list, ".100/") {
			t.Errorf("with %q: the address was added: %s", caps, list)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{Name: "shop", Addresses: addresses(vip4, vip6), Clock: now}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"does not make":   func(c *Config) { c.Name = "a b" },
		"an address and":  func(c *Config) { c.Addresses = nil },
		"and a clock":     func(c *Config) { c.Clock = nil },
		"no name of an":   func(c *Config) { c.Addresses[0].Interface = "../all" },
		"no address with": func(c *Config) { c.Addresses[0].Prefix = netip.Prefix{} },
		"cannot be a":     func(c *Config) { c.Addresses[0].Prefix = netip.MustParsePrefix("127.0.0.1/8") },
		"is given twice":  func(c *Config) { c.Addresses[1] = c.Addresses[0] },
		"::ffff:10.7.0.100/128": func(c *Config) {
			c.Addresses[1].Prefix = netip.PrefixFrom(netip.MustParseAddr("::ffff:10.7.0.100"), 128)
		},
	} {
		c := good
		c.Addresses = addresses(vip4, vip6)
		spoil(&c)
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// What was closed stays closed, and leaves nothing behind.
func TestClose(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4)
	take(t, h, 10*time.Second)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := h.Take(context.Background(), inTime(time.Second)); !errors.Is(err, ErrNotHeld) {
		t.Errorf("taken: %v", err)
	}
	if h.Fit() == nil || h.Drop() != nil || h.Status().Held {
		t.Error("not closed")
	}
	for range h.Events() { // ends, since it is closed
	}
	if got := w.in(nil, "nft list ruleset", "ip -br address show dev lan0"); strings.Contains(got, "draas") || strings.Contains(got, ".100") {
		t.Errorf("left behind: %s", got)
	}
}

// Where another program sets the addresses, they are fenced all the same, and
// announced when they are there, and not touched.
func TestForeign(t *testing.T) {
	w := borrow(t)
	serve(t, "first")
	w.add(nil, vip4)
	h, err := Open(Config{Name: "shop", Addresses: addresses(vip4, vip6), Clock: now, Foreign: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if s := h.Status(); !s.Addresses[0].Present {
		t.Error("the address was removed")
	}
	if found := w.answers(w.user, firstMAC, vip4); len(found) > 0 {
		t.Errorf("not held: %q", found)
	}
	take(t, h, 20*time.Second)
	heard := w.overhear(w.user, "lan0")
	if said, err := visit(w.user, vip4, 500*time.Millisecond); err != nil || said != "first" {
		t.Errorf("held: %q, %v", said, err)
	}
	w.add(nil, vip6)
	eventually(t, "announced when it is there", func() bool { return len(heard.claims(addr(vip6))) > 0 })
	w.in(nil, "ip address del "+vip4+" dev lan0")
	eventually(t, "told of when it is gone", func() bool { return !h.Status().Addresses[0].Present })
	if err := h.Drop(); err != nil {
		t.Error(err)
	}
	if s := h.Status(); s.Held || s.Addresses[0].Present || !s.Addresses[1].Present {
		t.Errorf("%+v", s)
	}
	if found := w.answers(w.user, firstMAC, vip4, vip6); len(found) > 0 {
		t.Errorf("dropped: %q", found)
	}
}

// Nothing is announced of a lease that is over: frames of packet sockets pass by
// the fence.
func TestNotAnnouncedLate(t *testing.T) {
	w := borrow(t)
	h := w.open(nil, vip4, vip6)
	take(t, h, 20*time.Second)
	heard := w.overhear(w.user, "lan0")
	h.mu.Lock()
	until := h.until
	h.until = inTime(0)
	h.announce()
	h.until = until
	w.claim(w.second, vip4, vip6) // heard after that
	h.mu.Unlock()
	for _, a := range []string{vip4, vip6} {
		eventually(t, "what came later is heard", func() bool { return len(heard.claims(addr(a))) > 0 })
		if c := heard.claims(addr(a))[0]; c.mac.String() != secondMAC {
			t.Errorf("announced: %+v", c)
		}
	}
}
