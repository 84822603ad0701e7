// Package hybrid moves the users of a service in several ways at once: by the
// frontends that lead them, and by the name that leads to the frontends. It
// composes the effects of both and knows neither.
//
// Either half serves users while the other is broken, so that a move is
// complete when one is seen in force and the others were tried. What is missing
// then stands first in the evidence, and is looked after half by half.
package hybrid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Half is one of the ways in which users are moved.
type Half struct {
	Name   string // for people and for steps: dns, frontend
	Effect runbook.Effect
	// Patience is how long one call of this half may take while others wait
	// for it. Default: what the effect promises.
	Patience time.Duration
}

// StepOf is the name under which one half of a plan's step is looked at and
// put right by itself.
func StepOf(step, half string) string { return step + "/" + half }

// without begins the evidence of what is in force by some halves only.
const without = "without "

// Missing is what a step's evidence says is missing of what it has made; empty
// when it says nothing of the kind.
func Missing(evidence string) string {
	if !strings.HasPrefix(evidence, without) {
		return ""
	}
	return evidence
}

// Config describes a composed effect.
type Config struct {
	Halves []Half // at least two, each with a name of its own
}

// Effect is that of all halves under one epoch.
type Effect struct {
	halves   []Half
	released runbook.Released

	mu    sync.Mutex
	tries map[draas.ServiceID]*try
}

// try is what became of the halves when the latest token of a service was last
// brought into force here. It does not outlive the process: who starts anew
// tries anew.
type try struct {
	token  runbook.Token
	halves []tried
}

type tried struct {
	was  bool  // it was given its time
	err  error // what it said
	seen bool  // it was seen in force since: what it is now, somebody changed
}

var _ runbook.Effect = (*Effect)(nil)

// New composes the halves.
func New(cfg Config) (*Effect, error) {
	e := &Effect{halves: slices.Clone(cfg.Halves), tries: make(map[draas.ServiceID]*try)}
	if len(e.halves) < 2 {
		return nil, fmt.Errorf("hybrid effect: %d halves, want at least two", len(e.halves))
	}
	for i := range e.halves {
		h := &e.halves[i]
		twice := slices.ContainsFunc(e.halves[:i], func(o Half) bool { return o.Name == h.Name })
		if h.Name == "" || twice || h.Effect == nil || h.Patience < 0 {
			return nil, fmt.Errorf("hybrid effect: half %q: want an effect, a name of its own, and no negative patience", h.Name)
		}
		if h.Patience == 0 {
			h.Patience = h.Effect.Promise().Worst
		}
	}
	return e, nil
}

// Halves lists the halves, for who looks after each by itself.
func (e *Effect) Halves() []Half { return slices.Clone(e.halves) }

// Promise is that of the weakest half, and the time of the slowest.
func (e *Effect) Promise() runbook.Promise {
	rank := []runbook.CompareAndSet{runbook.None, runbook.PerNode, runbook.Strong}
	p := runbook.Promise{CompareAndSet: runbook.Strong}
	for _, h := range e.halves {
		own := h.Effect.Promise()
		if slices.Index(rank, own.CompareAndSet) < slices.Index(rank, p.CompareAndSet) {
			p.CompareAndSet = own.CompareAndSet
		}
		p.Worst = max(p.Worst, own.Worst)
	}
	return p
}

// Do brings all halves into force at the same time. It ends well when all have,
// or when one has and each other has failed or had its patience. A half that
// knows of a later token, or has released this one, ends it for all.
func (e *Effect) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	if e.released.Has(op) {
		return fmt.Errorf("move by halves at %v: %w", op.Token, runbook.ErrReleased)
	}
	errs := e.doAll(ctx, op)
	var failed []error
	for i, err := range errs {
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", e.halves[i].Name, err)
		if final(err) {
			return err
		}
		failed = append(failed, err)
	}
	e.note(ctx, op, errs)
	if len(failed) == len(errs) {
		return errors.Join(failed...)
	}
	return nil
}

func final(err error) bool {
	return errors.Is(err, draas.ErrStaleEpoch) || errors.Is(err, runbook.ErrReleased)
}

// errPatience is why a half is given up that others waited for.
var errPatience = errors.New("it had its time")

