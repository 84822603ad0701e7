package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

func serviceID(s string) draas.ServiceID { return draas.ServiceID(s) }

// maxSpoilt is how often in a row a run is begun anew because a request failed
// before the disaster was made.
const maxSpoilt = 5

// errUnsteady says that users were not served well enough to begin, errSpoilt
// that a request failed just before the disaster was to be made.
var (
	errUnsteady = errors.New("users are not served")
	errSpoilt   = errors.New("not begun")
)

// repeat makes the disaster as often as it was asked to. A series that ends
// early says why; the error is of a configuration that is wrong.
func (p *program) repeat(ctx context.Context) (*measure.Series, error) {
	s := &measure.Series{Wanted: p.series.runs, Tool: p.tool()}
	spoilt := 0     // how often in a row a request failed just before the disaster
	var home *place // where the first disaster met the users: each has to
	for n := 1; n <= p.series.runs && s.Problem == ""; n++ {
		p.tell("run %d of %d: waiting until users are served", n, p.series.runs)
		served, err := p.steady(ctx, home)
		switch {
		case errors.Is(err, errUnsteady):
			s.Problem = fmt.Sprintf("before run %d: %v", n, err)
			p.tell("%s", s.Problem)
			continue
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			s.Problem = "interrupted"
			continue
		}
		home = &served
		r, err := p.disaster(ctx, n)
		switch {
		case errors.Is(err, errSpoilt):
			// Nothing was broken yet: better begin anew than make a disaster
			// that proves nothing.
			p.tell("run %d of %d: %v", n, p.series.runs, err)
			if spoilt++; spoilt == maxSpoilt {
				s.Problem = fmt.Sprintf("before run %d, %d times in a row: %v", n, spoilt, err)
			}
			n--
			continue
		case errors.Is(err, errUnsteady):
			s.Problem = fmt.Sprintf("before run %d: %v", n, err)
			p.tell("%s", s.Problem)
			continue
		case err != nil:
			return nil, err
		}
		spoilt = 0
		p.sheets.run(r)
		r.Timeline = nil // a series of hundreds would keep too much
		s.Runs = append(s.Runs, r)
		s.Summary = measure.Sum(s.Runs)
		p.progress(r, s)
		switch {
		case r.Restore != nil && r.Restore.Problem != "":
			s.Problem = fmt.Sprintf("--restore of run %d failed: %s", n, r.Restore.Problem)
			p.tell("%s", s.Problem)
		case ctx.Err() != nil && n < p.series.runs:
			s.Problem = "interrupted"
		}
	}
	s.Summary = measure.Sum(s.Runs)
	return s, nil
}

// tell shows a line with the time.
func (p *program) tell(format string, a ...any) {
	p.shown.line(time.Now().UTC().Format(measure.Clock) + " " + fmt.Sprintf(format, a...))
}

// steady waits until the clients have been served for the time to settle, at
// home if there is one, and says where. They ask slowly: this is not measured.
func (p *program) steady(ctx context.Context, home *place) (place, error) {
	running, end := context.WithCancel(ctx)
	defer end()
	c := p.config
	c.Write, c.Duration, c.Rate, c.Users = nil, 0, min(c.Rate, 20), 1
	t := newTracker(c.Clients, c.Settle)
	t.home = home
	c.Observe = t.see
	served := false
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer end()
		served = t.wait(running.Done(), p.config.Duration)
	})
	r, err := measure.Run(running, c)
	end()
	waiting.Wait()
	at := t.place(c.Clients[0])
	switch {
	case err != nil || served || ctx.Err() != nil:
		return at, err
	case home != nil && r.Failed < r.Sent && !home.same(at):
		return at, fmt.Errorf("%w at %s, as they were before, but at %s, after %v: --restore did not bring them back", errUnsteady, home, at, p.config.Duration)
	}
	return at, fmt.Errorf("%w: %d of %d requests of client %s failed within %v", errUnsteady, r.Failed, r.Sent, r.Client, p.config.Duration)
}

// disaster makes the disaster once, measures until it is over or the time is,
// and makes it good again.
func (p *program) disaster(ctx context.Context, n int) (*measure.Report, error) {
	env := []string{fmt.Sprintf("DRAAS_RUN=%d", n), fmt.Sprintf("DRAAS_RUNS=%d", p.series.runs)}
	running, end := context.WithCancel(ctx)
	defer end()
	c := p.config
	limit := c.Duration
	c.Duration = 0
	t := newTracker(c.Clients, c.Settle)
	fault := make(chan time.Time, 1)
	c.Fault = fault
	c.Observe = func(e measure.Event) {
		p.shown.event(e)
		t.see(e)
		p.sheets.probe(n, e)
	}
	p.shown.begin()
	var inject *measure.Action
	spoilt := false
	var making sync.WaitGroup
	making.Go(func() {
		defer end()
		// All have looked the name up and are served, or the run is void.
		if !t.wait(running.Done(), limit) {
			return
		}
		now, clean := t.strike()
		if !clean {
			spoilt = true
			return
		}
		fault <- now
		p.tell("run %d of %d: %s", n, p.series.runs, p.series.inject)
		inject = act(running, p.series.inject, env, p.series.timeout)
		if inject.Problem != "" {
			p.tell("--inject: %s", inject.Problem)
			return
		}
		t.wait(running.Done(), limit)
	})
	r, err := measure.Run(running, c)
	end()
	making.Wait()
	p.shown.end()
	if err != nil {
		return nil, err
	}
	switch {
	case spoilt:
		return nil, fmt.Errorf("%w: %d of %d requests of client %s failed just before", errSpoilt, r.Failed, r.Sent, r.Client)
	case inject == nil && ctx.Err() == nil:
		return nil, fmt.Errorf("%w: %d of %d requests of client %s failed within %v", errUnsteady, r.Failed, r.Sent, r.Client, limit)
	}
	r.Number, r.Inject = n, inject
	p.void(ctx, r, t)
	p.join(ctx, r)
	if p.series.restore != "" && inject != nil {
		p.tell("run %d of %d: %s", n, p.series.runs, p.series.restore)
		// An interrupt is no reason to leave the sites broken.
		r.Restore = act(context.WithoutCancel(ctx), p.series.restore, env, p.series.timeout)
	}
	return r, nil
}

// void finds a run that proves nothing, for reasons that the engine does not
// know of.
func (p *program) void(ctx context.Context, r *measure.Report, t *tracker) {
	reason := ""
	switch {
	case r.Void:
		return
	case r.Inject == nil:
		reason = "interrupted before the disaster"
	case r.Inject.Problem != "":
		reason = "--inject: " + r.Inject.Problem
	case ctx.Err() != nil && (!r.Recovered || !t.felt()):
		reason = "interrupted before it was over"
	case !t.felt():
		reason = "the disaster changed nothing that users saw"
	}
	if reason != "" {
		r.Void, r.VoidReason = true, reason
	}
}

// progress says what a run found, and what all have so far.
func (p *program) progress(r *measure.Report, s *measure.Series) {
	text := fmt.Sprintf("run %d of %d: ", r.Number, p.series.runs)
	switch {
	case r.Void:
		text += "void: " + r.VoidReason
	case !r.Recovered:
		text += fmt.Sprintf("down for more than %v, and not over", r.Downtime)
	default:
		text += fmt.Sprintf("down for %v", r.Downtime)
	}
	if w := r.Writes; w != nil {
		text += ", " + w.InWords()
	}
	if sum := s.Summary; sum.Runs > 1 {
		text += fmt.Sprintf("; so far %s", sum.InWords())
	}
	p.tell("%s", text)
}
