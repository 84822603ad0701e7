package lan

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab"
)

// now reads this machine's clocks.
func now() draas.Reading {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return draas.Reading{Boot: time.Duration(ts.Nano()), Wall: time.Duration(time.Now().UnixNano())}
}

func inTime(d time.Duration) draas.Deadline { return draas.DeadlineAt(now(), d) }

// The networks of a test: a LAN for users, and another behind.
const (
	vip4 = "10.7.0.100/32"
	vip6 = "fd07::100/128"
	back = "10.8.0.100/32"
)

// world is a switch with two LANs. The test itself stands on both, as the first
// frontend, with interfaces lan0 and lan1; so do a second frontend and a user.
// It is made once: an interface that is new may take a second before it carries
// anything.
type world struct {
	t                  testing.TB
	wire, second, user *lab.Machine
}

// Numbers of those who stand on the LANs: the last part of their addresses.
const (
	firstN  = 1
	secondN = 2
	userN   = 9
)

func newWorld() (w *world, err error) {
	w = &world{}
	for _, m := range []struct {
		at   **lab.Machine
		name string
	}{{&w.wire, "switch"}, {&w.second, "second"}, {&w.user, "user"}} {
		if *m.at, err = lab.New(m.name); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	if err := errors.Join(w.run(w.wire, "ip link add br0 type bridge forward_delay 0", "ip link add br1 type bridge forward_delay 0", "ip link set br0 up", "ip link set br1 up"),
		w.plug(nil, 0, firstN), w.plug(nil, 1, firstN), w.plug(w.second, 0, secondN), w.plug(w.second, 1, secondN), w.plug(w.user, 0, userN), w.plug(w.user, 1, userN),
	); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// third adds one more frontend, for one test.
func (w *world) third(t testing.TB) *lab.Machine {
	t.Helper()
	m, err := lab.New("third")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(w.plug(m, 0, 3), w.plug(m, 1, 3)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "interfaces carry", func() bool {
		return !strings.Contains(w.in(m, "ip -br link show type veth"), "DOWN") && !strings.Contains(w.in(w.wire, "ip -br link show type veth"), "DOWN")
	})
	return m
}

func (w *world) close() error {
	var errs []error
	for _, m := range []*lab.Machine{w.wire, w.second, w.user} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// plug gives a machine, nil for the test itself, its interface on LAN i.
func (w *world) plug(m *lab.Machine, i, n int) error {
	return errors.Join(
		w.run(m,
			fmt.Sprintf("ip link add lan%d address 02:00:00:00:0%d:%02x type veth peer name p%d-%d netns %d", i, i, n, i, n, w.wire.PID()),
			fmt.Sprintf("ip address add 10.%d.0.%d/24 dev lan%d", 7+i, n, i),
			fmt.Sprintf("ip address add fd0%d::%x/64 dev lan%d nodad", 7+i, n, i),
			fmt.Sprintf("ip link set lan%d up", i)),
		w.run(w.wire, fmt.Sprintf("ip link set p%d-%d master br%d up", i, n, i)))
}

func (w *world) run(m *lab.Machine, lines ...string) error {
	for _, line := range lines {
		if out, err := shell(m, line); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

func shell(m *lab.Machine, line string) (string, error) {
	if m != nil {
		return m.Run("/", "sh", "-ec", line)
	}
	b, err := exec.Command("sh", "-ec", line).CombinedOutput()
	return string(b), err
}

// tidy takes away what a test has left: rules, what was remembered of others,
// addresses, which may not be there.
const tidy = `nft flush ruleset
ip -force -batch - 2>/dev/null <<end || true
neigh flush all nud all
neigh flush all nud permanent
address del 10.7.0.100/32 dev lan0
address del fd07::100/128 dev lan0
address del 10.8.0.100/32 dev lan1
address del fd08::100/128 dev lan1
end`

// borrow gives a test the world, with everything as it was made.
func borrow(t testing.TB) *world {
	t.Helper()
	w := *shared
	w.t = t
	for _, m := range []*lab.Machine{nil, w.wire} {
		eventually(t, "interfaces carry", func() bool {
			return !strings.Contains(w.in(m, "ip -br link show type veth"), "DOWN")
		})
	}
	t.Cleanup(func() {
		for _, m := range []*lab.Machine{nil, w.second, w.user} {
			w.in(m, tidy)
		}
	})
	return &w
}

// in runs commands in a machine, nil for the test's own.
func (w *world) in(m *lab.Machine, lines ...string) string {
	w.t.Helper()
	var all strings.Builder
	for _, line := range lines {
		out, err := shell(m, line)
		if err != nil {
			w.t.Fatalf("%s: %v: %s", line, err, out)
		}
		all.WriteString(out)
	}
	return all.String()
}

// add puts an address on lan0 of a machine by hand, and waits until it works.
func (w *world) add(m *lab.Machine, a string) {
	w.t.Helper()
	flags := ""
	if strings.Contains(a, ":") {
		flags = " nodad"
	}
	w.in(m, "ip address add "+a+" dev lan0"+flags)
	ip := netip.MustParsePrefix(a).Addr()
	eventually(w.t, a+" works", func() bool { return strings.HasPrefix(w.in(m, "ip route get "+ip.String()), "local") })
}

func addresses(list ...string) []Address {
	var all []Address
	for _, s := range list {
		iface := "lan0"
		if strings.HasPrefix(s, "10.8.") || strings.HasPrefix(s, "fd08:") {
			iface = "lan1"
		}
		all = append(all, Address{Interface: iface, Prefix: netip.MustParsePrefix(s)})
	}
	return all
}

// open opens the test's own host.
func (w *world) open(friends []Station, addrs ...string) *Host {
	w.t.Helper()
	h, err := Open(Config{Name: "shop", Addresses: addresses(addrs...), Clock: now, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Friends: func() []Station { return friends }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return h
}

// eventually polls for what has to come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 5 s: %s", what)
		case <-tick.C:
		}
	}
}

// event waits for one of a kind.
func event(t testing.TB, h *Host, kind EventKind) Event {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for {
		select {
		case <-deadline.C:
			t.Fatalf("no event %s within 5 s", kind)
		case e := <-h.Events():
			if e.Kind == kind {
				return e
			}
		}
	}
}

// serve says name to whoever connects to port 80 of any address.
func serve(t testing.TB, name string) {
	t.Helper()
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { greet(l, name) })
	t.Cleanup(func() {
		_ = l.Close() // ends greet
		wg.Wait()
	})
}

func greet(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, name) // to a client that may have gone
		_ = c.Close()
	}
}

// visit connects from a machine and returns what the server said.
func visit(m *lab.Machine, addr string, patience time.Duration) (string, error) {
	var said string
	err := m.Inside(func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(netip.MustParsePrefix(addr).Addr().String(), "80"), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		said = string(b)
		return err
	})
	return said, err
}

