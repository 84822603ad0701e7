package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// daemons is what rtotest knows of draasd while it measures.
type daemons struct {
	service draas.ServiceID // empty until the only one is known
	members []*member
	line    func(text string)

	mu      sync.Mutex
	cluster string
	phase   failover.Phase
	stop    context.CancelFunc
	running sync.WaitGroup
}

// start finds the service and begins to follow it. That nobody answers is told,
// and no error; that there is no such service is one.
func (d *daemons) start(ctx context.Context) error {
	var s *api.Status
	var errs []error
	for _, m := range d.members {
		var err error
		if s, err = m.ask(ctx); err == nil {
			break
		}
		errs = append(errs, err)
	}
	if s == nil {
		d.line("draasd does not answer, measuring goes on without it: " + inLine(errors.Join(errs...)))
	} else if err := d.choose(s); err != nil {
		return err
	}
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, m := range d.members {
		d.running.Go(func() { m.follow(ctx) })
	}
	d.running.Go(func() { d.watch(ctx) })
	return nil
}

// choose finds the service that is measured.
func (d *daemons) choose(s *api.Status) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cluster = s.Cluster
	var names []string
	for _, sv := range s.Services {
		if d.service == sv.ID || slices.ContainsFunc(sv.Parts, func(p api.Part) bool { return p.ID == d.service }) {
			d.service = sv.ID
			return nil
		}
		names = append(names, string(sv.ID))
	}
	switch {
	case d.service != "":
		return fmt.Errorf("draasd has no service %q, it has %s", d.service, strings.Join(names, ", "))
	case len(names) != 1:
		return fmt.Errorf("draasd has %d services, name the one at the URL by --service: %s", len(names), strings.Join(names, ", "))
	}
	d.service = draas.ServiceID(names[0])
	return nil
}

// close ends the following.
func (d *daemons) close() {
	if d.stop != nil {
		d.stop()
		d.running.Wait()
	}
	for _, m := range d.members {
		m.asker.Close()
	}
}

// watchAgain is the pause before a lost watch is taken up again.
const watchAgain = 200 * time.Millisecond

// watch shows the phases of the service as they come, from whichever member
// answers.
func (d *daemons) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// That one is lost is nothing to be told: the next is asked.
		_ = d.members[i%len(d.members)].asker.Watch(ctx, func(s *api.Status) error {
			d.see(s)
			return nil
		})
		timer.Reset(watchAgain)
	}
}

func (d *daemons) see(s *api.Status) {
	d.mu.Lock()
	service := d.service
	d.mu.Unlock()
	if service == "" && d.choose(s) != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sv := range s.Services {
		if sv.ID != d.service || sv.Phase == d.phase {
			continue
		}
		text := fmt.Sprintf("%s %s: %s %s", time.Now().UTC().Format(measure.Clock), "draasd", sv.ID, sv.Phase)
		if m := sv.Move; m != nil {
			text += fmt.Sprintf(", %s to %s, epoch %s", m.Kind, m.To, m.Epoch)
		}
		if d.phase != "" { // the first is no change
			d.line(harmless(text))
		}
		d.phase = sv.Phase
	}
}

// historyLimit is the most records that a daemon gives.
const historyLimit = 1000

// toldIn is how long, after its end, the expected loss of a move is waited for,
// where a cloud is copied: of a move from or to a site without one none is told.
const toldIn = 2 * time.Second

// settledIn is how long the end of a move is waited for: the log says later
// than the users that it is complete.
const settledIn = 10 * time.Second

// report says what moves there were between two instants, on our clock.
func (d *daemons) report(ctx context.Context, from, to time.Time) *measure.Daemon {
	ctx, cancel := context.WithTimeout(ctx, settledIn)
	defer cancel()
	records, err := d.history(ctx)
	d.mu.Lock()
	out := &measure.Daemon{Cluster: d.cluster, Service: d.service, Moves: []measure.Move{}}
	d.mu.Unlock()
	for _, m := range d.members {
		out.Members = append(out.Members, m.clock())
	}
	if err != nil {
		out.Problem = inLine(err)
		return out
	}
	for _, m := range movesOf(records, out.Members) {
		begun, ended := m.Span()
		if !begun.After(to) && !ended.Before(from) {
			out.Moves = append(out.Moves, m)
		}
	}
	return out
}

// errNobody says that no daemon has answered while it was measured.
var errNobody = errors.New("no member of the cluster has answered")

// history asks every member in turn until one has told all, and no move is
// under way any more.
func (d *daemons) history(ctx context.Context) ([]failover.Record, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var records []failover.Record
	d.mu.Lock()
	heard := d.service != ""
	d.mu.Unlock()
	if !heard { // nobody has answered in all the time: it is no use to wait
		return nil, errNobody
	}
	err := errNobody
	var ended time.Time // when it was first seen that no move is under way
	for {
		select {
		case <-ctx.Done():
			return records, err
		case <-timer.C:
		}
		records, err = d.askHistory(ctx, records)
		if err == nil && !moving(records) {
			if !untold(records) || ended.IsZero() && !d.copied(ctx) || !ended.IsZero() && time.Since(ended) > toldIn {
				return records, nil
			}
			if ended.IsZero() {
				ended = time.Now()
			}
		}
		timer.Reset(watchAgain)
	}
}

// copied reports whether a site's cloud is copied to another's as the service
// moves, as far as any member tells.
func (d *daemons) copied(ctx context.Context) bool {
	d.mu.Lock()
	service := d.service
	d.mu.Unlock()
	return slices.ContainsFunc(d.members, func(m *member) bool {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		s, err := m.asker.Status(one, false) // what all members report
		return err == nil && slices.ContainsFunc(s.Reported, func(r api.Reported) bool { return r.Sync != nil && r.Sync.Follows == service })
	})
}

// askHistory is the longest that any member tells; had is what was told before.
func (d *daemons) askHistory(ctx context.Context, had []failover.Record) ([]failover.Record, error) {
	d.mu.Lock()
	service := d.service
	d.mu.Unlock()
	best, told := had, had != nil
	var errs []error
	for _, m := range d.members {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		h, err := m.asker.History(one, service, historyLimit)
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		told = true
		if len(best) == 0 || len(h) > 0 && h[len(h)-1].Index > best[len(best)-1].Index {
			best = h
		}
	}
	if !told {
		return nil, errors.Join(errs...)
	}
	return best, nil
}
