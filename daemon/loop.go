package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
)

// inboxSize bounds what waits for the main loop. What does not fit is
// dropped: Raft's messages are sent again, probes look again.
const inboxSize = 4096

// leaderWait is how long an operator's request waits for a leader to be there.
const leaderWait = 3 * time.Second

// loop is the main loop: the one goroutine that steps the replica. Everything
// else hands it closures and gets commands back.
type loop struct {
	replica *quorum.Replica
	clock   fence.Clock
	log     *slog.Logger
	inbox   chan func(*loop)
	// What the loop commands, set by the daemon before run.
	send    func([]quorum.Message)
	decided func(failover.State) // after the state changed, before what follows from it
	command func(failover.Commands)
	changed func(failover.State) // after the state changed
	touch   func(quorum.CoreStatus, draas.Reading)
	leased  func(draas.Reading) // permits may have changed
	alive   func()

	quit     error            // ends run after the turn under way
	waiting  map[uint64]asker // requests by their ID
	asking   chan struct{}    // has a token while a request waits: the later one of two would void the other
	watchers sync.Map         // chan struct{} -> struct{}
	dropped  atomic.Uint64
}

// asker waits for what its request has come to.
type asker struct {
	ctx    context.Context
	answer chan<- failover.Record
}

func newLoop(clock fence.Clock, log *slog.Logger) *loop {
	return &loop{clock: clock, log: log, inbox: make(chan func(*loop), inboxSize),
		waiting: make(map[uint64]asker), asking: make(chan struct{}, 1)}
}

// post hands the loop something to do; when its inbox is full it is dropped.
func (l *loop) post(f func(*loop)) {
	select {
	case l.inbox <- f:
	default:
		l.dropped.Add(1)
	}
}

// call runs f in the loop and waits for it. When it returns an error f has not
// run and will not: what f writes is the caller's again.
func (l *loop) call(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{})
	var taken atomic.Bool // by the loop, which runs f, or by the caller, who gives up
	run := func(l *loop) {
		if taken.CompareAndSwap(false, true) {
			f(l)
			close(done)
		}
	}
	select {
	case l.inbox <- run:
	case <-ctx.Done():
		return fmt.Errorf("the main loop is busy: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		if taken.CompareAndSwap(false, true) {
			return fmt.Errorf("the main loop does not answer: %w", ctx.Err())
		}
		<-done
		return nil
	}
}

// run turns until ctx ends or the replica cannot go on.
func (l *loop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-l.inbox:
			f(l)
			l.drain()
		case <-timer.C:
		}
		l.forsake()
		// Taken after everything that arrived: see quorum.Replica.
		now := l.clock.Now()
		out, err := l.replica.Process(now)
		if err != nil {
			return fmt.Errorf("main loop: %w", err)
		}
		l.carryOut(out, now)
		l.alive()
		if l.quit != nil {
			return l.quit
		}
		timer.Reset(l.replica.Next(now))
	}
}

// drain takes what else waits, so that one Process serves it all.
func (l *loop) drain() {
	for range inboxSize {
		select {
		case f := <-l.inbox:
			f(l)
		default:
			return
		}
	}
}

// forsake gives up the requests whose askers are gone: nobody is to be surprised
// by a move that was asked for long ago.
func (l *loop) forsake() {
	for id, a := range l.waiting {
		if a.ctx.Err() != nil {
			delete(l.waiting, id)
			l.replica.GiveUp(id)
		}
	}
}

func (l *loop) carryOut(out quorum.Output, now draas.Reading) {
	if out.Changed {
		l.decided(l.replica.State())
	}
	l.command(out.Commands)
	l.send(out.Messages)
	for _, a := range out.Actions {
		if a.Kind == failover.ActionRecord {
			l.recorded(*a.Record)
		}
	}
	l.touch(l.replica.Status(), now)
	if out.Changed || len(out.Commands.Extend) > 0 {
		l.leased(now)
	}
	if out.Changed {
		l.changed(l.replica.State())
		l.watchers.Range(func(key, _ any) bool {
			select {
			case key.(chan struct{}) <- struct{}{}:
			default:
			}
			return true
		})
	}
}

// recorded logs a line of history and answers who asked for it.
func (l *loop) recorded(r failover.Record) {
	level := slog.LevelInfo
	if r.Kind == failover.RecordRefusal {
		level = slog.LevelWarn
	}
	var why []string
	for _, reason := range r.Reasons {
		mark := "+ "
		if !reason.OK {
			mark = "- "
		}
		why = append(why, mark+reason.Text)
	}
	attrs := []any{"index", r.Index}
	if r.Service != "" {
		attrs = append(attrs, "service", r.Service, "phase", r.Phase, "epoch", r.Epoch)
	}
	if len(why) > 0 {
		attrs = append(attrs, "why", why)
	}
	l.log.Log(context.Background(), level, r.Text, attrs...)
	if a, asked := l.waiting[r.ID]; asked && answersTo[r.Kind] && r.By == l.replica.Self() {
		a.answer <- r
		delete(l.waiting, r.ID)
	}
}

// answersTo are the kinds of record that answer a request.
var answersTo = map[failover.RecordKind]bool{failover.RecordDecision: true, failover.RecordRefusal: true,
	failover.RecordPause: true, failover.RecordResume: true, failover.RecordAcknowledge: true, failover.RecordEntry: true}

// request proposes an operator's wish and waits for the decision.
func (l *loop) request(ctx context.Context, service draas.ServiceID, site draas.SiteID, r failover.Request) (failover.Record, error) {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return failover.Record{}, fmt.Errorf("another request is waiting for its decision: %w", ctx.Err())
	}
	answer := make(chan failover.Record, 1)
	var id uint64
	propose := func() error {
		var failed error
		err := l.call(ctx, func(l *loop) {
			id, failed = l.replica.Request(service, site, r, l.clock.Now())
			if failed == nil {
				l.waiting[id] = asker{ctx, answer}
			}
		})
		return errors.Join(err, failed)
	}
	err := propose()
	// An election, a handing over of leadership or a start is under way: it is soon
	// over, or the cluster is in trouble.
	passing := func() bool {
		return errors.Is(err, quorum.ErrNoLeader) || errors.Is(err, quorum.ErrBusy) || errors.Is(err, quorum.ErrStarting)
	}
	for start := time.Now(); passing() && time.Since(start) < leaderWait; err = propose() {
		pause(ctx, leaderWait/60)
	}
	if err != nil {
		return failover.Record{}, err
	}
	select {
	case rec := <-answer:
		return rec, nil
	case <-ctx.Done():
		return failover.Record{}, fmt.Errorf("no decision yet: the request may still be decided, look at draasd history: %w", ctx.Err())
	}
}

// watch returns a channel that gets a token after changes, until stop.
func (l *loop) watch() (news <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	l.watchers.Store(c, struct{}{})
	return c, func() { l.watchers.Delete(c) }
}
