package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// operators look at every member and ask for moves.
type operators struct {
	hosts     map[string]*host
	clients   map[string]*api.Client
	registers map[string]*register // by service
	book      *book

	mu         sync.Mutex
	id         string         // of the cluster
	noted      uint64         // index up to which history stands in the timeline
	decided    map[string]int // moves, by kind
	done       map[string]int
	pauses     pauses
	suspicions map[string]map[int]uint64 // by member and run of its daemon
}

func newOperators(hosts map[string]*host, b *book) *operators {
	o := &operators{hosts: hosts, book: b, clients: make(map[string]*api.Client), registers: make(map[string]*register),
		decided: make(map[string]int), done: make(map[string]int), pauses: make(pauses), suspicions: make(map[string]map[int]uint64)}
	for name, h := range hosts {
		o.clients[name] = api.Unix(h.socket("draasd.sock"))
		o.suspicions[name] = make(map[int]uint64)
	}
	for _, s := range services {
		o.registers[s] = newRegister()
	}
	return o
}

func (o *operators) close() {
	for _, c := range o.clients {
		c.Close()
	}
}

// How often members are looked at, and how long they may take to answer.
const (
	lookEvery    = 250 * time.Millisecond
	historyEvery = 4 // looks
	readEvery    = 300 * time.Millisecond
	askPatience  = 2 * time.Second
)

// look follows what one member shows, until ctx ends.
func (o *operators) look(ctx context.Context, name string) {
	last := make(map[draas.ServiceID]draas.Epoch)
	lastRun := 0
	for n := 0; ctx.Err() == nil; n++ {
		_, run, _ := o.hosts[name].daemon.Present()
		s, err := o.status(ctx, name)
		_, after, _ := o.hosts[name].daemon.Present()
		if err == nil && run == after {
			if run != lastRun {
				clear(last)
				lastRun = run
			}
			o.hold(s, name, run, last)
		}
		if err == nil && n%historyEvery == 0 {
			o.follow(ctx, name)
		}
		pause(ctx, lookEvery)
	}
}

func (o *operators) status(ctx context.Context, name string) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return o.clients[name].Status(ctx, true)
}

// hold holds what a member shows against what it showed before in this run.
func (o *operators) hold(s *api.Status, name string, run int, last map[draas.ServiceID]draas.Epoch) {
	had := time.Now().UnixNano()
	for _, sv := range s.Services {
		if sv.Epoch < last[sv.ID] {
			o.book.violate("%s shows epoch %d of %s after %d", name, sv.Epoch, sv.ID, last[sv.ID])
		}
		last[sv.ID] = sv.Epoch
		if r := o.registers[string(sv.ID)]; r != nil {
			r.observe(sv.Epoch, had)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.id = s.ClusterID
	for _, r := range s.Reported {
		if string(r.Member) == name {
			o.suspicions[name][run] = r.Suspicions
		}
	}
}

// cluster is the cluster's id, as some member showed it.
func (o *operators) cluster() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.id
}

// historyLimit is more than a member keeps.
const historyLimit = 1000

// follow reads a member's history: activations for the registers, and news for
// the timeline.
func (o *operators) follow(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	records, err := o.clients[name].History(ctx, "", historyLimit)
	if err != nil {
		return // it is asked again
	}
	had := time.Now().UnixNano()
	o.mu.Lock()
	defer o.mu.Unlock()
	noted := o.noted
	for _, rec := range records {
		if r := o.registers[string(rec.Service)]; r != nil {
			r.record(rec, had)
		}
		if rec.Index <= noted {
			continue
		}
		o.noted = max(o.noted, rec.Index)
		if wrong := o.pauses.record(rec); wrong != "" {
			o.book.violate("%s", wrong)
		}
		switch {
		case rec.Kind == failover.RecordDone && rec.Move != nil:
			o.done[string(rec.Move.Kind)]++
		case rec.Kind == failover.RecordDecision && rec.Service != "":
			kind, _, _ := strings.Cut(rec.Text, " ")
			o.decided[kind]++
		case rec.Kind == failover.RecordPhase && rec.Phase == failover.PhaseRedirecting:
		default:
			continue
		}
		o.book.note("log %d at %s: %s: %s", rec.Index, clock(rec.At.UnixNano()), rec.Service, rec.Text)
	}
}

// never is an epoch that no service reaches: a request that expects it is
// refused by the log, and the refusal says which epoch was in force there.
const never = draas.Epoch(1) << 60

// read reads the registers through the log, by random members.
func (o *operators) read(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, readEvery)
		member, service := members[rng.IntN(len(members))], services[rng.IntN(len(services))]
		call := time.Now().UnixNano()
		a, err := o.request(ctx, member, api.Request{Service: draas.ServiceID(service),
			Request: failover.Request{Move: failover.MoveSwitchover, Operator: "reader", Expect: never}})
		ret := time.Now().UnixNano()
		switch {
		case err != nil: // it may have been refused or not: nothing was read
		case a.Accepted:
			o.book.violate("%s accepted a request that expected epoch %d: %s", member, never, a.Record.Text)
		default:
			o.registers[service].asked(call, ret, a.Record.Epoch)
		}
	}
}

func (o *operators) request(ctx context.Context, member string, r api.Request) (*api.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return o.clients[member].Request(ctx, r)
}