// overheard are the claims and questions heard on an interface of a machine.
type overheard struct {
	mu  sync.Mutex
	all []overheardSight
}

type overheardSight struct {
	sight
	at time.Duration
}

func (o *overheard) claims(addr netip.Addr) []overheardSight {
	o.mu.Lock()
	defer o.mu.Unlock()
	var some []overheardSight
	for _, s := range o.all {
		if s.addr == addr && !s.probing {
			some = append(some, s)
		}
	}
	return some
}

// ears opens the sockets of an interface in a machine.
func (w *world) ears(m *lab.Machine, iface string) (l link, four, six *ear) {
	w.t.Helper()
	if err := m.Inside(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		l = link{index: i.Index, name: i.Name, mac: i.HardwareAddr}
		var err6 error
		four, err = listen(l, etherARP)
		six, err6 = listen(l, etherIPv6)
		return errors.Join(err, err6)
	}); err != nil {
		w.t.Fatal(err)
	}
	return l, four, six
}

func (w *world) overhear(m *lab.Machine, iface string) *overheard {
	w.t.Helper()
	o := &overheard{}
	_, four, six := w.ears(m, iface)
	var wg sync.WaitGroup
	for _, e := range []*ear{four, six} {
		wg.Go(func() {
			if err := e.hear(func(s sight, _ time.Duration) {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.all = append(o.all, overheardSight{s, now().Boot})
			}); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(func() {
		four.close()
		six.close()
		wg.Wait()
	})
	return o
}

// claim has a machine say that it has addresses, whether it has them or not.
func (w *world) claim(m *lab.Machine, addrs ...string) {
	w.t.Helper()
	l, four, six := w.ears(m, "lan0")
	defer four.close()
	defer six.close()
	for _, a := range addrs {
		addr, e := netip.MustParsePrefix(a).Addr(), six
		if addr.Is4() {
			e = four
		}
		if err := e.send(announcement(addr, l.mac)...); err != nil {
			w.t.Fatal(err)
		}
	}
}

func mustMAC(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}
