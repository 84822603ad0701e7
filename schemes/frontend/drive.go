package frontend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// Drive makes a proxy of others follow the decision on a service until ctx
// ends, or the table's file has the service no more. It is passive at first:
// whatever it finds, it takes it to nowhere. It then acts on every decision at
// once and on the end of a permit when it comes, reads each change back, looks
// again every so often, and undoes what others have changed.
//
// At its end it leaves the proxy leading nowhere, too, unless the service's
// fence outlives the permit. If its process is killed the proxy stays as it
// is: then it is the sites' fences alone that hold.
//
// While users are led to a site the whole proxy counts as one request under
// way there (Report.Flights), until nothing is.
func Drive(ctx context.Context, t *Table, id draas.ServiceID, d Driver, o DriveOptions) {
	s := t.Service(id)
	if s == nil {
		return
	}
	v := &drive{table: t, service: s, driver: d, o: o.withDefaults(), told: Driven{Service: id}}
	v.run(ctx)
	v.end(ctx)
}

// drive is one service at one proxy. All of it belongs to the goroutine that
// runs it.
type drive struct {
	table   *Table
	service *Service
	driver  Driver
	o       DriveOptions

	cleared bool  // it was led nowhere since the start
	spec    *Spec // that the last act went by
	flight  *Where
	told    Driven

	nextLook, nextTry, nextCount time.Time
	backoff                      time.Duration
	warned                       time.Time // of what others changed
}

// order is what is to be done now.
type order struct {
	where Where
	spec  *Spec
	want  Leading
	// left until the permit ends, as far as that ends what is wanted.
	left time.Duration
}

func (v *drive) order() order {
	w, spec := v.service.Where(), v.service.Spec()
	o := order{where: w, spec: spec, left: lookEvery}
	l := w.lead
	if !v.cleared || l.Epoch == 0 || l.Site == "" || l.Released {
		return o
	}
	if !spec.Outlives {
		left := l.deadline.Load().Left(v.table.cfg.Clock()) - v.o.Ahead
		if left <= 0 {
			return o
		}
		o.left = min(o.left, left)
	}
	o.want = Leading{Site: l.Site, Draining: l.Moving}
	return o
}

// same reports whether what is being done is still what is wanted.
func (v *drive) same(o order) bool { return o.want == v.told.Want && o.spec == v.spec }

func (v *drive) run(ctx context.Context) {
	for ctx.Err() == nil {
		o := v.order()
		now := time.Now()
		switch {
		case !v.same(o) || v.spec == nil:
			v.backoff = 0
			v.act(ctx, o)
			continue
		case !v.told.Done && !now.Before(v.nextTry):
			v.act(ctx, o)
			continue
		case v.told.Done && !now.Before(v.nextLook):
			v.look(ctx, o)
			continue
		}
		if v.told.Done && v.told.Want.Site == "" && v.table.Service(v.service.ID) != v.service {
			return
		}
		v.follow(o)
		v.drain(ctx, o)
		wait := time.NewTimer(o.left)
		select {
		case <-ctx.Done():
		case <-o.where.Changed:
		case <-wait.C: // the end of the permit, a step of the clock, or another file
		}
		wait.Stop()
	}
}

// follow notes an epoch that changes nothing at the proxy.
func (v *drive) follow(o order) {
	v.tell(func(d *Driven) { d.Epoch = o.where.Epoch })
	v.board(o)
}

// act leads users to where they are wanted, and reads that back.
func (v *drive) act(ctx context.Context, o order) {
	changes := o.want != v.told.Want
	v.spec = o.spec
	v.tell(func(d *Driven) {
		d.Epoch, d.Want, d.Done = o.where.Epoch, o.want, false
		if changes {
			d.Changes++
		}
	})
	v.board(o)
	var seen Leading
	err := v.attempt(ctx, func(ctx context.Context) (err error) {
		if err := v.driver.Lead(ctx, o.spec, o.want); err != nil {
			return fmt.Errorf("lead to %s: %w", o.want, err)
		}
		if seen, err = v.driver.See(ctx, o.spec); err != nil {
			return fmt.Errorf("see after leading to %s: %w", o.want, err)
		}
		if !seen.as(o.want) {
			return fmt.Errorf("led to %s, and %s is what is seen", o.want, seen)
		}
		return nil
	})
	switch {
	case errors.Is(err, errSuperseded):
	case err != nil:
		v.failed(err)
	default:
		v.done(o, changes)
	}
}

func (v *drive) done(o order, changes bool) {
	switch {
	case v.told.Err != nil:
		v.o.Log.Info("the proxy follows again", "service", v.service.ID, "epoch", o.where.Epoch, "to", o.want)
	case changes:
		v.o.Log.Info("the proxy follows", "service", v.service.ID, "epoch", o.where.Epoch, "to", o.want)
	}
	v.cleared = v.cleared || o.want == Leading{}
	v.backoff, v.nextLook = 0, time.Now().Add(v.o.Look)
	v.tell(func(d *Driven) { d.Done, d.Err = true, nil })
	if o.want.Site == "" {
		v.alight()
	}
	v.nextCount = time.Time{}
}

