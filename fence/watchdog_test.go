package fence_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

// fakeWatchdog is a watchdog in memory: no machine of the tests has one.
type fakeWatchdog struct {
	mu    sync.Mutex
	check error
	fail  error // Arm and Pet return it
	armed bool
	said  []string
	petAt time.Duration // boot time of the last pet, or arming
}

func (w *fakeWatchdog) do(what string, armed bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil && what != "disarm" {
		return w.fail
	}
	if what == "pet" && !w.armed {
		return errors.New("petted while it is not armed")
	}
	w.armed = armed
	if what != "disarm" {
		w.petAt = fence.SystemClock{}.Now().Boot
	}
	if len(w.said) == 0 || w.said[len(w.said)-1] != what {
		w.said = append(w.said, what)
	}
	return nil
}

func (w *fakeWatchdog) Check() error              { return w.check }
func (w *fakeWatchdog) Arm(d time.Duration) error { return w.do("arm", true) }
func (w *fakeWatchdog) Pet() error                { return w.do("pet", true) }
func (w *fakeWatchdog) Disarm() error             { return w.do("disarm", false) }

// saw is what was done, each thing once however often in a row, and when the
// watchdog was last petted.
func (w *fakeWatchdog) saw() (said []string, armed bool, petAt time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.said), w.armed, w.petAt
}

func (w *fakeWatchdog) breakIt(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

const dogTimeout = time.Second // petted every 250 ms

func watched(w *fakeWatchdog) fence.GuardConfig {
	return fence.GuardConfig{Watchdog: w, WatchdogTimeout: dogTimeout}
}

// Armed before the first fence opens, petted while one is open, disarmed when
// the last is observed closed.
func TestWatchdogFollowsTheFences(t *testing.T) {
	w := &fakeWatchdog{armed: true} // as a guard that was killed leaves it
	f := newFleetOf(t, watched(w), "a", "b")
	if said, armed, _ := w.saw(); armed || !slices.Equal(said, []string{"disarm"}) {
		t.Fatalf("every fence was observed closed: %v", said)
	}
	f.opened(1, "a")
	f.opened(1, "b")
	if _, armed, _ := w.saw(); !armed {
		t.Fatal("open and not armed")
	}
	_, _, before := w.saw()
	eventually(t, "petted", func() bool { _, _, at := w.saw(); return at > before })
	must[fence.Status](t)(f.client.Shut(t.Context(), "a", 1))
	_, _, before = w.saw()
	eventually(t, "petted for the other", func() bool { _, _, at := w.saw(); return at > before })
	must[fence.Status](t)(f.client.Shut(t.Context(), "b", 1))
	eventually(t, "disarmed", func() bool { _, armed, _ := w.saw(); return !armed })
	f.opened(2, "b")
	said, armed, _ := w.saw()
	if n := len(said) - 1; said[n] == "pet" { // by now
		said = said[:n]
	}
	if !armed || !slices.Equal(said, []string{"disarm", "arm", "pet", "disarm", "arm"}) {
		t.Errorf("%v, armed %v", said, armed)
	}
}

// What cannot be closed at its deadline is not petted any more, from the
// deadline on: the machine is reset within the timeout.
func TestWatchdogIsLeftWhenAFenceStaysOpen(t *testing.T) {
	w := &fakeWatchdog{}
	f := newFleetOf(t, watched(w), "a", "stuck")
	f.opened(1, "a")
	f.fakes["stuck"].Break(fencetest.Faults{Close: errors.New("it will not stop")})
	x := f.extension("stuck", 1, 600*time.Millisecond)
	must[[]fence.Extended](t)(f.client.ExtendAll(t.Context(), []fence.Extension{x}))
	awaitBoot(t, x.Deadline.Boot+dogTimeout)
	_, armed, petAt := w.saw()
	if !armed || petAt > x.Deadline.Boot+20*time.Millisecond {
		t.Errorf("armed %v, petted %v after the deadline", armed, petAt-x.Deadline.Boot)
	}
	if petAt < x.Deadline.Boot-dogTimeout/2 {
		t.Errorf("petted last %v before the deadline: the test shows nothing", x.Deadline.Boot-petAt)
	}
	f.fakes["stuck"].Break(fencetest.Faults{})
	eventually(t, "petted again for the other", func() bool { _, _, at := w.saw(); return at > petAt })
}

// No watchdog, no opening.
func TestWatchdogCannotBeArmed(t *testing.T) {
	w := &fakeWatchdog{fail: errors.New("device busy")}
	f := newFleetOf(t, watched(w), "a")
	x := f.extendAll([]fence.Extension{f.extension("a", 1, time.Minute)})[0]
	if !errors.Is(x.Err, fence.ErrNotOpened) || !strings.Contains(x.Err.Error(), "device busy") {
		t.Errorf("%v", x.Err)
	}
	if f.fakes["a"].Serving() || slices.Contains(f.fakes["a"].Calls(), "open") {
		t.Error("opened without the watchdog")
	}
	w.breakIt(nil)
	eventually(t, "opened once it can be armed", f.fakes["a"].Serving)

	w.check = errors.New("no such device")
	if _, err := fence.NewGuard(fence.GuardConfig{Socket: "x", Watchdog: w, WatchdogTimeout: dogTimeout}); !errors.Is(err, w.check) {
		t.Errorf("a watchdog that is not there: %v", err)
	}
	if _, err := fence.NewGuard(fence.GuardConfig{Socket: "x", Watchdog: &fakeWatchdog{}}); err == nil {
		t.Error("no timeout")
	}
}

// A fence that cannot be closed at the start: nothing is armed or opened, so
// that the machine is not reset again and again, and a watchdog that runs
// already is not petted.
func TestWatchdogBeforeAllIsClosed(t *testing.T) {
	t.Parallel()
	w := &fakeWatchdog{armed: true}
	cfg := watched(w)
	stuck, free := fencetest.NewFake(fence.SystemClock{}, time.Second), fencetest.NewFake(fence.SystemClock{}, time.Second)
	stuck.Break(fencetest.Faults{Close: errors.New("it will not stop")})
	_, r, _ := startGuard(t, cfg, fence.Entry{Service: "stuck", Fence: stuck}, fence.Entry{Service: "free", Fence: free})
	eventually(t, "refused to open", func() bool {
		_, err := r.Extend(t.Context(), "free", 1, draas.DeadlineAt(fence.SystemClock{}.Now(), time.Minute))
		return errors.Is(err, fence.ErrNotOpened) && strings.Contains(err.Error(), "arm watchdog")
	})
	if said, _, _ := w.saw(); len(said) > 0 || slices.Contains(free.Calls(), "open") {
		t.Errorf("watchdog: %v; fence: %v", said, free.Calls())
	}
	stuck.Break(fencetest.Faults{})
	eventually(t, "opened", free.Serving)
}

// The end of the guard: disarmed when all is closed, and else left to run.
func TestWatchdogAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, stuck := range map[string]bool{"closed": false, "not closed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &fakeWatchdog{}
			fake := fencetest.NewFake(fence.SystemClock{}, time.Second)
			_, client, end := startGuard(t, watched(w), fence.Entry{Service: "a", Fence: fake})
			eventually(t, "opened", func() bool {
				_, err := client.Extend(t.Context(), "a", 1, draas.DeadlineAt(fence.SystemClock{}.Now(), time.Minute))
				return err == nil && fake.Serving()
			})
			if stuck {
				fake.Break(fencetest.Faults{Close: errors.New("it will not stop")})
			}
			if err := end(); (err != nil) != stuck {
				t.Errorf("the guard ended with %v", err)
			}
			if _, armed, _ := w.saw(); armed != stuck {
				t.Errorf("armed %v", armed)
			}
		})
	}
}

