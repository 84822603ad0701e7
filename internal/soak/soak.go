// Package soak lets a cluster of real processes run for long under real
// faults, and holds what users saw against what was decided. Three members on
// three machines made of namespaces, joined by a router; a service behind each
// kind of fence that outlives its daemon; users beside each site and outside.
// docs/soak.md says what is done, what is checked, and how.
package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab"
)

// Options say how to soak.
type Options struct {
	For    time.Duration // how long rounds are begun
	Seed   uint64        // of the faults
	Every  time.Duration // between two questions of one user
	Draasd string        // the program
	Race   bool          // it was built with the race detector
	Dir    string        // in which the run makes its directory; empty: that for temporary files
	Out    io.Writer     // progress
}

// settleLimit is how long after the last fault of a round the cluster may take
// until everything is as it has to be. It holds the longest a daemon is away
// from the log: a lease, an election, the detection of what had failed, and a
// move; several of them, since machines are shared.
const settleLimit = 20 * time.Second

// soak is one run.
type soak struct {
	Options
	*stage
	result  Result
	serving map[string]*serving // by service
	ledger  *ledger
	dual    map[string]int // stretches reported, by service
	renewed int            // certificates issued in upkeep
	calm    lab.Calm
	known   instant // until when it is known what was decided
}

// Run soaks. The error says that it could not be done; what was wrong with the
// cluster stands in the result. Nothing is left behind but, when something was
// wrong, Result.Dir.
func Run(ctx context.Context, o Options) (Result, error) {
	dir, err := os.MkdirTemp(o.Dir, "draas-soak-")
	if err != nil {
		return Result{}, fmt.Errorf("make directory: %w", err)
	}
	timeline, err := os.Create(filepath.Join(dir, "timeline.log"))
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("make timeline: %w", err), os.RemoveAll(dir))
	}
	r := &soak{Options: o, serving: make(map[string]*serving), dual: make(map[string]int), ledger: &ledger{race: o.Race, of: make(map[string]*account)}}
	r.result = Result{Seed: o.Seed, Spared: spare(o.Seed), Dir: dir}
	for _, s := range services {
		r.serving[s] = newServing()
	}
	b := newBook(timeline)
	if r.stage, err = setStage(dir, o.Draasd, b); err == nil {
		err = r.soak(ctx)
		err = errors.Join(err, r.finish())
	}
	err = errors.Join(err, b.err, timeline.Close())
	if err == nil && len(r.result.Violations) == 0 {
		r.result.Dir = ""
		err = os.RemoveAll(dir)
	}
	return r.result, err
}

// soak runs the control and the rounds.
func (r *soak) soak(ctx context.Context) error {
	began, wall := time.Now(), time.Now().Round(0)
	r.run()
	defer func() { r.result.Took = time.Since(began) }()
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	for _, name := range members {
		watchers.Go(func() { r.operators.look(ctx, name) })
	}
	watchers.Go(func() { r.operators.read(ctx, rand.New(rand.NewPCG(r.Seed, 1))) })
	watchers.Go(func() { r.watch(ctx) })
	watchers.Go(func() { r.calm.Watch(ctx) })
	if err := r.open(ctx); err != nil {
		return r.interrupted(ctx, err)
	}
	stopUsers := r.admit(ctx, fenced)
	err := r.control(ctx)
	for n := 1; err == nil && time.Since(began) < r.For && ctx.Err() == nil; n++ {
		if n%upkeepEvery == upkeepFirst {
			err = r.upkeep(ctx, n)
		} else {
			err = r.round(ctx, n)
		}
	}
	if stepped := time.Since(wall.Round(0)) - time.Since(began); stepped.Abs() > 20*time.Millisecond {
		r.book.violate("the machine's clock was stepped by %v meanwhile: instants cannot be held against each other", stepped)
	}
	return errors.Join(r.interrupted(ctx, err), stopUsers())
}

// interrupted: who is told to end has not failed.
func (r *soak) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		r.result.Interrupted = true
		return nil
	}
	return err
}

