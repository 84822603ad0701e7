package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
)

// fakeGuard answers as it is told and notes what it was asked.
type fakeGuard struct {
	mu      sync.Mutex
	batches [][]fence.Extension
	shuts   []failover.Close
	slow    map[draas.ServiceID]time.Duration // a close takes so long
	fail    map[draas.ServiceID]error         // of the next close
}

func (g *fakeGuard) ExtendAll(_ context.Context, all []fence.Extension) ([]fence.Extended, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.batches = append(g.batches, slices.Clone(all))
	return make([]fence.Extended, len(all)), nil
}

func (g *fakeGuard) Shut(ctx context.Context, id draas.ServiceID, epoch draas.Epoch) (fence.Status, error) {
	pause(ctx, g.slow[id])
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts = append(g.shuts, failover.Close{Service: id, Epoch: epoch})
	err := g.fail[id]
	delete(g.fail, id)
	return fence.Status{}, err
}

// linkOf is a link for units of fenced services, in a synctest bubble, and
// what it told the main loop.
func linkOf(t *testing.T, g *fakeGuard, units map[draas.ServiceID][]draas.ServiceID) (*guardLink, *[]failover.Close) {
	t.Helper()
	var mu sync.Mutex
	told := new([]failover.Close)
	l := newGuardLink(g, func(unit draas.ServiceID, epoch draas.Epoch) {
		mu.Lock()
		defer mu.Unlock()
		*told = append(*told, failover.Close{Service: unit, Epoch: epoch})
	}, slog.New(slog.DiscardHandler))
	l.use(wiringOf(units))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return l, told
}

func wiringOf(units map[draas.ServiceID][]draas.ServiceID) *wiring {
	w := &wiring{units: units, fenced: make(map[draas.ServiceID]bool)}
	for _, parts := range units {
		for _, id := range parts {
			w.fenced[id] = id != "bare"
		}
	}
	return w
}

func extend(epoch draas.Epoch, units ...draas.ServiceID) failover.Commands {
	var c failover.Commands
	for _, u := range units {
		c.Extend = append(c.Extend, failover.Extend{Service: u, Epoch: epoch, Deadline: draas.Deadline{Boot: time.Duration(epoch) * time.Second}})
	}
	return c
}

func shut(epoch draas.Epoch, unit draas.ServiceID) failover.Commands {
	return failover.Commands{Close: []failover.Close{{Service: unit, Epoch: epoch}}}
}

// All deadlines of a renewal go in one request, those of a group for each of
// its services.
func TestLinkExtendsInOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{}
		l, _ := linkOf(t, g, map[draas.ServiceID][]draas.ServiceID{"crm": {"billing", "shop"}, "web": {"web"}, "bare": {"bare"}})
		l.wish(extend(3, "crm", "web", "bare"))
		synctest.Wait()
		var got []draas.ServiceID
		for _, b := range g.batches {
			for _, x := range b {
				got = append(got, x.Service)
			}
		}
		if len(g.batches) != 1 || !slices.Equal(got, []draas.ServiceID{"billing", "shop", "web"}) {
			t.Errorf("asked %v", g.batches)
		}
	})
}

// A group is closed when all its services are, however long one of them takes
// and whatever the guard says at first; nothing else waits for it.
func TestLinkClosesAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{slow: map[draas.ServiceID]time.Duration{"billing": time.Second}, fail: map[draas.ServiceID]error{"shop": errors.New("not yet")}}
		l, told := linkOf(t, g, map[draas.ServiceID][]draas.ServiceID{"crm": {"billing", "shop"}, "web": {"web"}, "bare": {"bare"}})
		l.wish(extend(3, "crm", "web"))
		synctest.Wait()
		for range 5 { // the decision repeats itself
			l.wish(shut(3, "crm"))
			l.wish(shut(3, "web"))
			synctest.Wait()
		}
		if !slices.Contains(*told, failover.Close{Service: "web", Epoch: 3}) || slices.Contains(*told, failover.Close{Service: "crm", Epoch: 3}) {
			t.Errorf("told %v", *told)
		}
		l.wish(extend(3, "crm")) // a renewal that the close has overtaken
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Contains(*told, failover.Close{Service: "crm", Epoch: 3}) {
			t.Errorf("told %v", *told)
		}
		if len(g.batches) != 1 {
			t.Errorf("it was extended after its close: %v", g.batches)
		}
		l.wish(extend(4, "crm"))
		synctest.Wait()
		if len(g.batches) != 2 {
			t.Errorf("a later epoch was not extended: %v", g.batches)
		}
		l.wish(shut(1, "bare"))
		if !slices.Contains(*told, failover.Close{Service: "bare", Epoch: 1}) {
			t.Errorf("what has no fence is not told to be closed: %v", *told)
		}
	})
}

// What the main loop was too busy to hear is told again.
func TestLinkTellsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{}
		l, told := linkOf(t, g, map[draas.ServiceID][]draas.ServiceID{"web": {"web"}})
		l.wish(shut(2, "web"))
		synctest.Wait()
		*told = nil
		l.wish(shut(2, "web"))
		synctest.Wait()
		if len(*told) != 1 || len(g.shuts) != 1 {
			t.Errorf("told %v, asked %v", *told, g.shuts)
		}
	})
}

// A service that a new file has no more is closed, by the epoch it held; one
// that stays keeps what it knows, in another group too.
func TestLinkTakesOverAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{fail: map[draas.ServiceID]error{"old": errors.New("busy")}}
		l, told := linkOf(t, g, map[draas.ServiceID][]draas.ServiceID{"old": {"old"}, "web": {"web"}, "idle": {"idle"}})
		l.wish(extend(5, "old", "web"))
		synctest.Wait()
		l.wish(shut(5, "web"))
		synctest.Wait()
		g.shuts = nil
		l.use(wiringOf(map[draas.ServiceID][]draas.ServiceID{"crm": {"web", "new"}}))
		time.Sleep(2 * guardTimeout)
		synctest.Wait()
		if want := []failover.Close{{Service: "old", Epoch: 5}, {Service: "old", Epoch: 5}}; !slices.Equal(g.shuts, want) {
			t.Errorf("closed %v, want %v (once more, as the first failed)", g.shuts, want)
		}
		*told = nil
		l.wish(shut(5, "crm"))
		synctest.Wait()
		if len(g.shuts) != 3 || g.shuts[2].Service != "new" || len(*told) != 1 {
			t.Errorf("closed %v, told %v", g.shuts, *told)
		}
	})
}
