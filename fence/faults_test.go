package fence_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/internal/lab"
)

// leaseOf is the fast profile's, with a margin for machines that stall; and a
// longer one for fences that run commands.
func leaseOf(kind draas.FenceKind) draas.Lease {
	if kind == draas.FenceExec || kind == draas.FenceSystemd {
		return draas.Lease{Length: 3500 * time.Millisecond, Drift: 0.1, Margin: 1500 * time.Millisecond}
	}
	return draas.Lease{Length: 2 * time.Second, Drift: 0.1, Margin: 500 * time.Millisecond}
}

const renewEvery = 300 * time.Millisecond

// site is a service behind a fence, in real processes, and its users.
type site struct {
	spec fence.Spec
	dial dialFunc // users' way in
	pins string   // of the backstop
	// service sends a signal to the service itself.
	service func(t *testing.T, sig syscall.Signal)
}

// users ask all the time: on one connection that stays, on one on which the
// service sends unasked, and on new ones. They note when they were last
// answered.
type users struct {
	last    [3]atomic.Int64 // boot clock: stays, stream, fresh
	answers atomic.Int64
}

func (u *users) note(i int, at time.Duration) {
	u.last[i].Store(int64(at))
	u.answers.Add(1)
}

// lastAnswer is the latest of all.
func (u *users) lastAnswer() time.Duration {
	return time.Duration(max(u.last[0].Load(), u.last[1].Load(), u.last[2].Load()))
}

func (u *users) all() bool {
	return u.last[0].Load() > 0 && u.last[1].Load() > 0 && u.last[2].Load() > 0
}

// start runs until ctx ends.
func (u *users) start(ctx context.Context, dial dialFunc) (wait func()) {
	var wg sync.WaitGroup
	again := func(i int, once func(c net.Conn) error) {
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				dctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				plain, err := dial(dctx)
				cancel()
				if err == nil {
					c, serr := stamp(plain)
					err = serr
					stop := context.AfterFunc(ctx, func() { _ = c.Close() })
					for err == nil {
						if err = once(c); err == nil {
							u.note(i, c.at)
						}
					}
					stop()
					_ = c.Close() // it failed
				}
				<-tick.C
			}
		})
	}
	again(0, func(c net.Conn) error {
		actx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		defer func() { <-time.After(10 * time.Millisecond) }()
		return ask(actx, c)
	})
	asked := map[net.Conn]bool{} // only the stream's goroutine touches it
	again(1, func(c net.Conn) error {
		if !asked[c] {
			asked[c] = true
			if _, err := c.Write([]byte("s")); err != nil {
				return err
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	})
	fresh := map[net.Conn]bool{}
	again(2, func(c net.Conn) error {
		if fresh[c] {
			return io.EOF // one request a connection
		}
		fresh[c] = true
		actx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		return ask(actx, c)
	})
	return wg.Wait
}

// fault is what happens to the processes, once users are served.
type fault struct {
	name string
	// strike does it. The guard and draasd run when it is called.
	strike func(t *testing.T, guard, draasd *proc)
	// atOnce says that the service ends with the fault itself, not at the
	// deadline.
	atOnce bool
	// after is done once the deadline and the margin have passed.
	after func(t *testing.T, guard *proc)
	// freeze says that the service stands still from the strike until after.
	freeze bool
}

// frozen is a host that stands still, as with a hypervisor that pauses it and
// sets its clocks right: what it had taken it may answer when it wakes.
func frozen() fault {
	return fault{name: "host frozen, awake late", freeze: true,
		strike: func(t *testing.T, guard, draasd *proc) {
			draasd.signal(t, syscall.SIGSTOP)
			guard.signal(t, syscall.SIGSTOP)
		},
		// Its draasd has nothing to say before it has heard the others.
		after: func(t *testing.T, guard *proc) { guard.signal(t, syscall.SIGCONT) }}
}

func faultsOfDraasd() []fault {
	return []fault{
		{name: "draasd killed", strike: func(t *testing.T, _, draasd *proc) { draasd.signal(t, syscall.SIGKILL) }},
		{name: "draasd stopped", strike: func(t *testing.T, _, draasd *proc) { draasd.signal(t, syscall.SIGSTOP) }},
	}
}

// faultsOfGuard are for the fences that do not need the guard to close.
func faultsOfGuard(atOnce bool) []fault {
	return []fault{
		{name: "guard and draasd killed", atOnce: atOnce, strike: func(t *testing.T, guard, draasd *proc) {
			guard.signal(t, syscall.SIGKILL)
			draasd.signal(t, syscall.SIGKILL)
		}},
		{name: "guard and draasd stopped, guard continued late", atOnce: atOnce,
			strike: func(t *testing.T, guard, draasd *proc) {
				draasd.signal(t, syscall.SIGSTOP)
				guard.signal(t, syscall.SIGSTOP)
			},
			after: func(t *testing.T, guard *proc) { guard.signal(t, syscall.SIGCONT) }},
	}
}

// runFaults checks DESIGN.md's first rule as far as one site can keep it: the
// last answer comes before the deadline and the margin have passed, and before
// a successor may serve.
func runFaults(t *testing.T, faults []fault, make func(t *testing.T) site) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for range faultTries {
				shown := false
				t.Run("made", func(t *testing.T) { shown = runFault(t, f, make(t)) })
				if shown || t.Failed() {
					return
				}
			}
			t.Errorf("the machine stood still in each of %d runs", faultTries)
		})
	}
}

