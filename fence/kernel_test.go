package fence_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

func newKernel(t *testing.T, cfg fence.KernelConfig) *fence.Kernel {
	t.Helper()
	cfg.Service = draas.ServiceID(fmt.Sprintf("s%d", nextPort.Add(1)))
	k := must[*fence.Kernel](t)(fence.NewKernel(cfg))
	t.Cleanup(func() {
		if err := k.Remove(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestKernelConforms(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		// A firewall that lets established connections pass must not save them.
		run(t, "nft", "add table inet fw; add chain inet fw early { type filter hook input priority -300; };"+
			"add chain inet fw late { type filter hook input priority 10; };"+
			"add rule inet fw early ct state established accept; add rule inet fw late ct state established accept")
		for _, c := range []struct {
			name, addr string
			protect    []netip.Addr
		}{
			{"IPv4, every address", siteIP, nil},
			{"IPv6, protected", "[" + site6IP + "]", []netip.Addr{netip.MustParseAddr(siteIP), netip.MustParseAddr(site6IP)}},
		} {
			t.Run(c.name, func(t *testing.T) {
				fencetest.Run(t, func(t *testing.T) fencetest.Subject {
					p := freePort()
					listenEcho(t, c.addr+port(p))
					dial := dialFrom(users, "tcp", c.addr+port(p))
					k := newKernel(t, fence.KernelConfig{Ports: []uint16{p, p + 20000}, Protect: c.protect})
					return fencetest.Subject{Fence: k, Clock: fence.SystemClock{}, SelfTimed: true,
						Ask: askFresh(dial), Connect: connect(t, dial)}
				})
			})
		}
	})
}

func TestFaultsKernel(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		runFaults(t, append(append(faultsOfDraasd(), faultsOfGuard(false)...), frozen()), func(t *testing.T) site {
			p := freePort()
			service := startRole(t, "service", roleArgs{Addr: siteIP + port(p)})
			return site{service: service.signal, dial: dialFrom(users, "tcp", siteIP+port(p)),
				spec: fence.Spec{Service: draas.ServiceID("shop" + strconv.Itoa(int(p))), Kind: draas.FenceKernel, Ports: []uint16{p}}}
		})
	})
}

func TestKernelRules(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		t.Run("refresh loses nothing", func(t *testing.T) { kernelRefresh(t, users) })
		t.Run("late writes", func(t *testing.T) { kernelLateWrite(t, users) })
		t.Run("scope", func(t *testing.T) { kernelScope(t, users) })
		t.Run("udp", func(t *testing.T) { kernelUDP(t, users) })
		t.Run("foreign flush", func(t *testing.T) { kernelForeignFlush(t, users) })
		t.Run("idle audit is cheap", func(t *testing.T) { kernelAuditIsCheap(t) })
	})
}

// Users ask all the time while the permit is renewed far oftener than it would
// be: not one packet may be rejected.
func kernelRefresh(t *testing.T, users string) {
	p := freePort()
	listenEcho(t, siteIP+port(p))
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}})
	clock := fence.SystemClock{}
	if err := k.Open(t.Context(), forLong(clock)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var asked, failed atomic.Int64
	for range 2 {
		c := must[net.Conn](t)(dialFrom(users, "tcp", siteIP+port(p))(ctx))
		defer c.Close()
		wg.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if ask(context.Background(), c) != nil {
					failed.Add(1)
					return
				}
			}
		})
	}
	renewals := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); renewals++ {
		d := draas.DeadlineAt(clock.Now(), 5*time.Second)
		if err := k.Extend(ctx, fence.Permit{Epoch: 1, Deadline: d}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	if failed.Load() > 0 || asked.Load() < 100 || renewals < 10 {
		t.Errorf("%d of %d requests failed over %d renewals", failed.Load(), asked.Load(), renewals)
	}
	out := run(t, "nft", "list", "ruleset")
	if strings.Contains(strings.ReplaceAll(out, "counter packets 0 bytes 0", ""), "counter") {
		t.Errorf("packets were rejected:\n%s", out)
	}
	if !strings.Contains(out, "meta time < ") {
		t.Errorf("the kernel does not compare the time:\n%s", out)
	}
	t.Logf("%d requests, %d renewals", asked.Load(), renewals)
}

// A guard that read the clock, was stopped, and writes the permit after its
// deadline: the relative timeout in the set would reopen the fence, the
// absolute time in the rule keeps it closed.
func kernelLateWrite(t *testing.T, users string) {
	p := freePort()
	listenEcho(t, siteIP+port(p))
	slow := &frozenClock{now: fence.SystemClock{}.Now()}
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}, Clock: slow})
	reach := askFresh(dialFrom(users, "tcp", siteIP+port(p)))
	permit := fence.Permit{Epoch: 1, Deadline: draas.DeadlineAt(slow.Now(), 1500*time.Millisecond)}
	if err := k.Open(t.Context(), permit); err != nil {
		t.Fatal(err)
	}
	if err := reach(t.Context()); err != nil {
		t.Fatalf("not open: %v", err)
	}
	awaitBoot(t, permit.Deadline.Boot+50*time.Millisecond)
	// Its clock still shows the time before.
	if err := k.Extend(t.Context(), permit); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "expires") {
		t.Fatalf("the late write left no element, the test shows nothing:\n%s", out)
	}
	if reach(t.Context()) == nil {
		t.Error("a late write reopened the fence")
	}
}