// wish asks for a move as an operator would who looked at that member, and then
// at the others.
func (o *operators) wish(ctx context.Context, f Fault) {
	r := api.Request{Service: draas.ServiceID(f.Service), Site: draas.SiteID(f.Site),
		Request: failover.Request{Move: failover.MoveKind(f.Kind), Operator: "soak"}}
	first := slices.Index(members, f.Member)
	for i := range members {
		member := members[(first+i)%len(members)]
		call := time.Now().UnixNano()
		a, err := o.request(ctx, member, r)
		ret := time.Now().UnixNano()
		switch {
		case err != nil:
			o.book.note("%s of %s at %s: no answer: %v", f.Kind, f.Service, member, err)
			continue
		case !a.Accepted:
			o.registers[f.Service].asked(call, ret, a.Record.Epoch)
			o.book.note("%s of %s at %s: %s", f.Kind, f.Service, member, why(a.Record))
		default:
			// The epoch that the move will grant is the next one.
			o.registers[f.Service].asked(call, ret, a.Record.Epoch-1)
		}
		return
	}
}

// pause asks for no automatic moves, and takes that back when the fault is over.
// If nobody can be asked then it ends by itself, later.
func (o *operators) pause(ctx context.Context, f Fault) {
	o.ask(ctx, f.Member, f.Service, failover.Request{Ask: failover.AskPause, Operator: "soak", Reason: "a soak", For: 2 * f.For})
	pause(ctx, f.For)
	for _, member := range members {
		if o.ask(ctx, member, f.Service, failover.Request{Ask: failover.AskResume, Operator: "soak"}) == nil {
			return
		}
	}
}

// ask asks for what moves nothing. No error says that the log did it or refused
// to.
func (o *operators) ask(ctx context.Context, member, service string, r failover.Request) error {
	a, err := o.request(ctx, member, api.Request{Service: draas.ServiceID(service), Request: r})
	switch {
	case err != nil:
		o.book.note("%s of %s: no answer: %v", r.Ask, service, err)
	case !a.Accepted:
		o.book.note("%s of %s: %s", r.Ask, service, why(a.Record))
	}
	return err
}

// reload has every member read its file again: one that was too young for
// SIGHUP, or stood still, may have read the one before.
func (o *operators) reload(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	for _, name := range members {
		r, err := o.clients[name].Reload(ctx)
		switch {
		case err != nil:
			o.book.note("%s does not read its file again: %v", name, err)
		case len(r.Refused) > 0:
			o.book.violate("%s refuses its file: %v", name, r.Refused)
		}
	}
}

// insist asks until the log accepts it.
func (o *operators) insist(ctx context.Context, member, service string, r failover.Request) error {
	return await(ctx, settleLimit, func(ctx context.Context) error {
		a, err := o.request(ctx, member, api.Request{Service: draas.ServiceID(service), Request: r})
		if err == nil && !a.Accepted {
			err = errors.New(why(a.Record))
		}
		return err
	})
}

// leave asks a member to leave the cluster.
func (o *operators) leave(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	_, err := o.clients[name].Leave(ctx)
	return err
}

// why is a refusal in one line.
func why(r failover.Record) string {
	text := r.Text
	for _, reason := range r.Reasons {
		if !reason.OK {
			text += "; " + reason.Text
		}
	}
	return text
}

// settled says what is not as it has to be when nothing is wrong: all members
// agree on one leader and one state, and each service's active site holds its
// permit with its fence open, and no other's is.
func (o *operators) settled(ctx context.Context, of []string) error {
	var first *api.Status
	for _, name := range members {
		s, err := o.status(ctx, name)
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", name, err)
		}
		if first == nil {
			first = s
		}
		if s.Leader == "" || s.Leader != first.Leader {
			return fmt.Errorf("%s takes %q for the leader, %s %q", name, s.Leader, first.Self, first.Leader)
		}
		for _, m := range s.Members {
			if !m.SameConfig {
				o.reload(ctx)
				return fmt.Errorf("%s: %s has another file than the policy in force", name, m.ID)
			}
		}
		if err := voters(s); err != nil {
			return err
		}
		for _, id := range of {
			if err := o.settledAt(s, first, draas.ServiceID(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// voters says which member has no vote, or more than one copy of the log.
func voters(s *api.Status) error {
	for _, m := range s.Log {
		if m.Role != api.LogVoter || m.Leaving || m.Quarantine != "" {
			return fmt.Errorf("%s: in the log, %s is %+v", s.Self, m.ID, m)
		}
	}
	if len(s.Log) != len(members) {
		return fmt.Errorf("%s: %d copies of the log take part: %+v", s.Self, len(s.Log), s.Log)
	}
	return nil
}

func (o *operators) settledAt(s, first *api.Status, id draas.ServiceID) error {
	same := func(sv api.ServiceStatus) bool { return sv.ID == id }
	i, j := slices.IndexFunc(s.Services, same), slices.IndexFunc(first.Services, same)
	if i < 0 || j < 0 {
		return fmt.Errorf("%s does not know %s yet", s.Self, id)
	}
	sv := s.Services[i]
	if sv.Phase != failover.PhaseNormal && sv.Phase != failover.PhaseElsewhere {
		return fmt.Errorf("%s: %s is %s", s.Self, id, sv.Phase)
	}
	if f := first.Services[j]; sv.Epoch != f.Epoch || sv.Active != f.Active {
		return fmt.Errorf("%s: %s is active at %s under %d, %s says at %s under %d", s.Self, id, sv.Active, sv.Epoch, first.Self, f.Active, f.Epoch)
	}
	for _, r := range s.Reported {
		for _, f := range r.Fences {
			want := "closed"
			if sv.Active.Member() == r.Member {
				want = "open"
			}
			if f.Service == id && f.State != want {
				return fmt.Errorf("the fence of %s at %s is %s, not %s", id, r.Member, f.State, want)
			}
		}
	}
	return nil
}