// faultTries is how often a fault is made that the machine spoils.
const faultTries = 10

// runFault reports whether it showed anything: on a machine that stands still
// users may have no answer any more before the fault.
func runFault(t *testing.T, f fault, s site) (shown bool) {
	var calm lab.Calm
	calm.Mark()
	watched := make(chan struct{})
	watch, unwatch := context.WithCancel(t.Context())
	go func() { defer close(watched); calm.Watch(watch) }()
	defer func() { unwatch(); <-watched }()
	socket := shortDir(t) + "/guard.sock"
	lease := leaseOf(s.spec.Kind)
	s.spec.Margin = lease.Margin
	guard := startRole(t, "guard", roleArgs{Socket: socket, Spec: s.spec, Pins: s.pins})
	guard.awaitReady(t)

	var u users
	ctx, cancel := context.WithCancel(t.Context())
	wait := u.start(ctx, s.dial)
	defer func() { cancel(); wait() }()

	if u.answers.Load() > 0 {
		t.Fatal("answered without a permit")
	}
	draasd := startRole(t, "draasd", roleArgs{Socket: socket, Spec: s.spec, Epoch: 1, Hold: lease.Hold(), Every: renewEvery})
	eventually(t, "all users served", u.all)
	first := fence.SystemClock{}.Now()
	eventually(t, "served for longer than one renewal", func() bool {
		return fence.SystemClock{}.Now().Sub(first) > 2*renewEvery
	})

	f.strike(t, guard, draasd)
	if f.freeze {
		s.service(t, syscall.SIGSTOP)
	}
	struck := fence.SystemClock{}.Now().Boot
	from, deadline := lastSent(t, draasd)
	awaitBoot(t, deadline+lease.Margin+100*time.Millisecond)
	awake := fence.SystemClock{}.Now().Boot
	if f.after != nil {
		if f.freeze {
			s.service(t, syscall.SIGCONT)
		}
		f.after(t, guard)
		awaitBoot(t, awake+lease.Margin+500*time.Millisecond)
	}
	cancel()
	wait()

	last := u.lastAnswer()
	if f.freeze && (s.spec.Kind == draas.FenceExec || s.spec.Kind == draas.FenceSystemd) {
		// Nothing but the guard closes these: it begins when it is awake.
		if over := last - awake; over > lease.Margin {
			t.Errorf("last answer %v after waking, margin %v", over, lease.Margin)
		}
		return true
	}
	// What counts is the successor. A machine that stalls for longer than the
	// margin delays the answer on its way, too: that is told, not judged.
	if over := last - deadline; over > lease.Margin {
		t.Logf("last answer %v after the deadline, margin %v", over, lease.Margin)
	}
	if successor := from + lease.Wait(); last >= successor {
		t.Errorf("last answer %v after a successor may serve", last-successor)
	}
	if !f.atOnce && !f.freeze && last < struck+50*time.Millisecond {
		if late := calm.Late(); late > 50*time.Millisecond {
			t.Logf("users had no answer from %v before the fault on: the machine let nobody run for %v", struck-last, late)
			return false
		}
		t.Errorf("the service ended with the fault (%v before), not by the fence: the test shows nothing", struck-last)
	}
	t.Logf("last answer: stays %v, stream %v, fresh %v relative to the deadline; successor's wait ends %v after it",
		time.Duration(u.last[0].Load())-deadline, time.Duration(u.last[1].Load())-deadline,
		time.Duration(u.last[2].Load())-deadline, from+lease.Wait()-deadline)
	return true
}

