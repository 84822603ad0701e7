package fence_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

// fleet is a guard of several services with fake fences.
type fleet struct {
	*testing.T
	clock  fence.SystemClock
	guard  *fence.Guard
	client *fence.Client
	fakes  map[string]*fencetest.Fake // by config
}

// entry is a service whose fence is configured by a word.
func (f *fleet) entry(service draas.ServiceID, config string) fence.Entry {
	if f.fakes[config] == nil {
		f.fakes[config] = fencetest.NewFake(f.clock, 50*time.Millisecond)
	}
	return fence.Entry{Service: service, Kind: draas.FenceExec, Config: config, Fence: f.fakes[config], Audit: 30 * time.Millisecond}
}

func newFleet(t *testing.T, services ...string) *fleet {
	t.Helper()
	return newFleetOf(t, fence.GuardConfig{}, services...)
}

func newFleetOf(t *testing.T, cfg fence.GuardConfig, services ...string) *fleet {
	t.Helper()
	t.Parallel()
	f := &fleet{T: t, fakes: map[string]*fencetest.Fake{}}
	var entries []fence.Entry
	for _, s := range services {
		entries = append(entries, f.entry(draas.ServiceID(s), s))
	}
	var stop func() error
	f.guard, f.client, stop = startGuard(t, cfg, entries...)
	t.Cleanup(func() {
		for _, fake := range f.fakes {
			fake.Break(fencetest.Faults{})
		}
		if err := stop(); err != nil {
			t.Errorf("stop guard: %v", err)
		}
		for name, fake := range f.fakes {
			if fake.Serving() && len(fake.Calls()) > 0 {
				t.Errorf("%s serves after the guard's end", name)
			}
		}
	})
	select {
	case <-f.guard.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("guard not ready")
	}
	return f
}

