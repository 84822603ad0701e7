package matrix

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/draasd/draas"
)

const (
	// warmFor is how long users are served before a disaster, and jitter how
	// much longer at most, so that it comes at no particular time of anybody's
	// interval.
	warmFor = 500 * time.Millisecond
	jitter  = 300 * time.Millisecond
	// slack is how much longer than the arithmetic allows is waited for users
	// to be served again, so that a late return is told from none.
	slack = 15 * time.Second
	// upsetAfter is from when on a machine that let nobody run for so long has
	// upset what was timed: more than any of the profile's steps is late by.
	upsetAfter = 100 * time.Millisecond
	// stayLimit is how long is waited for that where it has been watched
	// already, and nothing is promised.
	stayLimit = 2 * time.Second
)

// once makes a disaster once. The error says that the world cannot be used any
// more; what was wrong with the service stands in the result.
func (w *world) once(ctx context.Context, c cell) (*Result, error) {
	r := &Result{Column: w.Name, Cell: c.Name, BoundMS: ms(bound(w.budget, c.Budget))}
	began := time.Now()
	defer w.endFeed()
	if c.Before != nil {
		if err := c.Before(ctx, w); err != nil {
			return w.unready(ctx, r, fmt.Errorf("make ready: %w", err))
		}
	}
	from, epoch, err := w.reign(ctx)
	if err != nil {
		return nil, err
	}
	r.From = from
	people, err := w.gather()
	if err != nil {
		return nil, err
	}
	err = w.strike(ctx, c, people, r, epoch)
	r.Took = time.Since(began).Seconds()
	if err != nil {
		return nil, errors.Join(err, people.kill())
	}
	back := time.Now()
	if r.struck && !c.First {
		err = c.heal(w)
	}
	if c.After != nil {
		err = errors.Join(err, c.After(w))
	}
	if err == nil {
		err = w.goHome(ctx)
	}
	r.Home = time.Since(back).Seconds()
	r.Faults = append(r.Faults, w.violations()...)
	return r, err
}

func (c cell) heal(w *world) error {
	if c.Heal == nil {
		return nil
	}
	return c.Heal(w)
}

// reign is where the service is active, and since which epoch. A peer has
// neither.
func (w *world) reign(ctx context.Context) (site string, epoch draas.Epoch, err error) {
	if w.Peer != nil {
		return primary, 0, nil
	}
	err = await(ctx, startLimit, func(ctx context.Context) error {
		s, err := w.status(ctx, witness)
		if err != nil {
			// The witness may be what is lost.
			if s, err = w.status(ctx, dr); err != nil {
				return err
			}
		}
		sv := find(s)
		site, epoch = string(sv.Active), sv.Epoch
		return nil
	})
	return site, epoch, err
}