func awaitBoot(t *testing.T, boot time.Duration) {
	t.Helper()
	eventually(t, "an instant", func() bool { return fence.SystemClock{}.Now().Boot > boot })
}

func TestFaultsPath(t *testing.T) {
	t.Parallel()
	make := func(t *testing.T) site {
		s := site{spec: fence.Spec{Service: "shop", Kind: draas.FencePath, Listen: freeAddr(t), Forward: freeAddr(t)}}
		s.dial = dialTo(s.spec.Listen)
		s.service = startRole(t, "service", roleArgs{Addr: s.spec.Forward}).signal
		return s
	}
	runFaults(t, append(append(faultsOfDraasd(), faultsOfGuard(true)...), frozen()), make)
}

func TestFaultsExec(t *testing.T) {
	t.Parallel()
	runFaults(t, append(faultsOfDraasd(), frozen()), func(t *testing.T) site {
		svc := newScript(t, false)
		return site{spec: svc.execSpec(), dial: dialTo(svc.addr), service: svc.signal}
	})
}

func TestFaultsSystemd(t *testing.T) {
	t.Parallel()
	runFaults(t, append(faultsOfDraasd(), frozen()), func(t *testing.T) site {
		svc := newScript(t, false)
		return site{spec: svc.systemdSpec(), dial: dialTo(svc.addr), service: svc.signal}
	})
	stubborn := faultsOfDraasd()[0]
	stubborn.name = "a unit that ignores SIGTERM, " + stubborn.name
	runFaults(t, []fault{stubborn}, func(t *testing.T) site {
		svc := newScript(t, true)
		return site{spec: svc.systemdSpec(), dial: dialTo(svc.addr)}
	})
}

// exec and systemd need the guard to close: one that was killed leaves the
// service running, and closes it when it is started again. docs/fence.md says
// so; this shows it.
func TestRestartedGuardCloses(t *testing.T) {
	t.Parallel()
	svc := newScript(t, false)
	args := roleArgs{Socket: shortDir(t) + "/guard.sock", Spec: svc.systemdSpec(), Epoch: 1, Hold: time.Minute, Every: time.Minute}
	guard := startRole(t, "guard", args)
	guard.awaitReady(t)
	startRole(t, "draasd", args)
	reach := askFresh(dialTo(svc.addr))
	eventually(t, "served", func() bool { return reach(t.Context()) == nil })
	guard.signal(t, syscall.SIGKILL)
	if reach(t.Context()) != nil {
		t.Fatal("the unit ended with the guard: the test shows nothing")
	}
	guard = startRole(t, "guard", args)
	guard.awaitReady(t)
	if reach(t.Context()) == nil {
		t.Fatal("the restarted guard is ready and the unit still runs")
	}
}

// SIGTERM closes.
func TestGuardProcessStops(t *testing.T) {
	t.Parallel()
	addr, backend := freeAddr(t), startEcho(t)
	args := roleArgs{Socket: shortDir(t) + "/guard.sock", Epoch: 1, Hold: time.Minute, Every: time.Minute,
		Spec: fence.Spec{Service: "shop", Kind: draas.FencePath, Listen: addr, Forward: backend}}
	guard := startRole(t, "guard", args)
	guard.awaitReady(t)
	startRole(t, "draasd", args)
	reach := askFresh(dialTo(addr))
	eventually(t, "served", func() bool { return reach(t.Context()) == nil })
	guard.signal(t, syscall.SIGTERM)
	if err := guard.wait(); err != nil || !strings.Contains(guard.stderr.String(), "fence closed") {
		t.Fatalf("guard ended with %v", err)
	}
	if reach(t.Context()) == nil {
		t.Fatal("served after the guard's orderly end")
	}
}
