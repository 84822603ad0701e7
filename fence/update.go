package fence

import (
	"context"
	"errors"
	"fmt"
	"sync"

	draas "github.com/draasd/draas"
)

// ErrNotRunning is returned by Update before Run and once it ends.
var ErrNotRunning = errors.New("guard is not running")

// Update takes over another set of services while the guard runs. Services
// whose Entry.Config is the same keep their permits and connections. The fence
// of one that is changed or left out is closed; what it was changed to starts
// closed, like at the guard's start, and opens with the next extension. The
// fence of one that is left out stays as Close leaves it.
//
// It returns nil when every fence that was closed or added has been observed
// closed. A fence that could not be closed before ctx ends is not replaced: the
// guard goes on closing it and refuses to open it, the other changes stand, and
// Update may be called again.
func (g *Guard) Update(ctx context.Context, services []Entry) error {
	if err := checkEntries(services); err != nil {
		return fmt.Errorf("update guard: %w", err)
	}
	g.update.Lock()
	defer g.update.Unlock()
	wanted := make(map[draas.ServiceID]Entry, len(services))
	for _, e := range services {
		wanted[e.Service] = e
	}
	var leaving []*keeper
	for _, k := range g.all() {
		e, stays := wanted[k.Service]
		if stays && k.keeps(e) {
			delete(wanted, k.Service)
		} else {
			leaving = append(leaving, k)
		}
	}
	errs := make([]error, len(leaving))
	var retiring sync.WaitGroup
	for i, k := range leaving {
		retiring.Go(func() { errs[i] = k.retire(ctx) })
	}
	retiring.Wait()
	gone := map[draas.ServiceID]*keeper{}
	defer func() {
		for _, k := range gone {
			k.letGo()
		}
	}()
	for i, k := range leaving {
		if errs[i] != nil {
			delete(wanted, k.Service)
			continue
		}
		gone[k.Service] = k
		g.log.Info("fence is held no more", "service", k.Service, "kind", k.Kind)
	}
	added, err := g.replace(gone, wanted)
	errs = append(errs, err)
	for _, k := range added {
		if !k.waitUntil(ctx, func() bool { return k.ready }) {
			errs = append(errs, fmt.Errorf("close fence of %s: %w", k.Service, k.problem()))
			continue
		}
		errs = append(errs, k.succeed(gone[k.Service]))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("update guard: %w", err)
	}
	return nil
}

// replace puts the wanted in the place of those that are gone.
func (g *Guard) replace(gone map[draas.ServiceID]*keeper, wanted map[draas.ServiceID]Entry) (added []*keeper, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range gone {
		delete(g.keepers, id)
	}
	if g.start == nil {
		return nil, ErrNotRunning
	}
	for _, e := range wanted {
		k := newKeeper(e, g.cfg.Clock, g.journal, g.log)
		g.start(k)
		added = append(added, k)
	}
	return added, nil
}

// keeps reports whether an entry asks for the very fence that the keeper holds.
func (k *keeper) keeps(e Entry) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.stopping && e.Config != "" && e.Config == k.Config && e.Kind == k.Kind
}

// retire ends the keeper for good; nil means that it was observed closed.
func (k *keeper) retire(ctx context.Context) error {
	k.stop()
	select {
	case <-k.ended:
	case <-ctx.Done():
	}
	if !k.isShut() {
		return fmt.Errorf("close fence of %s: %w", k.Service, k.problem())
	}
	return nil
}

// letGo has the fence give back what it holds open, once nobody uses it any
// more.
func (k *keeper) letGo() {
	if f, ok := k.Fence.(interface{ LetGo() }); ok {
		f.LetGo()
	}
}

// succeed takes away what the fence before this one left behind where it is of
// another kind: rules that stay would shut the new fence's users out.
func (k *keeper) succeed(before *keeper) error {
	if before == nil || before.Kind == k.Kind {
		return nil
	}
	r, ok := before.Fence.(interface{ Remove() error })
	if !ok {
		return nil
	}
	if err := r.Remove(); err != nil {
		return fmt.Errorf("remove old fence of %s: %w", k.Service, err)
	}
	return nil
}