// strike lets the disaster happen under the eyes of the users, and judges.
func (w *world) strike(ctx context.Context, c cell, people *crowd, r *Result, epoch draas.Epoch) error {
	kinds := w.userKinds()
	elsewhere := false
	err := await(ctx, startLimit, func(context.Context) error {
		err := people.steady(kinds, r.From, warmFor)
		// Whoever is answered all the time is answered by who is active.
		elsewhere = err != nil && people.steady(kinds, "", warmFor) == nil
		if elsewhere {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("before %s: %w", c.Name, err)
	}
	if elsewhere {
		return w.unprovoked(ctx, r, people)
	}
	people.begin(warmFor)
	pause(ctx, rand.N(jitter))
	if c.Moment != nil {
		if err := c.Moment(ctx, w); err != nil {
			if at, _, e := w.reign(ctx); e == nil && at != r.From {
				return w.unprovoked(ctx, r, people)
			}
			return fmt.Errorf("wait for the moment: %w", err)
		}
	}
	w.calm.Mark()
	fault := time.Now()
	r.At, r.struck = fault.UTC(), true
	if err := c.Strike(ctx, w); err != nil {
		return fmt.Errorf("strike: %w", err)
	}
	struck := time.Now()
	r.follow(ctx, w, c, people, struck)
	end := time.Now()
	late := w.calm.Late()
	if r.Late = ms(late); late > upsetAfter {
		r.Upset = stalled(late)
	}
	to, after, err := w.reign(ctx)
	if err != nil {
		return err
	}
	r.To, r.Moves = to, int(after-epoch)
	w.steps(ctx, r, fault)
	people.stop()
	if c.First {
		if err := c.heal(w); err != nil {
			return err
		}
	}
	if err := people.leave(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	people.judge(r, epoch, fault, end)
	if c.Loss {
		if r.Loss, err = w.loss(ctx); err != nil {
			return err
		}
	}
	if c.Warned && r.quiet() {
		r.Upset = "" // nothing of it is timed by less than seconds
	}
	if w.Peer == nil {
		r.hold(c)
	}
	return nil
}

// quiet reports whether nothing moved, and nobody was refused.
func (r *Result) quiet() bool {
	for _, s := range r.Kinds {
		if s.Failed > 0 {
			return false
		}
	}
	return r.Moves == 0
}

// unprovoked is what becomes of a run in which the service was elsewhere before
// anything was done. On a machine that lets nobody run a site is taken for lost
// at times; on any other it must not be.
func (w *world) unprovoked(ctx context.Context, r *Result, people *crowd) error {
	at, _, err := w.reign(ctx)
	if err != nil {
		return err
	}
	r.displaced(at, w.calm.Late())
	return people.kill()
}

// unready is what becomes of a run that failed to be made ready: it may have,
// because a machine that let nobody run has made the service move.
func (w *world) unready(ctx context.Context, r *Result, failed error) (*Result, error) {
	at, _, err := w.reign(ctx)
	late := w.calm.Late()
	if err != nil || at == primary || late <= upsetAfter {
		return nil, failed
	}
	r.displaced(at, late)
	return r, w.goHome(ctx)
}

// displaced notes that the service was elsewhere before anything was done, and
// for how long the machine had let nobody run.
func (r *Result) displaced(at string, late time.Duration) {
	r.At, r.To, r.Lost = time.Now().UTC(), at, -1
	r.Void = fmt.Sprintf("the service moved to %s before anything was done", at)
	if late <= upsetAfter {
		r.Faults = append(r.Faults, r.Void)
	} else {
		r.Upset, r.Late = stalled(late), ms(late)
	}
}

func stalled(late time.Duration) string {
	return fmt.Sprintf("the machine let nobody run for %v", late.Round(time.Millisecond))
}

// follow waits until all users have been served for long enough by where they
// should be, or until that has taken too long.
func (r *Result) follow(ctx context.Context, w *world, c cell, people *crowd, struck time.Time) {
	limit := time.Duration(r.BoundMS*float64(time.Millisecond)) + slack
	if c.Expect == stays && r.BoundMS == 0 {
		limit = stayLimit
	}
	to := r.From
	switch {
	case w.Peer != nil && c.Expect == moves:
		to = ""
	case c.Expect == moves:
		to = c.target()
	case c.Expect == returns:
		to = ""
	}
	pause(ctx, c.Watch)
	if c.Warned {
		var after time.Duration
		if after, r.unwarned = w.alarmed(ctx, struck); r.unwarned == nil {
			r.WarnedS = after.Seconds()
		}
	}
	// It may fail: then users were not served again, which is what is found.
	_ = await(ctx, limit, func(context.Context) error {
		if time.Since(struck) < settledFor {
			return errors.New("it has just happened")
		}
		return people.steady(w.userKinds(), to, settledFor+lateAnswer)
	})
	pause(ctx, settledFor)
}

func (c cell) target() string {
	if c.To != "" {
		return c.To
	}
	return dr
}

// steps takes over from the log when the move got where.
func (w *world) steps(ctx context.Context, r *Result, fault time.Time) {
	if w.Peer != nil || r.Moves == 0 {
		return
	}
	s, err := w.status(ctx, witness)
	if err != nil || find(s).Last == nil {
		return // it is only told
	}
	t := find(s).Last.Times
	r.Steps = make(map[string]float64)
	for name, at := range map[string]time.Time{"suspected": t.Suspected, "failed": t.Failed, "decided": t.Decided, "released": t.Released, "activated": t.Activated} {
		if !at.IsZero() {
			r.Steps[name] = ms(at.Sub(fault))
		}
	}
}

// The clients' own part of a downtime, which no arithmetic of a file knows: a
// SYN that is lost is sent again after a second (RFC 6298, section 2). Who
// keeps a connection takes it for dead after quiet, and may then meet that
// twice. A resolver goes on to ask a server that was lost, each time for
// longer, for as long as a user is patient; and counts the life of an answer
// in whole seconds.
const lostSYN = time.Second

func extra(kind string) time.Duration {
	switch kind {
	case kindLong:
		return quiet + 2*lostSYN
	case kindResolver:
		return patience + lostSYN
	}
	return lostSYN
}

// hold holds what was seen against what had to come of it. On a machine that
// let nobody run only what must never be is judged.
func (r *Result) hold(c cell) {
	wrong := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	if r.DualMS > 0 {
		wrong("two sites served for %v ms", r.DualMS)
	}
	if r.ClaimsMS > 0 {
		wrong("both frontends answered for the virtual address for %v ms", r.ClaimsMS)
	}
	if r.WrongSite > 0 {
		wrong("%d answers came from a site that had been succeeded", r.WrongSite)
	}
	// Who is active himself carries nothing, and has nothing to warn of.
	if r.unwarned != nil && r.Moves == 0 {
		wrong("nobody is warned: %v", r.unwarned)
	}
	if r.Upset != "" {
		return
	}
	switch {
	case c.Expect == moves && r.To != c.target():
		wrong("the service did not move to %s: it is at %q", c.target(), r.To)
	case (c.Expect == stays || c.Expect == unnoticed) && r.Moves != 0:
		wrong("the service moved %d times, to %s", r.Moves, r.To)
	case c.Expect == returns && r.Moves > 2: // there, and back when there was no there
		wrong("the service moved %d times", r.Moves)
	}
	if r.Loss != nil {
		r.Faults = append(r.Faults, r.Loss.hold()...)
	}
	for kind, s := range r.Kinds {
		switch limit := r.BoundMS + ms(extra(kind)) + 2*r.Late; {
		case !s.Recovered:
			wrong("%s: not served again (%s)", kind, s.Why)
		case c.Expect == unnoticed && s.Failed > 0:
			wrong("%s: %d requests failed, and nothing was to be noticed (%s)", kind, s.Failed, s.Why)
		case r.BoundMS > 0 && s.Felt() > limit:
			wrong("%s: without an answer for %.0f ms, allowed are %.0f (%.0f by the file)", kind, s.Felt(), limit, r.BoundMS)
		}
	}
}