// What the fence must leave alone: loopback, other ports, other addresses, and
// traffic through this host that is not protected. And what it must hold: a
// protected address behind this host.
func kernelScope(t *testing.T, users string) {
	p, other := freePort(), freePort()
	behind := strings.TrimSuffix(users, "u") + "b"
	listenEcho(t, "0.0.0.0"+port(p))
	listenEcho(t, siteIP+port(other))
	if err := inside(behind, func() error { listenEcho(t, innerIP+port(p)); return nil }); err != nil {
		t.Fatal(err)
	}
	reach := func(ns, addr string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		dial := dialTo(addr)
		if ns != "" {
			dial = dialFrom(ns, "tcp", addr)
		}
		return askFresh(dial)(ctx) == nil
	}
	expect := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: reachable %v, want %v", what, got, want)
		}
	}
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("the service", reach(users, siteIP+port(p)), false)
	expect("the service by loopback", reach("", "127.0.0.1"+port(p)), true)
	expect("the service from its own host", reach("", siteIP+port(p)), true)
	expect("another port", reach(users, siteIP+port(other)), true)
	expect("the same port behind this host, not protected", reach(users, innerIP+port(p)), true)
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	expect("the service, rules removed", reach(users, siteIP+port(p)), true)

	k = newKernel(t, fence.KernelConfig{Ports: []uint16{p}, Protect: []netip.Addr{netip.MustParseAddr(innerIP)}})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("a protected address behind this host", reach(users, innerIP+port(p)), false)
	expect("the same port on an address not protected", reach(users, siteIP+port(p)), true)
	if err := k.Open(t.Context(), forLong(fence.SystemClock{})); err != nil {
		t.Fatal(err)
	}
	expect("the protected address, open", reach(users, innerIP+port(p)), true)
}

// UDP is shut in both directions: a service that sends without being asked is
// stopped too (with TCP the user's acknowledgement meets a reset).
func kernelUDP(t *testing.T, users string) {
	p := freePort()
	pc := must[net.PacketConn](t)(net.ListenPacket("udp", siteIP+port(p)))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer pc.Close()
	var user atomic.Pointer[net.Addr] // the last to send: to him goes the stream
	wg.Go(func() {
		buf := make([]byte, 16)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			user.Store(&from)
			_, _ = pc.WriteTo(buf[:n], from) // refused once it is fenced
		}
	})
	stopStream := make(chan struct{})
	defer close(stopStream)
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stopStream:
				return
			}
			if to := user.Load(); to != nil {
				_, _ = pc.WriteTo([]byte("s"), *to) // refused once it is fenced
			}
		}
	})
	dial := func() net.Conn {
		c := must[net.Conn](t)(dialFrom(users, "udp", siteIP+port(p))(t.Context()))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	reach := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return ask(ctx, dial()) == nil
	}
	receives := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := c.Read(make([]byte, 16))
		return err == nil
	}
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}, Proto: "both"})
	if err := k.Close(t.Context()); err != nil || reach() {
		t.Fatalf("closed, but reachable by UDP (%v)", err)
	}
	if err := k.Open(t.Context(), forLong(fence.SystemClock{})); err != nil || !reach() {
		t.Fatalf("open, but not reachable by UDP (%v)", err)
	}
	c := dial()
	if err := ask(t.Context(), c); err != nil || !receives(c) {
		t.Fatalf("no stream while open (%v)", err)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // what had arrived before, at most
		if !receives(c) {
			return
		}
	}
	t.Error("the stream goes on after the close")
}

