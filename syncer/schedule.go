package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule says when runs are made. Runs never overlap: a moment that falls into
// a run is left out.
type Schedule struct {
	// Cron is an expression of five fields, or as "@every 10m"; empty: none. It
	// may begin with a time zone, as "CRON_TZ=Europe/Berlin 0 3 * * *"; else it
	// is meant in Zone.
	Cron string
	// Pause between the end of a run and the next in continuous mode; 0: none.
	Pause time.Duration
	// Audit is the same as Cron, for runs that read everything.
	Audit string
	// Jitter is the most that a run begins later than its moment.
	Jitter time.Duration
	Zone   *time.Location // nil: UTC
}

// Why a run is made.
const (
	Due       = "due"
	Audited   = "audit"
	Triggered = "triggered"
)

// Scheduler makes runs when they are due. Its Run may be called once.
type Scheduler struct {
	s          Schedule
	cron       cron.Schedule // nil: none
	audit      cron.Schedule
	now        func() time.Time
	random     func() float64
	triggers   chan struct{}
	wantsAudit chan struct{}
	audited    time.Time // when the last audit began
}

// NewScheduler checks the expressions. now and random are as in [Config].
func NewScheduler(s Schedule, now func() time.Time, random func() float64) (*Scheduler, error) {
	if s.Zone == nil {
		s.Zone = time.UTC
	}
	if s.Cron != "" && s.Pause > 0 {
		return nil, errors.New("make schedule: it is either by moments or continuous")
	}
	if s.Jitter < 0 || s.Pause < 0 {
		return nil, errors.New("make schedule: a time below 0")
	}
	sc := &Scheduler{s: s, now: now, random: random, triggers: make(chan struct{}, 1), wantsAudit: make(chan struct{}, 1)}
	for _, e := range []struct {
		text string
		to   *cron.Schedule
	}{{s.Cron, &sc.cron}, {s.Audit, &sc.audit}} {
		if e.text == "" {
			continue
		}
		parsed, err := cron.ParseStandard(e.text)
		if err != nil {
			return nil, fmt.Errorf("make schedule: %q: %w", e.text, err)
		}
		if parsed.Next(now().In(s.Zone)).IsZero() {
			return nil, fmt.Errorf("make schedule: %q never comes", e.text)
		}
		*e.to = parsed
	}
	return sc, nil
}

// Trigger asks for a run at once, or for another when one is being made. An
// audit reads everything.
func (sc *Scheduler) Trigger(audit bool) {
	c := sc.triggers
	if audit {
		c = sc.wantsAudit
	}
	select {
	case c <- struct{}{}:
	default: // asked for already
	}
}

// Run calls run whenever it is due, until ctx ends. What is due while a run is
// made is left out; an audit, and what was triggered, comes after it.
func (sc *Scheduler) Run(ctx context.Context, run func(ctx context.Context, why string)) {
	sc.audited = sc.now()
	for {
		why, ok := sc.wait(ctx)
		if !ok {
			return
		}
		if why == Audited {
			sc.audited = sc.now()
		}
		run(ctx, why)
	}
}

// Next tells when the next run and the next audit are due after t, without
// jitter; zero: never.
func (sc *Scheduler) Next(t time.Time) (run, audit time.Time) {
	if sc.cron != nil {
		run = sc.cron.Next(t.In(sc.s.Zone))
	} else if sc.s.Pause > 0 {
		run = t.Add(sc.s.Pause)
	}
	if sc.audit != nil {
		audit = sc.audit.Next(t.In(sc.s.Zone))
	}
	return run, audit
}

// wait for the next run: an audit takes the place of a run that is due at the
// same time.
func (sc *Scheduler) wait(ctx context.Context) (string, bool) {
	now := sc.now()
	next, _ := sc.Next(now)
	_, audit := sc.Next(sc.audited)
	why := Due
	if !audit.IsZero() && (next.IsZero() || !audit.After(next)) {
		next, why = audit, Audited
	}
	var due <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(max(0, next.Sub(now)) + time.Duration(sc.random()*float64(sc.s.Jitter)))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return "", false
	case <-due:
		return why, ctx.Err() == nil
	case <-sc.wantsAudit:
		return Audited, ctx.Err() == nil
	case <-sc.triggers:
		return Triggered, ctx.Err() == nil
	}
}
