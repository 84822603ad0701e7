package fence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

// wire is a link of its own between the site and its users, and a directory for
// what is pinned.
type wire struct {
	name   string // of the site's interface; it has a dot, as those of VLANs do
	v4, v6 string // of the site
	users  string // the users' namespace
	pins   string
}

func newWire(t *testing.T, users string) wire {
	t.Helper()
	n := nextPort.Add(1)
	w := wire{name: fmt.Sprintf("w%d.7", n), users: users, v4: fmt.Sprintf("10.78.%d.1", n), v6: fmt.Sprintf("fd78:%x::1", n),
		pins: filepath.Join(shortDir(t), "bpf")}
	w.plug(t)
	t.Cleanup(func() {
		run(t, "ip", "link", "del", w.name)
		// What is pinned lives as long as the file system is mounted.
		if err := unix.Unmount(w.pins, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmount: %v", err)
		}
	})
	return w
}

func (w wire) plug(t *testing.T) {
	t.Helper()
	peer := strings.TrimSuffix(w.name, ".7") + "p"
	run(t, "ip", "link", "add", w.name, "type", "veth", "peer", "name", peer, "netns", w.users)
	for _, args := range []string{
		"addr add " + w.v4 + "/24 dev " + w.name, "addr add " + w.v6 + "/64 dev " + w.name + " nodad", "link set " + w.name + " up",
		"-n " + w.users + " addr add " + strings.TrimSuffix(w.v4, "1") + "2/24 dev " + peer,
		"-n " + w.users + " addr add " + strings.TrimSuffix(w.v6, "1") + "2/64 dev " + peer + " nodad",
		"-n " + w.users + " link set " + peer + " up",
	} {
		run(t, "ip", strings.Fields(args)...)
	}
}

// program is the id of the program at the site's interface.
func (w wire) program(t *testing.T) string {
	t.Helper()
	_, id, found := strings.Cut(run(t, "ip", "link", "show", w.name), "prog/xdp id ")
	if !found {
		t.Fatal("no program at the interface")
	}
	return strings.Fields(id)[0]
}

// pinned is what is pinned there; the file system has files of its own.
func (w wire) pinned(t *testing.T) (names []string) {
	t.Helper()
	for _, f := range must[[]os.DirEntry](t)(os.ReadDir(w.pins)) {
		if !strings.HasSuffix(f.Name(), ".debug") {
			names = append(names, f.Name())
		}
	}
	return names
}

func (w wire) backstop(t *testing.T) *fence.Backstop {
	t.Helper()
	b := fence.NewBackstop(w.pins, nil)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// kernel is a fence at this wire with the backstop behind it.
func (w wire) kernel(t *testing.T, b *fence.Backstop, cfg fence.KernelConfig) *fence.Kernel {
	t.Helper()
	cfg.Backstop, cfg.XDP = b, []string{w.name}
	return newKernel(t, cfg)
}

func (w wire) dial(network, host string, p uint16) dialFunc {
	return dialFrom(w.users, network, net.JoinHostPort(host, strconv.Itoa(int(p))))
}

func (w wire) reach(p uint16) func(context.Context) error { return askFresh(w.dial("tcp", w.v4, p)) }

// open waits until the port answers: the machine may stall.
func (w wire) open(t *testing.T, what string, host string, p uint16) {
	t.Helper()
	reach := askFresh(w.dial("tcp", host, p))
	eventually(t, what+": answered", func() bool { return reach(t.Context()) == nil })
}

func TestBackstop(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		for name, test := range map[string]func(*testing.T, wire){
			"nothing pinned is left":    backstopRemoved,
			"holds alone":               backstopHoldsAlone,
			"late write":                backstopLateWrite,
			"only forward":              backstopOnlyForward,
			"taken over":                backstopTakenOver,
			"fragments":                 backstopFragments,
			"disturbed":                 backstopDisturbed,
			"an interface is not there": backstopNoInterface,
			"another's program":         backstopAnothersProgram,
			"services share":            backstopShared,
			"update":                    backstopUpdate,
			"few rights":                backstopFewRights,
		} {
			t.Run(name, func(t *testing.T) {
				// Not parallel: some of them flush all rules.
				test(t, newWire(t, users))
			})
		}
	})
}