// Somebody else flushes the rules: State sees it, and a guard restores them,
// closed or open as they were.
func kernelForeignFlush(t *testing.T, users string) {
	p := freePort()
	listenEcho(t, siteIP+port(p))
	reach := askFresh(dialFrom(users, "tcp", siteIP+port(p)))
	vandals := map[string]string{
		"ruleset": "flush ruleset", "table": "delete table inet draas_%s",
		"rules": "flush chain inet draas_%[1]s input; flush chain inet draas_%[1]s output", "ports": "flush set inet draas_%s ports",
		"dormant": "add table inet draas_%s { flags dormant; }",
	}
	for name, vandal := range vandals {
		k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}})
		table := fmt.Sprintf("s%d", nextPort.Load())
		if strings.Contains(vandal, "%") {
			vandal = fmt.Sprintf(vandal, table)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, "nft", vandal)
		if reach(t.Context()) != nil {
			t.Errorf("%s: still fenced, the test shows nothing", name)
		}
		if s, err := k.State(t.Context()); s != fence.Unknown || err == nil {
			t.Errorf("%s: state %s, %v", name, s, err)
		}
		if err := k.Close(t.Context()); err != nil || reach(t.Context()) == nil {
			t.Errorf("%s: not restored: %v", name, err)
		}
		if err := k.Remove(); err != nil {
			t.Error(err)
		}
	}

	spec := fence.Spec{Service: "flushed", Kind: draas.FenceKernel, Ports: []uint16{p}}
	args := roleArgs{Socket: shortDir(t) + "/guard.sock", Spec: spec, Epoch: 1, Hold: 600 * time.Millisecond, Every: 100 * time.Millisecond}
	guard := startRole(t, "guard", args)
	guard.awaitReady(t)
	run(t, "nft", "flush", "ruleset")
	eventually(t, "closed again by the guard", func() bool { return reach(t.Context()) != nil })
	if !strings.Contains(guard.stderr.String(), "open without a permit") {
		t.Error("the guard did not log it")
	}
	draasd := startRole(t, "draasd", args)
	eventually(t, "served", func() bool { return reach(t.Context()) == nil })
	run(t, "nft", "flush", "ruleset")
	eventually(t, "restored by the guard, open", func() bool {
		return strings.Contains(run(t, "nft", "list", "ruleset"), "chain permit") && reach(t.Context()) == nil
	})
	draasd.signal(t, syscall.SIGKILL)
	eventually(t, "closed at the deadline", func() bool { return reach(t.Context()) != nil })
	guard.signal(t, syscall.SIGTERM)
	if err := guard.wait(); err != nil || reach(t.Context()) == nil {
		t.Errorf("an orderly end must leave the rules, closed: %v", err)
	}
	run(t, "nft", "delete table inet draas_flushed")
}

// The guard looks five times a second at each kernel fence: it must cost next
// to nothing while nobody changes any rule.
func kernelAuditIsCheap(t *testing.T) {
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{freePort()}})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	const looks = 200
	before := cpuTime(t)
	for range looks {
		if s, err := k.State(t.Context()); s != fence.Closed {
			t.Fatalf("%s, %v", s, err)
		}
	}
	each := (cpuTime(t) - before) / looks
	t.Logf("%v of CPU a look", each)
	if each > 2*time.Millisecond { // 1 % of a core at five a second, race detector and all
		t.Errorf("a look takes %v of CPU", each)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