// fileWatchdog writes down what it is told, for the test of a guard that is
// killed.
type fileWatchdog string

func (w fileWatchdog) note(what string) error {
	f, err := os.OpenFile(string(w), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, what, int64(fence.SystemClock{}.Now().Boot))
	return errors.Join(err, f.Close())
}

func (w fileWatchdog) Check() error            { return nil }
func (w fileWatchdog) Arm(time.Duration) error { return w.note("arm") }
func (w fileWatchdog) Pet() error              { return w.note("pet") }
func (w fileWatchdog) Disarm() error           { return w.note("disarm") }

// lastPet is when the machine's time to the reset began; zero when the watchdog
// is disarmed.
func (w fileWatchdog) lastPet(t *testing.T) time.Duration {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(string(w))))), "\n")
	var what string
	var at int64
	if _, err := fmt.Sscan(lines[len(lines)-1], &what, &at); err != nil {
		t.Fatalf("%q: %v", lines[len(lines)-1], err)
	}
	if what == "disarm" {
		return 0
	}
	return time.Duration(at)
}

// An exec fence stays open when its guard is killed or stopped, or when its
// command fails. The watchdog runs on then, and would have reset the machine
// before a successor may serve.
func TestFaultsWatchdog(t *testing.T) {
	t.Parallel()
	faults := append(faultsOfGuard(false), fault{name: "the close command fails, draasd killed",
		strike: func(t *testing.T, guard, draasd *proc) { draasd.signal(t, syscall.SIGKILL) }})
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			svc := newScript(t, false)
			s := site{spec: svc.execSpec(), dial: dialTo(svc.addr)}
			lease := leaseOf(s.spec.Kind)
			s.spec.Margin = lease.Margin // not below the watchdog's timeout: `draasd check` sees to it
			if i == len(faults)-1 {
				s.spec.Close = []string{"false"}
			}
			dog := fileWatchdog(shortDir(t) + "/dog")
			args := roleArgs{Socket: shortDir(t) + "/guard.sock", Spec: s.spec, Dog: string(dog), Epoch: 1, Hold: lease.Hold(), Every: renewEvery}
			guard := startRole(t, "guard", args)
			guard.awaitReady(t)
			draasd := startRole(t, "draasd", args)
			reach := askFresh(s.dial)
			eventually(t, "served", func() bool { return reach(t.Context()) == nil })
			eventually(t, "petted", func() bool { return strings.Contains(string(must[[]byte](t)(os.ReadFile(string(dog)))), "pet") })
			f.strike(t, guard, draasd)
			from, deadline := lastSent(t, draasd)
			awaitBoot(t, deadline+lease.Margin)
			if reach(t.Context()) != nil {
				t.Error("the fence closed: the test shows nothing")
			}
			pet := dog.lastPet(t)
			if pet == 0 {
				t.Fatal("the watchdog is disarmed over an open fence")
			}
			if reset := pet + dogTimeout; reset > deadline+lease.Margin || reset > from+lease.Wait() {
				t.Errorf("reset %v after the deadline, margin %v; a successor may serve %v after it", reset-deadline, lease.Margin, from+lease.Wait()-deadline)
			}
		})
	}
}