func TestBackstopConforms(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		w := newWire(t, users)
		b := w.backstop(t)
		for name, addr := range map[string]string{"IPv4": w.v4, "IPv6": w.v6} {
			t.Run(name, func(t *testing.T) {
				fencetest.Run(t, func(t *testing.T) fencetest.Subject {
					p := freePort()
					listenEcho(t, net.JoinHostPort(addr, strconv.Itoa(int(p))))
					dial := w.dial("tcp", addr, p)
					k := w.kernel(t, b, fence.KernelConfig{Ports: []uint16{p}})
					return fencetest.Subject{Fence: k, Clock: fence.SystemClock{}, SelfTimed: true, Ask: askFresh(dial), Connect: connect(t, dial)}
				})
			})
		}
	})
}

// The faults of the kernel fence, and all its rules flushed with each: the
// backstop alone closes on time.
func TestFaultsBackstop(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		flushed := func(f fault) fault {
			strike := f.strike
			f.name += ", all rules flushed"
			f.strike = func(t *testing.T, guard, draasd *proc) {
				strike(t, guard, draasd)
				run(t, "nft", "flush", "ruleset")
			}
			return f
		}
		faults := append(faultsOfDraasd(), faultsOfGuard(false)...)
		for _, f := range append(faultsOfGuard(false), frozen()) {
			faults = append(faults, flushed(f))
		}
		// The flushes hit those beside them too: it changes nothing.
		runFaults(t, faults, func(t *testing.T) site {
			w, p := newWire(t, users), freePort()
			service := startRole(t, "service", roleArgs{Addr: net.JoinHostPort(w.v4, strconv.Itoa(int(p)))})
			return site{service: service.signal, dial: w.dial("tcp", w.v4, p), pins: w.pins,
				spec: fence.Spec{Service: draas.ServiceID("shop" + strconv.Itoa(int(p))), Kind: draas.FenceKernel, Ports: []uint16{p}, XDP: []string{w.name}}}
		})
	})
}

func backstopRemoved(t *testing.T, w wire) {
	k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{freePort()}})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(w.pinned(t)); got != 4 {
		t.Errorf("%d objects pinned, want three maps and a link", got)
	}
	if out := run(t, "ip", "link", "show", w.name); !strings.Contains(out, "xdp") {
		t.Errorf("no program at the interface:\n%s", out)
	}
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	if left := w.pinned(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	eventually(t, "the interface is free", func() bool { return !strings.Contains(run(t, "ip", "link", "show", w.name), "xdp") })
}

// With no nftables rule at all: who wants in is refused, at once, and who is
// connected is reset; other ports and the host itself are let alone.
func backstopHoldsAlone(t *testing.T, w wire) {
	p, other := freePort(), freePort()
	for _, addr := range []string{w.v4, "[" + w.v6 + "]"} {
		listenEcho(t, addr+port(p))
	}
	listenEcho(t, w.v4+port(other))
	k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{p}})
	if err := errors.Join(k.Close(t.Context()), k.Open(t.Context(), forLong(fence.SystemClock{}))); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	for _, host := range []string{w.v4, w.v6} {
		w.open(t, "open", host, p)
	}
	conn := must[net.Conn](t)(w.dial("tcp", w.v4, p)(t.Context()))
	defer conn.Close()
	if err := ask(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	for _, host := range []string{w.v4, w.v6} {
		if err := askFresh(w.dial("tcp", host, p))(t.Context()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("closed, %s: %v, want refused", host, err)
		}
	}
	if err := ask(t.Context(), conn); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("closed, on the connection: %v, want reset", err)
	}
	w.open(t, "another port", w.v4, other)
	if err := askFresh(dialTo(w.v4 + port(p)))(t.Context()); err != nil {
		t.Errorf("from the host itself: %v", err)
	}
}

// What a guard writes that was stopped between looking at the clock and
// writing: the deadline is absolute.
func backstopLateWrite(t *testing.T, w wire) {
	p := freePort()
	listenEcho(t, w.v4+port(p))
	slow := &frozenClock{now: fence.SystemClock{}.Now()}
	k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{p}, Clock: slow})
	permit := fence.Permit{Epoch: 1, Deadline: draas.DeadlineAt(slow.Now(), 3*time.Second)}
	permit.Deadline.Wall += time.Hour // the rules alone would let it in
	if err := errors.Join(k.Close(t.Context()), k.Open(t.Context(), permit)); err != nil {
		t.Fatal(err)
	}
	w.open(t, "before the deadline", w.v4, p)
	awaitBoot(t, permit.Deadline.Boot+20*time.Millisecond)
	if err := k.Extend(t.Context(), permit); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "expires") {
		t.Fatalf("the late write left no element, the test shows nothing:\n%s", out)
	}
	if w.reach(p)(t.Context()) == nil {
		t.Error("a late write reopened the fence")
	}
}