// doAll is Do of each half, and waits for them all: a half is ended when it has
// had its patience and another is done, and all are when one says that the
// token is over.
func (e *Effect) doAll(ctx context.Context, op runbook.Op) []error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	type ended struct {
		half int
		err  error
	}
	results := make(chan ended, len(e.halves))
	cut := make([]context.CancelCauseFunc, len(e.halves))
	patience := make(chan int, len(e.halves))
	for i, h := range e.halves {
		half, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		cut[i] = cancel
		timer := time.AfterFunc(h.Patience, func() { patience <- i })
		defer timer.Stop()
		go func() { results <- ended{i, h.Effect.Do(half, op)} }()
	}
	errs := make([]error, len(e.halves))
	var over []int // had their patience
	done := false
	for left := len(e.halves); left > 0; {
		select {
		case r := <-results:
			left--
			errs[r.half] = r.err
			done = done || r.err == nil
			if final(r.err) {
				end(r.err)
			}
		case i := <-patience:
			over = append(over, i)
		}
		if done {
			for _, i := range over {
				cut[i](errPatience)
			}
		}
	}
	return errs
}

// note remembers what became of the halves of the latest token.
func (e *Effect) note(ctx context.Context, op runbook.Op, errs []error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tries[op.Service]
	if t != nil && op.Token.Compare(t.token) < 0 {
		return
	}
	t = &try{token: op.Token, halves: make([]tried, len(errs))}
	for i, err := range errs {
		// One that the caller has cut short was not given its time.
		t.halves[i] = tried{was: err == nil || ctx.Err() == nil, err: err}
	}
	e.tries[op.Service] = t
}

// Release gives all halves up.
func (e *Effect) Release(ctx context.Context, op runbook.Op) error {
	e.released.Add(op)
	errs := make([]error, len(e.halves))
	var all sync.WaitGroup
	for i, h := range e.halves {
		all.Go(func() {
			if err := h.Effect.Release(ctx, op); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// look is what was seen of one half.
type look struct {
	half     string
	answer   runbook.Answer
	evidence string
	err      error
	excused  bool // it was tried here at this token, and never seen in force
	tried    error
}

func (l look) text() string {
	switch {
	case l.evidence != "":
		return l.half + ": " + l.evidence
	case l.err != nil:
		return l.half + ": " + l.err.Error()
	}
	return l.half + ": not known"
}

// Done looks at all halves at the same time. It answers Yes when all are in
// force; and when one is and each other was tried here at this token, did not
// come into force, and was never seen to be: one that was and is no more may
// have been moved on by a later token. It answers No when a half that has no
// such excuse is not in force, and Unknown when one could not be looked at.
func (e *Effect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	looks := make([]look, len(e.halves))
	var all sync.WaitGroup
	for i, h := range e.halves {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, h.Patience)
			defer cancel()
			l := look{half: h.Name}
			l.answer, l.evidence, l.err = h.Effect.Done(ctx, op)
			looks[i] = l
		})
	}
	all.Wait()
	e.excuse(op, looks)
	answer, evidence, err := judge(looks)
	if answer == runbook.Yes && e.released.Has(op) {
		return runbook.No, evidence + "; released", nil
	}
	return answer, evidence, err
}

// excuse finds what may be missing, and remembers what was seen.
func (e *Effect) excuse(op runbook.Op, looks []look) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tries[op.Service]
	if t == nil || t.token != op.Token {
		return
	}
	for i := range looks {
		h := &t.halves[i]
		if looks[i].answer == runbook.Yes {
			h.seen = true
		}
		looks[i].excused, looks[i].tried = h.was && !h.seen, h.err
	}
}

// judge makes one answer of those of the halves.
func judge(looks []look) (runbook.Answer, string, error) {
	worst, served := runbook.Yes, false // of those without an excuse; whether one is in force
	var missing, inForce []string
	var errs []error
	for _, l := range looks {
		if l.answer == runbook.Yes {
			served = true
			inForce = append(inForce, l.text())
			continue
		}
		text := l.text()
		if l.tried != nil && l.answer == runbook.No {
			text += " (" + l.tried.Error() + ")"
		}
		missing = append(missing, text)
		switch {
		case l.answer == runbook.No && !l.excused:
			worst = runbook.No
		case l.answer != runbook.No:
			if l.err == nil {
				l.err = errors.New("not known")
			}
			errs = append(errs, fmt.Errorf("%s: %w", l.half, l.err))
			if !l.excused && worst != runbook.No {
				worst = runbook.Unknown
			}
		}
	}
	if worst == runbook.Yes && !served { // all were tried in vain
		worst = runbook.Unknown
		if len(errs) < len(looks) {
			worst = runbook.No
		}
	}
	evidence := strings.Join(append(missing, inForce...), "; ")
	if len(missing) > 0 {
		evidence = without + evidence
	}
	if worst == runbook.Unknown {
		return worst, evidence, errors.Join(errs...)
	}
	return worst, evidence, nil
}