func (v *drive) failed(err error) {
	if v.told.Err == nil {
		v.o.Log.Warn("the proxy does not follow", "service", v.service.ID, "to", v.told.Want, "err", err)
	}
	v.backoff = min(max(2*v.backoff, firstRetry), lastRetry)
	v.nextTry = time.Now().Add(v.backoff)
	v.tell(func(d *Driven) { d.Done, d.Err = false, err; d.Failures++ })
}

// look sees whether the proxy still does what it was led to do.
func (v *drive) look(ctx context.Context, o order) {
	var seen Leading
	err := v.attempt(ctx, func(ctx context.Context) (err error) {
		seen, err = v.driver.See(ctx, o.spec)
		return err
	})
	v.nextLook = time.Now().Add(v.o.Look)
	switch {
	case errors.Is(err, errSuperseded):
	case err == nil && seen.as(o.want):
	case err == nil || errors.Is(err, ErrTampered):
		v.tell(func(d *Driven) { d.Done = false; d.Repaired++ })
		if v.warned.IsZero() || time.Since(v.warned) > time.Minute {
			v.warned = time.Now()
			v.o.Log.Warn("others changed the proxy: it is led back", "service", v.service.ID, "to", o.want, "seen", seen, "err", err, "times", v.told.Repaired)
		}
		v.nextTry = time.Time{}
	default:
		v.failed(fmt.Errorf("see: %w", err))
	}
}

// errSuperseded is the cause of the end of an act that another order has
// overtaken.
var errSuperseded = errors.New("another order has come")

// attempt calls do with a context that also ends when something else is
// wanted by now: it returns errSuperseded then, and when ctx has ended.
func (v *drive) attempt(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, v.o.Timeout)
	ended, watched := make(chan struct{}), make(chan struct{})
	overtaken := false
	go func() {
		defer close(watched)
		for {
			o := v.order()
			if overtaken = !v.same(o); overtaken {
				cancel()
				return
			}
			wait := time.NewTimer(o.left)
			select {
			case <-ended:
				wait.Stop()
				return
			case <-o.where.Changed:
			case <-wait.C:
			}
			wait.Stop()
		}
	}()
	err := do(limited)
	close(ended)
	<-watched
	cancel()
	if overtaken || ctx.Err() != nil {
		return errSuperseded
	}
	return err
}

// board counts the proxy as one request under way, from before users are led
// to a site.
func (v *drive) board(o order) {
	if o.where.State != Open || o.want.Site == "" || o.want.Draining {
		return
	}
	if v.flight != nil && v.flight.lead.flights == o.where.lead.flights {
		return
	}
	v.alight()
	if v.service.Enter(o.where) {
		v.flight = &o.where
	}
}

// alight ends what board began.
func (v *drive) alight() {
	if v.flight != nil {
		v.service.Leave(*v.flight)
		v.flight = nil
	}
}

// drain looks whether anything is under way to a site that nothing new is led
// to.
func (v *drive) drain(ctx context.Context, o order) {
	if v.flight == nil || !o.want.Draining || !v.told.Done || time.Now().Before(v.nextCount) {
		return
	}
	v.nextCount = time.Now().Add(countEvery)
	if c, ok := v.driver.(Counter); ok {
		var left int64
		err := v.attempt(ctx, func(ctx context.Context) (err error) {
			left, err = c.Count(ctx, o.spec, o.want.Site)
			return err
		})
		if err != nil || left > 0 {
			return // unknown is not none
		}
	}
	v.alight()
}

// end leaves the proxy behind.
func (v *drive) end(ctx context.Context) {
	defer v.alight()
	spec := v.service.Spec()
	if spec.Outlives || v.told.Done && v.told.Want == (Leading{}) {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.o.Timeout)
	defer cancel()
	err := v.driver.Lead(last, spec, Leading{})
	if err != nil {
		err = fmt.Errorf("lead to %s: %w", Leading{}, err)
		v.o.Log.Error("the proxy is left behind as it is", "service", v.service.ID, "err", err)
	}
	v.tell(func(d *Driven) { d.Want, d.Done, d.Err = Leading{}, err == nil, err })
}

// tell hands a change on.
func (v *drive) tell(change func(*Driven)) {
	was := v.told
	change(&v.told)
	now := v.told
	if fmt.Sprint(was.Err) == fmt.Sprint(now.Err) {
		was.Err, now.Err = nil, nil
		if was == now {
			return
		}
	}
	v.o.Tell(v.told)
}
