package fence_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
	"github.com/draasd/draas/internal/lab"
)

// stepClock is the system's clocks, with a wall clock that a test steps, and
// with suspends.
type stepClock struct {
	mu    sync.Mutex
	step  time.Duration
	slept time.Duration
}

func (c *stepClock) Now() draas.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := fence.SystemClock{}.Now()
	r.Wall += c.step + c.slept
	r.Boot += c.slept
	return r
}

// suspend lets time pass in which nothing ran and no timer counted.
func (c *stepClock) suspend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}

func (c *stepClock) stepWall(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step += d
}

// rig is a guard in this process, with a fake fence.
type rig struct {
	fake   *fencetest.Fake
	clock  *stepClock
	client *fence.Client
	socket string
	guard  *fence.Guard
	stop   func() error
}

func newRig(t *testing.T, faults fencetest.Faults) *rig {
	t.Helper()
	t.Parallel()
	clock := &stepClock{}
	r := &rig{clock: clock, fake: fencetest.NewFake(clock, 50*time.Millisecond),
		socket: filepath.Join(shortDir(t), "guard.sock")}
	r.fake.Break(faults)
	r.start(t)
	return r
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	var err error
	r.guard, err = fence.NewGuard(fence.GuardConfig{
		Socket: r.socket, Clock: r.clock, StopTimeout: 2 * time.Second,
		Services: []fence.Entry{{Service: "shop", Kind: draas.FenceExec, Fence: r.fake, Audit: 30 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.guard.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	r.client = fence.Dial(r.socket)
	t.Cleanup(func() {
		r.fake.Break(fencetest.Faults{})
		if err := errors.Join(r.stop(), r.client.Close()); err != nil {
			t.Errorf("stop guard: %v", err)
		}
	})
}

// shortDir is a temporary directory whose name leaves room for a socket
// (sun_path holds 108 bytes).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fence")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (r *rig) ready(t *testing.T) {
	t.Helper()
	select {
	case <-r.guard.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("guard not ready")
	}
}

// ask asks for an extension once.
func (r *rig) ask(t *testing.T, e draas.Epoch, d time.Duration) (fence.Status, error) {
	t.Helper()
	return r.client.Extend(t.Context(), "shop", e, draas.DeadlineAt(r.clock.Now(), d))
}

// extend asks until it is known how it went: the guard answers before that
// where opening takes long, or on a machine that stands still.
func (r *rig) extend(t *testing.T, e draas.Epoch, d time.Duration) (st fence.Status, err error) {
	t.Helper()
	deadline := draas.DeadlineAt(r.clock.Now(), d)
	eventually(t, "opened or not", func() bool {
		st, err = r.client.Extend(t.Context(), "shop", e, deadline)
		return err != nil || st.Phase != "opening"
	})
	return st, err
}

func (r *rig) status(t *testing.T) fence.Status {
	t.Helper()
	all, err := r.client.Status(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("status: %v, %v", all, err)
	}
	return all[0]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestGuardStartsClosedAndClosesAtTheDeadline(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	if r.fake.Serving() {
		t.Fatal("ready while the fence that was found open still is")
	}
	const permit = 1500 * time.Millisecond // more than a machine stands still
	start := r.clock.Now()
	st := must[fence.Status](t)(r.extend(t, 1, permit))
	if st.State != fence.Open || st.Epoch != 1 || st.Left <= 0 || !r.fake.Serving() {
		t.Fatalf("extended to %+v", st)
	}
	late := lab.Late(func() { eventually(t, "closed by itself", func() bool { return !r.fake.Serving() }) })
	if took := r.clock.Now().Sub(start); took < permit || took > permit+700*time.Millisecond+late {
		t.Fatalf("closed after %v, deadline %v; the machine let nobody run for %v", took, permit, late)
	}
	eventually(t, "closed in the status", func() bool { return r.status(t).State == fence.Closed })
	if _, err := r.extend(t, 1, 0); !errors.Is(err, draas.ErrExpired) {
		t.Fatalf("a late write: %v", err)
	}
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
	if !r.fake.Serving() {
		t.Fatal("a renewal after the end must open again")
	}
	if err := r.stop(); err != nil || r.fake.Serving() {
		t.Fatalf("an orderly stop must close: %v", err)
	}
}

func TestGuardExtends(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	for range 6 {
		d := draas.DeadlineAt(r.clock.Now(), 2500*time.Millisecond)
		must[fence.Status](t)(r.client.Extend(t.Context(), "shop", 1, d))
		if p := r.fake.Permit(); p.Deadline != d {
			t.Fatalf("the fence has %v, want %v", p.Deadline, d)
		}
		eventually(t, "some of it passed", func() bool { return d.Left(r.clock.Now()) < 2350*time.Millisecond })
		if !r.fake.Serving() {
			t.Fatal("closed while renewed")
		}
	}
	if n := slices.Index(r.fake.Calls(), "open"); slices.Contains(r.fake.Calls()[n+1:], "open") {
		t.Fatalf("opened twice: %v", r.fake.Calls())
	}
}

func TestGuardClose(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	must[fence.Status](t)(r.extend(t, 3, time.Minute))
	if _, err := r.client.Shut(t.Context(), "shop", 2); !errors.Is(err, draas.ErrStaleEpoch) || !r.fake.Serving() {
		t.Fatalf("a close of an earlier epoch: %v", err)
	}
	st := must[fence.Status](t)(r.client.Shut(t.Context(), "shop", 3))
	if r.fake.Serving() || st.State != fence.Closed || st.Ended != 3 {
		t.Fatalf("closed to %+v", st)
	}
	if _, err := r.extend(t, 3, time.Minute); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Fatalf("reopening a closed epoch: %v", err)
	}
	must[fence.Status](t)(r.client.Shut(t.Context(), "shop", 3)) // again

	// A guard that was restarted still knows.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.ready(t)
	for e := range draas.Epoch(3) {
		if _, err := r.extend(t, e+1, time.Minute); !errors.Is(err, draas.ErrStaleEpoch) {
			t.Fatalf("reopening epoch %d after a restart: %v", e+1, err)
		}
	}
	must[fence.Status](t)(r.extend(t, 4, time.Minute))
}

func TestGuardWallClockSteps(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
	r.clock.stepWall(time.Hour)
	eventually(t, "closed by the wall clock", func() bool { return !r.fake.Serving() })
	r.clock.stepWall(-time.Hour)
	eventually(t, "an audit later", func() bool { return r.status(t).State == fence.Closed })
	if r.fake.Serving() {
		t.Fatal("the step back reopened it")
	}
	must[fence.Status](t)(r.extend(t, 1, time.Second))
	r.clock.stepWall(-time.Hour)
	eventually(t, "closed by the boot clock", func() bool { return !r.fake.Serving() })
}

// A machine that was suspended past the deadline closes as soon as it is awake,
// though no timer of its own has counted the time; a renewal that was under way
// does not reopen.
func TestGuardAwakesFromSuspend(t *testing.T) {
	lab.Calmly(t, 250*time.Millisecond, func() func() { return awakes(t) })
}

func awakes(t *testing.T) (judge func()) {
	t.Helper()
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
	late := draas.DeadlineAt(r.clock.Now(), 90*time.Second)
	r.clock.suspend(2 * time.Minute)
	awake := time.Now()
	eventually(t, "closed", func() bool { return !r.fake.Serving() })
	took := time.Since(awake)
	if _, err := r.client.Extend(t.Context(), "shop", 1, late); !errors.Is(err, draas.ErrExpired) {
		t.Errorf("a renewal from before: %v", err)
	}
	return func() {
		if took > 500*time.Millisecond { // it looks every 50 ms; machines stall
			t.Errorf("closed %v after waking", took)
		}
	}
}

func TestGuardNotReadyUntilObservedClosed(t *testing.T) {
	r := newRig(t, fencetest.Faults{Close: errors.New("stuck bolt")})
	eventually(t, "trying to close", func() bool { return len(r.fake.Calls()) > 2 })
	if _, err := r.extend(t, 1, time.Minute); !errors.Is(err, fence.ErrNotReady) {
		t.Fatalf("extend before the fence was closed: %v", err)
	}
	if st := r.status(t); st.State != fence.Open || !strings.Contains(st.Error, "stuck bolt") {
		t.Fatalf("status %+v", st)
	}
	select {
	case <-r.guard.Ready():
		t.Fatal("ready with an open fence")
	default:
	}
	r.fake.Break(fencetest.Faults{})
	r.ready(t)
}

func TestGuardCannotConfirmTheClose(t *testing.T) {
	for name, faults := range map[string]fencetest.Faults{
		"close fails": {Close: errors.New("jammed")},
		"cannot see":  {Blind: errors.New("jammed")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fencetest.Faults{})
			r.ready(t)
			must[fence.Status](t)(r.extend(t, 1, time.Minute))
			r.fake.Break(faults)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := r.client.Shut(ctx, "shop", 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("shut: %v", err)
			}
			if st := r.status(t); st.State == fence.Closed || !strings.Contains(st.Error, "jammed") {
				t.Fatalf("status %+v", st)
			}
			r.fake.Break(fencetest.Faults{})
			eventually(t, "closed in the end", func() bool { return !r.fake.Serving() && r.status(t).State == fence.Closed })
			if st := r.status(t); st.LateCloses != 1 || st.LastClose < 50*time.Millisecond {
				t.Fatalf("a late close must be counted: %+v", st)
			}
		})
	}
}

func TestGuardOpenFails(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	r.fake.Break(fencetest.Faults{Open: errors.New("no key")})
	eventually(t, "the failure is told", func() bool { // a busy machine may not have tried yet
		_, err := r.extend(t, 1, time.Minute)
		return errors.Is(err, fence.ErrNotOpened) && strings.Contains(err.Error(), "no key")
	})
	r.fake.Break(fencetest.Faults{})
	eventually(t, "opened at a later try", func() bool { return r.fake.Serving() })
}

// A slow opening answers "opening", is kept alive by renewals, and is ended by
// the deadline when they stop.
func TestGuardSlowOpen(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	r.fake.Break(fencetest.Faults{OpenTakes: time.Second})
	for !r.fake.Serving() {
		st := must[fence.Status](t)(r.ask(t, 1, 2*time.Second))
		if st.State != fence.Open && st.Phase != "opening" {
			t.Fatalf("status %+v", st)
		}
	}
	must[fence.Status](t)(r.client.Shut(t.Context(), "shop", 1))

	r.fake.Break(fencetest.Faults{OpenTakes: time.Hour})
	must[fence.Status](t)(r.ask(t, 2, time.Second))
	eventually(t, "the opening given up", func() bool { return r.status(t).State == fence.Closed })

	must[fence.Status](t)(r.ask(t, 2, time.Minute)) // opening again, for long
	must[fence.Status](t)(r.client.Shut(t.Context(), "shop", 2))
	if r.fake.Serving() {
		t.Fatal("open after the close")
	}
}

func TestGuardAudits(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	r.fake.Force(true)
	eventually(t, "closed what was opened without a permit", func() bool { return !r.fake.Serving() })
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
	r.fake.Force(false)
	eventually(t, "reported", func() bool { st := r.status(t); return st.State == fence.Closed && st.Error != "" })
	r.fake.Force(true)
	eventually(t, "the report taken back", func() bool { st := r.status(t); return st.State == fence.Open && st.Error == "" })
}

func TestGuardKeepsASecondOut(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	second, err := fence.NewGuard(fence.GuardConfig{Socket: r.socket})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, fence.ErrGuardRunning) {
		t.Fatalf("a second guard: %v", err)
	}
	must[fence.Status](t)(r.extend(t, 1, time.Minute)) // the first is unharmed
}

func TestGuardSocket(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "new", "guard.sock")
	g := must[*fence.Guard](t)(fence.NewGuard(fence.GuardConfig{Socket: socket}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	<-g.Ready()
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if fi := must[os.FileInfo](t)(os.Stat(path)); fi.Mode().Perm() != want {
			t.Errorf("%s has mode %#o, want %#o", path, fi.Mode().Perm(), want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// A socket left by a killed guard is replaced; what is no socket is not.
	ln := must[*net.UnixListener](t)(net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale"), Net: "unix"}))
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(ln.Close(), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Mkdir(filepath.Join(dir, "loose"), 0o700), os.Chmod(filepath.Join(dir, "loose"), 0o777)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"stale": "", "file": "is no socket", "loose/sock": "written by others"} {
		g := must[*fence.Guard](t)(fence.NewGuard(fence.GuardConfig{Socket: filepath.Join(dir, name)}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			select {
			case <-g.Ready():
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
			cancel()
		}()
		err := g.Run(ctx)
		cancel()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
