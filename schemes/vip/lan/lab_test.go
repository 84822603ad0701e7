package lan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
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
// frontend, with interfaces lan0 and lan1.
type world struct {
	t    testing.TB
	wire *lab.Machine
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, wire: machine(t, "switch")}
	w.in(w.wire, "ip link add br0 type bridge forward_delay 0", "ip link add br1 type bridge forward_delay 0", "ip link set br0 up", "ip link set br1 up")
	w.plug(nil, 1)
	t.Cleanup(func() {
		for _, iface := range []string{"lan0", "lan1", "renamed"} {
			_ = exec.Command("ip", "link", "del", iface).Run() // the test may have
		}
	})
	return w
}

func machine(t testing.TB, name string) *lab.Machine {
	t.Helper()
	m, err := lab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// host adds a machine that stands on both LANs with the number n.
func (w *world) host(name string, n int) *lab.Machine {
	w.t.Helper()
	m := machine(w.t, name)
	w.plug(m, n)
	return m
}

// plug gives a machine, nil for the test itself, its interfaces.
func (w *world) plug(m *lab.Machine, n int) {
	w.t.Helper()
	var argv []string
	for i := range 2 {
		argv = append(argv,
			fmt.Sprintf("ip link add lan%d address 02:00:00:00:0%d:%02x type veth peer name p%d-%d netns %d", i, i, n, i, n, w.wire.PID()),
			fmt.Sprintf("ip address add 10.%d.0.%d/24 dev lan%d", 7+i, n, i),
			fmt.Sprintf("ip address add fd0%d::%x/64 dev lan%d nodad", 7+i, n, i),
			fmt.Sprintf("ip link set lan%d up", i))
	}
	w.in(m, argv...)
	for i := range 2 {
		w.in(w.wire, fmt.Sprintf("ip link set p%d-%d master br%d up", i, n, i))
	}
}

// in runs commands in a machine, nil for the test's own.
func (w *world) in(m *lab.Machine, lines ...string) string {
	w.t.Helper()
	var all strings.Builder
	for _, line := range lines {
		var out string
		var err error
		if m != nil {
			out, err = m.Run("/", "sh", "-ec", line)
		} else {
			var b []byte
			b, err = exec.Command("sh", "-ec", line).CombinedOutput()
			out = string(b)
		}
		if err != nil {
			w.t.Fatalf("%s: %v: %s", line, err, out)
		}
		all.WriteString(out)
	}
	return all.String()
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

// remote is a host in a process of its own, in a machine of its own.
type remote struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// order is one line for such a process.
type order struct {
	Do      string        `json:"do"` // take, extend, drop, fit, status
	For     time.Duration `json:"for,omitempty"`
	Friends []Station     `json:"friends,omitempty"`
	Addrs   []Address     `json:"addrs,omitempty"`
	Name    string        `json:"name,omitempty"`
}

type reply struct {
	Err    string
	Status Status
	Took   time.Duration
}

// remote starts a host in a machine, with a wrapper before it perhaps, and a
// server beside it that says the name.
func (w *world) remote(m *lab.Machine, wrapper []string, friends []Station, addrs ...string) *remote {
	w.t.Helper()
	r := w.start(m, wrapper)
	if got := r.do(order{Do: "open", Name: m.Name, Friends: friends, Addrs: addresses(addrs...)}); got.Err != "" {
		w.t.Fatal(got.Err)
	}
	return r
}

func (w *world) start(m *lab.Machine, wrapper []string) *remote {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	r := &remote{t: w.t, cmd: m.Command("/", append(append([]string{}, wrapper...), self)...)}
	r.cmd.Env = append(os.Environ(), envHost+"=1")
	r.cmd.Stderr = w.t.Output()
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = r.in.Close()     // ends it, if nothing has
		_ = r.signal("CONT") // it may stand still
		_ = r.cmd.Wait()     // it may have been killed
	})
	return r
}

func (r *remote) signal(name string) error {
	return r.cmd.Process.Signal(unix.SignalNum("SIG" + name))
}

func (r *remote) do(o order) reply {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(o); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("host does not answer: %v", err)
	}
	var got reply
	if err := json.Unmarshal(line, &got); err != nil {
		r.t.Fatalf("host says %q: %v", line, err)
	}
	return got
}

// serveHost is the process of a remote host.
func serveHost(orders io.Reader, replies io.Writer) int {
	var h *Host
	var l net.Listener
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		if h != nil {
			_ = h.Close() // its machine ends, too
		}
		if l != nil {
			_ = l.Close() // likewise
		}
	}()
	dec, enc := json.NewDecoder(orders), json.NewEncoder(replies)
	for {
		var o order
		if err := dec.Decode(&o); err != nil {
			return 0
		}
		var err error
		start := time.Now()
		switch {
		case o.Do == "open":
			h, err = Open(Config{Name: "shop", Addresses: o.Addrs, Clock: now, Friends: func() []Station { return o.Friends }})
			if err == nil {
				if l, err = net.Listen("tcp", ":80"); err == nil {
					wg.Go(func() { greet(l, o.Name) })
				}
			}
		case h == nil:
			err = errors.New("not open")
		case o.Do == "take":
			err = h.Take(context.Background(), inTime(o.For))
		case o.Do == "extend":
			err = h.Extend(inTime(o.For))
		case o.Do == "drop":
			err = h.Drop()
		case o.Do == "fit":
			err = h.Fit()
		}
		got := reply{Took: time.Since(start)}
		if err != nil {
			got.Err = err.Error()
		}
		if h != nil {
			got.Status = h.Status()
		}
		if err := enc.Encode(got); err != nil {
			return 1
		}
	}
}