func backstopOnlyForward(t *testing.T, w wire) {
	// A machine that stands still between a reading of the clock and the write that
	// it is for must not make the write a late one.
	const soon = 2 * time.Second
	p := freePort()
	listenEcho(t, w.v4+port(p))
	k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{p}})
	clock := fence.SystemClock{}
	if err := errors.Join(k.Close(t.Context()), k.Open(t.Context(), fence.Permit{Epoch: 2, Deadline: draas.DeadlineAt(clock.Now(), time.Minute)}),
		k.Extend(t.Context(), fence.Permit{Epoch: 2, Deadline: draas.DeadlineAt(clock.Now(), soon)})); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	awaitBoot(t, clock.Now().Boot+soon)
	w.open(t, "an earlier deadline of the same epoch", w.v4, p)
	if err := k.Extend(t.Context(), fence.Permit{Epoch: 1, Deadline: draas.DeadlineAt(clock.Now(), time.Minute)}); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("an older epoch: %v", err)
	}
	late := fence.Permit{Epoch: 3, Deadline: draas.DeadlineAt(clock.Now(), soon)}
	if err := k.Extend(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	awaitBoot(t, late.Deadline.Boot)
	if w.reach(p)(t.Context()) == nil {
		t.Error("a new epoch's earlier deadline was not taken")
	}
}

// A datagram in pieces: none gets through while the service is closed, all do
// while it is open.
func backstopFragments(t *testing.T, w wire) {
	p := freePort()
	for _, host := range []string{w.v4, w.v6} {
		got := make(chan int, 100)
		pc := must[net.PacketConn](t)(net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(int(p)))))
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, 8192)
			for {
				n, _, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				got <- n
			}
		})
		k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{p}, Proto: "udp"})
		if err := errors.Join(k.Close(t.Context()), k.Open(t.Context(), forLong(fence.SystemClock{}))); err != nil {
			t.Fatal(err)
		}
		run(t, "nft", "flush", "ruleset")
		c := must[net.Conn](t)(w.dial("udp", host, p)(t.Context()))
		big := bytes.Repeat([]byte("x"), 5000)
		must[int](t)(c.Write(big))
		select {
		case n := <-got:
			if n != len(big) {
				t.Errorf("%s: %d bytes", host, n)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s: open, and nothing arrived", host)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, "nft", "flush", "ruleset")
		before := reassembled(t)
		for range 5 {
			_, _ = c.Write(big) // may be refused
		}
		select {
		case <-got:
			t.Errorf("%s: closed, and a datagram arrived", host)
		case <-time.After(100 * time.Millisecond):
		}
		if after := reassembled(t); after != before {
			t.Errorf("%s: fragments got as far as their reassembly: %s, before %s", host, after, before)
		}
		_ = errors.Join(c.Close(), pc.Close())
		wg.Wait()
		if err := k.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

// reassembled is how many fragments the kernel was asked to put together, for
// IPv4 and IPv6.
func reassembled(t *testing.T) string {
	t.Helper()
	var all []string
	lines := strings.Split(string(must[[]byte](t)(os.ReadFile("/proc/net/snmp"))), "\n")
	for i, name := range strings.Fields(lines[0]) {
		if name == "ReasmReqds" {
			all = append(all, strings.Fields(lines[1])[i])
		}
	}
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/net/snmp6")))) {
		if n, ok := strings.CutPrefix(line, "Ip6ReasmReqds"); ok {
			all = append(all, strings.TrimSpace(n))
		}
	}
	if len(all) != 2 {
		t.Fatalf("counters: %v", all)
	}
	return strings.Join(all, " ")
}

func backstopShared(t *testing.T, w wire) {
	one, two := freePort(), freePort()
	listenEcho(t, w.v4+port(one))
	listenEcho(t, w.v4+port(two))
	b := w.backstop(t)
	k := w.kernel(t, b, fence.KernelConfig{Ports: []uint16{one}})
	l := w.kernel(t, b, fence.KernelConfig{Ports: []uint16{two}, Protect: []netip.Addr{netip.MustParseAddr(w.v4)}})
	expect := func(what string, first, second bool) {
		t.Helper()
		run(t, "nft", "flush", "ruleset")
		for p, open := range map[uint16]bool{one: first, two: second} {
			if open {
				w.open(t, what, w.v4, p)
			} else if w.reach(p)(t.Context()) == nil {
				t.Errorf("%s: the fence of one that is closed is open", what)
			}
		}
	}
	for _, step := range []struct {
		what          string
		do            func() error
		first, second bool
	}{
		{"both closed", func() error { return errors.Join(k.Close(t.Context()), l.Close(t.Context())) }, false, false},
		{"first open", func() error { return k.Open(t.Context(), forLong(fence.SystemClock{})) }, true, false},
		{"both open", func() error { return l.Open(t.Context(), forLong(fence.SystemClock{})) }, true, true},
		{"first closed", func() error { return k.Close(t.Context()) }, false, true},
		{"first removed", func() error { return k.Remove() }, true, true},
		{"second closed", func() error { return l.Close(t.Context()) }, true, false},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		expect(step.what, step.first, step.second)
	}
	again := w.kernel(t, b, fence.KernelConfig{Ports: []uint16{two}, Protect: []netip.Addr{netip.MustParseAddr(w.v4)}})
	if err := again.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "fenced by service") {
		t.Errorf("two services with one port: %v", err)
	}
}