// open activates every service at its home, as soon as there is a leader.
func (r *soak) open(ctx context.Context) error {
	for _, s := range services {
		err := await(ctx, settleLimit, func(ctx context.Context) error {
			a, err := r.operators.request(ctx, primary, api.Request{Service: draas.ServiceID(s), Site: primary,
				Request: failover.Request{Move: failover.MoveActivate, Operator: "soak"}})
			if err == nil && !a.Accepted {
				err = errors.New(why(a.Record))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("activate %s: %w", s, err)
		}
	}
	if err := r.well(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	r.learn(ctx)
	return nil
}

// admit lets users of some services in; the function shows them out.
func (r *soak) admit(ctx context.Context, of []string) (out func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var all []*user
	for _, m := range r.users {
		all = append(all, crowd(users{machine: m, every: r.Every, book: r.book}, of)...)
	}
	wait := start(ctx, all)
	return func() error { cancel(); return wait() }
}

// control shows that the check can fail: the service without a fence is forced
// from a site that is cut off, by an operator who vouches, wrongly, that it
// does not serve. Two sites must be seen to serve it. The others move by
// themselves, in the same time.
func (r *soak) control(ctx context.Context) error {
	r.book.begin("control: primary is cut off, and the service without a fence is forced to dr")
	stopUsers := r.admit(ctx, []string{bare})
	heal, err := r.cuts.add([]cut{{From: primary}, {To: primary}})
	if err != nil {
		return errors.Join(err, stopUsers())
	}
	err = await(ctx, settleLimit, r.forced)
	pause(ctx, time.Second)
	err = errors.Join(err, stopUsers(), heal())
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.account()
	log := r.operators.registers[bare].activations()
	r.result.Control = total(r.serving[bare].dual(log))
	if r.result.Control == 0 && ctx.Err() == nil {
		r.book.violate("the control saw no two sites serve though there was no fence: the check is blind")
	}
	r.progress("control: without a fence, two sites were seen to serve for %v", r.result.Control.Round(time.Millisecond))
	return nil
}

// forced forces bare to dr and says which service is not active there yet.
func (r *soak) forced(ctx context.Context) error {
	s, err := r.operators.status(ctx, dr)
	if err != nil {
		return err
	}
	for _, sv := range s.Services {
		switch {
		case sv.Active == dr:
			continue
		case sv.ID != bare:
			return fmt.Errorf("%s has not moved to dr", sv.ID)
		}
		a, err := r.operators.request(ctx, dr, api.Request{Service: bare, Site: dr,
			Request: failover.Request{Move: failover.MoveFailover, Operator: "soak", Vouch: true}})
		if err == nil && !a.Accepted {
			err = errors.New(why(a.Record))
		}
		return errors.Join(errors.New("bare is not active at dr"), err)
	}
	return nil
}

// round lets faults strike and then waits until all is well.
func (r *soak) round(ctx context.Context, n int) error {
	faults := round(r.Seed, n)
	r.book.begin(fmt.Sprintf("round %d: %d faults", n, len(faults)))
	r.strike(ctx, faults)
	r.book.note("the last fault is over")
	return r.conclude(ctx, n)
}

// conclude waits until all is well after a round, and holds the round against
// what is to be.
func (r *soak) conclude(ctx context.Context, n int) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.result.Rounds = n
	r.acknowledge(ctx)
	r.account()
	r.weigh(true)
	if len(r.book.wrong()) > 0 {
		return errors.New("something was wrong; the run ends here")
	}
	return nil
}

// well waits until the cluster is settled.
func (s *stage) well(ctx context.Context) error {
	return await(ctx, settleLimit, func(ctx context.Context) error { return s.operators.settled(ctx, fenced) })
}

// settle waits until everything is as it has to be.
func (r *soak) settle(ctx context.Context) error {
	from := time.Now()
	err := r.well(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.book.violate("the cluster did not settle: %v", err)
			r.learn(ctx)
			r.account() // what users saw may say why
		}
		return err
	}
	took := time.Since(from)
	r.result.Settled = append(r.result.Settled, took)
	r.book.note("settled after %v", took.Round(time.Millisecond))
	r.learn(ctx)
	return nil
}

// learn asks every member what was decided. When all agree, that is all that
// was committed until now.
func (r *soak) learn(ctx context.Context) {
	now := time.Now().UnixNano()
	defer func() {
		if ctx.Err() == nil {
			r.known = now
		}
	}()
	for _, name := range members {
		r.operators.follow(ctx, name)
	}
}

// acknowledge tells the cluster that somebody knows of its moves, so that the
// next round finds it as ready to move as this one did.
func (r *soak) acknowledge(ctx context.Context) {
	for _, s := range fenced {
		_ = r.operators.ask(ctx, witness, s, failover.Request{Ask: failover.AskAcknowledge, Operator: "soak"})
	}
}

// account holds what users saw against what was decided, for as long as it is
// known what that was.
func (r *soak) account() {
	for i, answers := range r.book.take(r.known) {
		name := services[i]
		log := r.operators.registers[name].activations()
		s := r.serving[name]
		strays := len(s.Strays)
		s.add(answers, log)
		if name == bare {
			continue
		}
		if news := s.Strays[strays:]; len(news) > 0 {
			first, last := news[0], news[len(news)-1]
			r.book.violate("%s: %d answers out of turn, the first by %s between %s and %s, the last by %s until %s", name, len(news),
				sites[first.Site], clock(first.Stamp), clock(first.Done), sites[last.Site], clock(last.Done))
		}
		if dual := s.dual(log); len(dual) > r.dual[name] {
			r.book.violate("%s: two sites served: %v", name, dual)
			r.dual[name] = len(dual)
		}
	}
}

// weigh samples what the processes hold.
func (r *soak) weigh(calm bool) {
	for _, name := range members {
		for _, p := range r.hosts[name].processes() {
			if u, ok := sample(p); ok {
				if wrong := r.ledger.add(p.Name, u, calm); wrong != "" {
					r.book.violate("%s", wrong)
				}
			}
		}
	}
}
