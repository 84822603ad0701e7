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

// linkOf is a link for services, in a synctest bubble, and what it told the
// main loop.
func linkOf(t *testing.T, g *fakeGuard, services ...draas.ServiceID) (*guardLink, *[]failover.Close) {
	t.Helper()
	var mu sync.Mutex
	told := new([]failover.Close)
	l := newGuardLink(g, func(unit draas.ServiceID, epoch draas.Epoch) {
		mu.Lock()
		defer mu.Unlock()
		*told = append(*told, failover.Close{Service: unit, Epoch: epoch})
	}, slog.New(slog.DiscardHandler))
	l.use(fencedBy(services...))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return l, told
}

// fencedBy is the wiring of services that the guard holds; bare has no fence.
func fencedBy(services ...draas.ServiceID) *wiring {
	w := &wiring{fenced: make(map[draas.ServiceID]bool)}
	for _, id := range services {
		w.fenced[id] = id != "bare"
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

// All deadlines of a renewal go in one request.
func TestLinkExtendsInOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{}
		l, _ := linkOf(t, g, "billing", "shop", "web", "bare")
		l.wish(extend(3, "shop", "web", "billing", "bare"))
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

// However long one close takes, and whatever the guard says at first, each is
// asked for until it is done, and none waits for another.
func TestLinkCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{slow: map[draas.ServiceID]time.Duration{"billing": time.Second}, fail: map[draas.ServiceID]error{"shop": errors.New("not yet")}}
		l, told := linkOf(t, g, "billing", "shop", "web", "bare")
		closed := func(id draas.ServiceID) bool { return slices.Contains(*told, failover.Close{Service: id, Epoch: 3}) }
		l.wish(extend(3, "billing", "shop", "web"))
		synctest.Wait()
		for range 5 { // the decision repeats itself
			for _, id := range []draas.ServiceID{"billing", "shop", "web", "bare"} {
				l.wish(shut(3, id))
			}
			synctest.Wait()
		}
		if closed("billing") || closed("shop") || !closed("web") || !closed("bare") {
			t.Errorf("told at first %v", *told)
		}
		l.wish(extend(3, "billing")) // a renewal that the close has overtaken
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !closed("billing") || !closed("shop") {
			t.Errorf("told %v", *told)
		}
		if len(g.shuts) != 4 {
			t.Errorf("asked %v: want each once, and shop again", g.shuts)
		}
		if len(g.batches) != 1 {
			t.Errorf("it was extended after its close: %v", g.batches)
		}
		l.wish(extend(4, "billing"))
		synctest.Wait()
		if len(g.batches) != 2 {
			t.Errorf("a later epoch was not extended: %v", g.batches)
		}
	})
}

// What the main loop was too busy to hear is told again.
func TestLinkTellsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{}
		l, told := linkOf(t, g, "web")
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
// that stays keeps what it knows.
func TestLinkTakesOverAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGuard{fail: map[draas.ServiceID]error{"old": errors.New("busy")}}
		l, told := linkOf(t, g, "old", "web", "idle")
		l.wish(extend(5, "old", "web"))
		synctest.Wait()
		l.wish(shut(5, "web"))
		synctest.Wait()
		g.shuts = nil
		l.use(fencedBy("web", "new"))
		time.Sleep(2 * guardTimeout)
		synctest.Wait()
		if want := []failover.Close{{Service: "old", Epoch: 5}, {Service: "old", Epoch: 5}}; !slices.Equal(g.shuts, want) {
			t.Errorf("closed %v, want %v (once more, as the first failed)", g.shuts, want)
		}
		*told = nil
		l.wish(shut(5, "web"))
		l.wish(shut(5, "new"))
		synctest.Wait()
		if len(g.shuts) != 3 || g.shuts[2].Service != "new" || len(*told) != 2 {
			t.Errorf("closed %v, told %v", g.shuts, *told)
		}
	})
}
