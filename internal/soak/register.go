package soak

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// register is what is known of the replicated register of one service, the
// (epoch, site) that is active: its writes, which are the activations in the
// log, and its reads.
type register struct {
	mu    sync.Mutex
	log   map[uint64]activation
	seen  map[uint64]instant // when an epoch was first seen applied, by anybody
	reads []read
	wrong []string
}

// read is an operator's request, answered by the log: it was applied between
// Call and Return, and found this epoch in force. A request that must be
// refused is a read that no stale member can answer.
type read struct {
	Call, Return instant
	Epoch        uint64
}

func newRegister() *register {
	return &register{log: make(map[uint64]activation), seen: make(map[uint64]instant)}
}

// record takes an activation from a member's history, had at the instant.
// Records of any other kind pass.
func (r *register) record(rec failover.Record, had instant) (activation, bool) {
	if rec.Kind != failover.RecordPhase || rec.Phase != failover.PhaseRedirecting {
		return activation{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := activation{Epoch: uint64(rec.Epoch), Site: string(rec.By), Index: rec.Index, At: rec.At.UnixNano()}
	r.see(a.Epoch, had)
	before, known := r.log[a.Epoch]
	if !known {
		r.log[a.Epoch] = a
		return a, true
	}
	if before != a {
		r.complain("epoch %d was activated as %+v and as %+v", a.Epoch, before, a)
	}
	return a, false
}

// observe takes what a member's own state shows, had at the instant: it may be
// late, but not ahead of the log.
func (r *register) observe(epoch draas.Epoch, had instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.see(uint64(epoch), had)
}

func (r *register) see(epoch uint64, had instant) {
	for e := epoch; e > 0; e-- {
		if at, known := r.seen[e]; known && at <= had {
			return // and so were those before it
		}
		r.seen[e] = had
	}
}

func (r *register) asked(call, ret instant, epoch draas.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = append(r.reads, read{Call: call, Return: ret, Epoch: uint64(epoch)})
}

func (r *register) complain(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// activations are those known, in the order of their epochs.
func (r *register) activations() []activation {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.SortedFunc(maps.Values(r.log), func(a, b activation) int { return cmp.Compare(a.Epoch, b.Epoch) })
	for i := range out {
		out[i].Seen = r.seen[out[i].Epoch]
	}
	return out
}

// The operations on the register, for porcupine.
type (
	opActivate struct {
		Epoch uint64
		Site  string
	}
	opEpoch struct{ Epoch uint64 }
	opSite  struct{ Site string }
)

type value struct {
	Epoch uint64
	Site  string
}

// model: an activation takes the register from one epoch to the next; what is
// read is what the last one wrote.
var model = porcupine.Model{
	Init: func() any { return value{} },
	Step: func(state, in, _ any) (bool, any) {
		v := state.(value)
		switch op := in.(type) {
		case opActivate:
			return op.Epoch == v.Epoch+1, value(op)
		case opEpoch:
			return op.Epoch == v.Epoch, v
		case opSite:
			return op.Site == v.Site, v
		}
		return false, v
	},
	Equal: func(a, b any) bool { return a == b },
}

// operations puts activations, the log's answers and the ends of what users
// saw as one history of the register. Of reads of one epoch only the first and
// last few are taken: those between them say nothing more.
func operations(log []activation, reads []read, users *serving) []porcupine.Operation {
	const operators, usersClient = 1, 2 // clients of porcupine's drawings
	var ops []porcupine.Operation
	for _, a := range log {
		ret := a.Seen
		if ret == 0 {
			ret = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{Input: opActivate{a.Epoch, a.Site}, Call: a.At, Return: ret})
	}
	for _, r := range thin(reads) {
		ops = append(ops, porcupine.Operation{ClientId: operators, Input: opEpoch{r.Epoch}, Call: r.Call, Return: r.Return})
	}
	for _, epoch := range slices.Sorted(maps.Keys(users.spans)) {
		sp := users.spans[epoch]
		for _, a := range []answer{sp.First, sp.Last} {
			ops = append(ops, porcupine.Operation{ClientId: usersClient, Input: opSite{sites[a.Site]}, Call: a.Stamp, Return: a.Done})
		}
	}
	return ops
}

// keepReads is how many reads are kept at each end of a row of equal ones.
const keepReads = 3

func thin(reads []read) []read {
	byReturn := slices.SortedFunc(slices.Values(reads), func(a, b read) int { return cmp.Compare(a.Return, b.Return) })
	var out []read
	for from := 0; from < len(byReturn); {
		to := from
		for to < len(byReturn) && byReturn[to].Epoch == byReturn[from].Epoch {
			to++
		}
		row := byReturn[from:to]
		if len(row) > 2*keepReads {
			out = append(append(out, row[:keepReads]...), row[len(row)-keepReads:]...)
		} else {
			out = append(out, row...)
		}
		from = to
	}
	return out
}

var errUndecided = errors.New("porcupine did not decide in time")

// linearizable checks the history, and says of how many operations. Reads that
// returned after known are left out: what they read may be an activation that
// nobody was asked for any more.
func (r *register) linearizable(users *serving, known instant, limit time.Duration) (int, error) {
	log := r.activations()
	r.mu.Lock()
	reads, wrong := slices.Clone(r.reads), slices.Clone(r.wrong)
	r.mu.Unlock()
	reads = slices.DeleteFunc(reads, func(x read) bool { return x.Return > known })
	ops := operations(log, reads, users)
	switch porcupine.CheckOperationsTimeout(model, ops, limit) {
	case porcupine.Illegal:
		wrong = append(wrong, fmt.Sprintf("the register of %d operations is not linearizable: %s", len(ops), firstIllegal(ops)))
	case porcupine.Unknown:
		return len(ops), errUndecided
	case porcupine.Ok:
	}
	var errs []error
	for _, w := range wrong {
		errs = append(errs, errors.New(w))
	}
	return len(ops), errors.Join(errs...)
}

// firstIllegal tells the first operation without which the history would be
// one of a register so far: of those in the order of their returns, the
// shortest row that cannot be explained.
func firstIllegal(ops []porcupine.Operation) string {
	byReturn := slices.SortedFunc(slices.Values(ops), func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	n := sort.Search(len(byReturn), func(i int) bool { return !porcupine.CheckOperations(model, prefix(byReturn, i+1)) })
	if n >= len(byReturn) {
		return "all of it"
	}
	op := byReturn[n]
	return fmt.Sprintf("%T %+v between %s and %s", op.Input, op.Input, clock(op.Call), clock(op.Return))
}

// prefix is a history up to its n-th return: what was called and had not
// returned by then may have happened or not, so only activations of it stay,
// as unfinished.
func prefix(byReturn []porcupine.Operation, n int) []porcupine.Operation {
	out := slices.Clone(byReturn[:n])
	for _, op := range byReturn[n:] {
		if _, write := op.Input.(opActivate); write {
			op.Return = math.MaxInt64
			out = append(out, op)
		}
	}
	return out
}