// startGuard runs a guard in this process until stop, at the latest until the
// test ends.
func startGuard(t *testing.T, cfg fence.GuardConfig, entries ...fence.Entry) (g *fence.Guard, c *fence.Client, stop func() error) {
	t.Helper()
	cfg.Socket, cfg.Services, cfg.StopTimeout = filepath.Join(shortDir(t), "guard.sock"), entries, 2*time.Second
	g = must[*fence.Guard](t)(fence.NewGuard(cfg))
	if err := g.Update(t.Context(), entries); !errors.Is(err, fence.ErrNotRunning) {
		t.Errorf("update before the run: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	c = fence.Dial(cfg.Socket)
	t.Cleanup(func() { _ = stop(); _ = c.Close() }) // who cares has called it
	return g, c, stop
}

func (f *fleet) extension(s draas.ServiceID, e draas.Epoch, d time.Duration) fence.Extension {
	return fence.Extension{Service: s, Epoch: e, Deadline: draas.DeadlineAt(f.clock.Now(), d)}
}

// extendAll extends until it is known of all how it went: a call answers before
// that on a machine that stands still.
func (f *fleet) extendAll(all []fence.Extension) (got []fence.Extended) {
	f.Helper()
	eventually(f.T, "all are opened or not", func() bool {
		got = must[[]fence.Extended](f.T)(f.client.ExtendAll(f.Context(), all))
		return !slices.ContainsFunc(got, func(x fence.Extended) bool { return x.Status.Phase == "opening" })
	})
	return got
}

// opened extends by a minute and says which services' fences are open then.
func (f *fleet) opened(epoch draas.Epoch, services ...draas.ServiceID) {
	f.Helper()
	var all []fence.Extension
	for _, s := range services {
		all = append(all, f.extension(s, epoch, time.Minute))
	}
	for i, x := range f.extendAll(all) {
		if x.Err != nil || x.Status.State != fence.Open || x.Status.Service != services[i] {
			f.Errorf("extend %s: %+v", services[i], x)
		}
	}
}

func TestExtendAll(t *testing.T) {
	f := newFleet(t, "a", "b", "c", "d")
	if _, err := f.client.Shut(t.Context(), "c", 7); err != nil {
		t.Fatal(err)
	}
	f.fakes["d"].Break(fencetest.Faults{Open: errors.New("stuck")})
	all := []fence.Extension{
		f.extension("b", 1, time.Minute), f.extension("a", 5, time.Minute), f.extension("c", 7, time.Minute),
		f.extension("nobody", 1, time.Minute), f.extension("d", 1, time.Minute),
	}
	all[0].Deadline = draas.DeadlineAt(f.clock.Now(), -time.Millisecond)
	got := f.extendAll(all)
	want := []error{draas.ErrExpired, nil, draas.ErrStaleEpoch, fence.ErrUnknownService, fence.ErrNotOpened}
	if len(got) != len(want) {
		t.Fatalf("%d answers", len(got))
	}
	for i := range want {
		if !errors.Is(got[i].Err, want[i]) || got[i].Status.Service != all[i].Service {
			t.Errorf("%s: %+v, want %v", all[i].Service, got[i], want[i])
		}
	}
	if !f.fakes["a"].Serving() || f.fakes["b"].Serving() || f.fakes["c"].Serving() {
		t.Error("what is open is not what was extended with success")
	}
	if none, err := f.client.ExtendAll(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("nothing to extend: %v, %v", none, err)
	}
	if _, err := f.client.ExtendAll(t.Context(), []fence.Extension{all[0], all[0]}); !errors.Is(err, fence.ErrBadRequest) {
		t.Errorf("one service twice: %v", err)
	}
}

// As many as no single request holds, with the longest names.
func TestExtendAllManyServices(t *testing.T) {
	f := newFleet(t, "last")
	var all []fence.Extension
	for i := range 600 {
		all = append(all, f.extension(draas.ServiceID(fmt.Sprintf("%064d", i)), 1<<63, 0))
		all[i].Deadline = draas.Deadline{Boot: 1<<63 - 1, Wall: 1<<63 - 1}
	}
	all = append(all, f.extension("last", 1, time.Minute))
	got := must[[]fence.Extended](t)(f.client.ExtendAll(t.Context(), all))
	for i, x := range got {
		if last := i == 600; len(got) != 601 || x.Status.Service != all[i].Service || (x.Err == nil) != last {
			t.Fatalf("%d of %d: %+v", i, len(got), x)
		}
	}
}

func TestUpdate(t *testing.T) {
	f := newFleet(t, "stays", "changes", "goes")
	f.opened(3, "stays", "changes", "goes")
	before := f.fakes["stays"].Calls()
	f.fakes["changes"].Break(fencetest.Faults{CloseTakes: 50 * time.Millisecond})
	want := []fence.Entry{f.entry("stays", "stays"), f.entry("changes", "changed"), f.entry("comes", "comes")}
	if err := f.guard.Update(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got := f.fakes["stays"].Calls(); !slices.Equal(got, before) || !f.fakes["stays"].Serving() {
		t.Errorf("the fence that is not changed was touched: %v, then %v", before, got)
	}
	for name, open := range map[string]bool{"changes": false, "goes": false, "changed": false, "comes": false} {
		if f.fakes[name].Serving() != open {
			t.Errorf("%s: serving %v", name, !open)
		}
	}
	if _, err := f.client.Shut(t.Context(), "goes", 3); !errors.Is(err, fence.ErrUnknownService) {
		t.Errorf("a service that was left out: %v", err)
	}
	f.opened(3, "changes", "comes") // of the same epoch: it was not ended
	if !f.fakes["changed"].Serving() || f.fakes["changes"].Serving() {
		t.Error("the extension does not open the new fence")
	}
	// What was left out comes back, and its epochs are remembered.
	if err := f.guard.Update(t.Context(), append(want, f.entry("goes", "goes"))); err != nil {
		t.Fatal(err)
	}
	x := must[[]fence.Extended](t)(f.client.ExtendAll(t.Context(), []fence.Extension{f.extension("goes", 2, time.Minute)}))
	if !errors.Is(x[0].Err, draas.ErrStaleEpoch) {
		t.Errorf("an epoch overtaken before it was left out: %v", x[0].Err)
	}
	if err := f.guard.Update(t.Context(), append(want, want[0])); err == nil {
		t.Error("one service twice")
	}
}

// A changed fence that does not close is not replaced, and not opened either;
// the other changes stand, and the next Update goes on.
func TestUpdateWaitsForTheClose(t *testing.T) {
	f := newFleet(t, "stuck", "other")
	f.opened(1, "stuck", "other")
	f.fakes["stuck"].Break(fencetest.Faults{Close: errors.New("it will not stop")})
	want := []fence.Entry{f.entry("stuck", "freed"), f.entry("other", "another")}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := f.guard.Update(ctx, want); err == nil {
		t.Error("no error")
	}
	if len(f.fakes["freed"].Calls()) > 0 || !f.fakes["stuck"].Serving() {
		t.Fatal("replaced while it serves")
	}
	// Update gave up on the one that is stuck, and may not have waited until the
	// other was observed closed.
	eventually(t, "the other change stands", func() bool {
		x, err := f.client.ExtendAll(t.Context(), []fence.Extension{f.extension("other", 1, time.Minute)})
		return err == nil && x[0].Err == nil
	})
	f.opened(1, "other")
	if !f.fakes["another"].Serving() {
		t.Error("the other change does not stand")
	}
	x := must[[]fence.Extended](t)(f.client.ExtendAll(t.Context(), []fence.Extension{f.extension("stuck", 1, time.Minute)}))
	if !errors.Is(x[0].Err, fence.ErrNotReady) {
		t.Errorf("extended a fence that is being closed for good: %v", x[0].Err)
	}
	f.fakes["stuck"].Break(fencetest.Faults{})
	if err := f.guard.Update(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	f.opened(1, "stuck")
	if f.fakes["stuck"].Serving() || !f.fakes["freed"].Serving() {
		t.Error("not replaced")
	}
}

// Ten services' renewals cost one round trip and one write: compare with ten
// requests (BenchmarkExtend).
func BenchmarkExtend(b *testing.B) {
	var entries []fence.Entry
	var ids []draas.ServiceID
	clock := fence.SystemClock{}
	for i := range 10 {
		id := draas.ServiceID(fmt.Sprintf("s%d", i))
		ids = append(ids, id)
		entries = append(entries, fence.Entry{Service: id, Kind: draas.FenceExec, Fence: fencetest.NewFake(clock, time.Second)})
	}
	socket := filepath.Join(b.TempDir(), "g")
	guard, err := fence.NewGuard(fence.GuardConfig{Socket: socket, Services: entries})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- guard.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-guard.Ready()
	client := fence.Dial(socket)
	defer client.Close()
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			for _, id := range ids {
				if _, err := client.Extend(ctx, id, 1, draas.DeadlineAt(clock.Now(), time.Minute)); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			var all []fence.Extension
			for _, id := range ids {
				all = append(all, fence.Extension{Service: id, Epoch: 1, Deadline: draas.DeadlineAt(clock.Now(), time.Minute)})
			}
			if _, err := client.ExtendAll(ctx, all); err != nil {
				b.Fatal(err)
			}
		}
	})
}