// A fence whose ports change: the old ones are let go, the new ones closed.
func backstopUpdate(t *testing.T, w wire) {
	before, after := freePort(), freePort()
	listenEcho(t, w.v4+port(before))
	listenEcho(t, w.v4+port(after))
	host := fence.Host{Backstop: w.backstop(t)}
	spec := fence.Spec{Service: "updated", Kind: draas.FenceKernel, Ports: []uint16{before}, XDP: []string{w.name}}
	g := must[*fence.Guard](t)(fence.NewGuard(fence.GuardConfig{Socket: filepath.Join(shortDir(t), "g"), Services: []fence.Entry{must[fence.Entry](t)(spec.Entry(host))}}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	defer func() { // a path fence in its place takes the rules and the program away
		spec := fence.Spec{Service: "updated", Kind: draas.FencePath, Listen: w.v4 + port(freePort()), Forward: w.v4 + port(after)}
		if err := g.Update(ctx, []fence.Entry{must[fence.Entry](t)(spec.Entry(host))}); err != nil {
			t.Error(err)
		}
		if w.reach(after)(t.Context()) != nil {
			t.Error("what the kernel fence left behind shuts users out")
		}
		if left := w.pinned(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-g.Ready()
	spec.Ports = []uint16{after}
	if err := g.Update(ctx, []fence.Entry{must[fence.Entry](t)(spec.Entry(host))}); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	w.open(t, "the old port", w.v4, before)
	if w.reach(after)(t.Context()) == nil {
		t.Error("the new port is open")
	}
}

// The guard's unit gives it CAP_BPF and CAP_NET_ADMIN, and a directory that
// root has mounted.
func backstopFewRights(t *testing.T, w wire) {
	p := freePort()
	listenEcho(t, w.v4+port(p))
	const nobody = 65534
	dir := filepath.Dir(w.pins)
	if err := errors.Join(os.MkdirAll(w.pins, 0o700), unix.Mount("bpf", w.pins, "bpf", 0, "mode=1777"), os.Chmod(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	args := roleArgs{Socket: dir + "/guard.sock", Pins: w.pins,
		Spec: fence.Spec{Service: "few", Kind: draas.FenceKernel, Ports: []uint16{p}, XDP: []string{w.name}}}
	guard := startRole(t, "guard", args, "setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
		"--inh-caps", "-all,+net_admin,+bpf", "--ambient-caps", "-all,+net_admin,+bpf", "--bounding-set", "-all,+net_admin,+bpf", "--no-new-privs", "--")
	guard.awaitReady(t)
	run(t, "nft", "flush", "ruleset")
	if w.reach(p)(t.Context()) == nil {
		t.Error("the backstop does not hold")
	}
	guard.signal(t, syscall.SIGTERM)
	if err := guard.wait(); err != nil {
		t.Error(err)
	}
	run(t, "nft", "delete table inet draas_few")
}
