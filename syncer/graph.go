package syncer

import (
	"fmt"
	"slices"
)

// step is one write of an item's, and what has to be done before.
type step struct {
	it   *item
	op   op
	wait int     // steps that are not done yet
	hard []*step // which do not make sense without this one
	soft []*step // which only come after
	off  string  // why it is not to be done
	body bool
	late bool // not before all others that are not late
}

// smallBody is up to which size, in bytes, a body costs a service no more than any
// write: such an object waits for a worker alone, and not for one of the few
// streams, which leave both services idle between small ones.
const smallBody = 1 << 20

func small(c Content) bool { return c.Size >= 0 && c.Size <= smallBody }

type op uint8

const (
	opCreate op = iota
	opUpdate
	opSecond // weak refs that were left out by a Create
	opRemove // the first half of a Replace
	opAside  // gives the name up, for another that is taken next
	opDelete
)

func (a *step) before(b *step, hard bool) {
	if hard {
		a.hard = append(a.hard, b)
	} else {
		a.soft = append(a.soft, b)
	}
	b.wait++
}

// steps are all that the plan wants done.
func (r *run) steps() []*step {
	var all []*step
	first, last := make(map[*item]*step), make(map[*item]*step)
	aside := r.aside()
	created := make(map[Key]*step)
	add := func(it *item, o op) *step {
		st := &step{it: it, op: o, late: o == opDelete, body: (o == opCreate || o == opUpdate) && carries(it.kind.Traits, it.decision) && !small(it.source.Content)}
		all = append(all, st)
		if first[it] == nil {
			first[it] = st
		}
		last[it] = st
		return st
	}
	for _, it := range r.items {
		switch it.Verb {
		case Create:
			created[it.Key] = add(it, opCreate)
		case Update:
			if aside[it] {
				add(it, opAside).before(add(it, opUpdate), true)
				continue
			}
			add(it, opUpdate)
		case Replace:
			remove := add(it, opRemove)
			created[it.Key] = add(it, opCreate)
			remove.before(created[it.Key], true)
		case Delete:
			add(it, opDelete)
		}
	}
	for _, it := range r.items {
		st := last[it]
		if st == nil {
			continue
		}
		for _, key := range it.soon {
			if by := created[key]; by != nil && by != st {
				by.before(st, true)
			}
		}
		for _, other := range it.follows {
			by, then := last[other], first[it]
			if aside[other] {
				by = first[other]
			}
			if aside[it] {
				then = st
			}
			if by != nil && by != then {
				by.late = false
				by.before(then, false)
			}
		}
		for _, by := range it.needed {
			if by := first[by]; by != nil && by != first[it] {
				by.before(first[it], by.op == opDelete || by.op == opRemove)
			}
		}
		r.seconds(it, st, created, add)
	}
	return all
}

// aside are the items that give their names up before they take others: one of
// each circle of those that wait for each other's.
func (r *run) aside() map[*item]bool {
	out := make(map[*item]bool)
	seen := make(map[*item]int) // in which walk
	for walk, it := range r.items {
		var way []*item
		for it != nil && seen[it] == 0 && it.Verb.Acts() {
			seen[it] = walk + 1
			way = append(way, it)
			if len(it.follows) == 0 {
				it = nil
				break
			}
			it = it.follows[0] // there is no other: who has the name
		}
		at := slices.Index(way, it)
		if at < 0 {
			continue // it ends, or comes to where another walk was
		}
		circle := way[at:]
		i := slices.IndexFunc(circle, (*item).renames)
		if i < 0 {
			i = slices.IndexFunc(circle, func(it *item) bool { return it.Verb == Replace })
		}
		if i >= 0 {
			out[circle[i]] = true
		}
	}
	return out
}

// renames tells whether an update changes the name.
func (it *item) renames() bool {
	_, named := it.source.Fields["name"].(string)
	return named && it.Verb == Update && slices.Contains(it.decision.Fields, "name")
}

// seconds adds a step for the weak refs to what is created in this run too.
func (r *run) seconds(it *item, st *step, created map[Key]*step, add func(*item, op) *step) {
	if len(it.after) == 0 {
		return
	}
	second := st
	if st.op == opCreate {
		second = add(it, opSecond)
		st.before(second, true)
	}
	for _, key := range it.after {
		if by := created[key]; by != nil && by != st {
			by.before(second, false)
		}
	}
}

// carry does all steps along their needs: nothing waits for its whole kind.
func (r *run) carry() {
	all := r.steps()
	var ready, bodies, late []*step
	put := func(st *step) {
		switch {
		case st.late:
			late = append(late, st)
		case st.body:
			bodies = append(bodies, st)
		default:
			ready = append(ready, st)
		}
	}
	early := 0 // not late, and not done
	for _, st := range all {
		if !st.late {
			early++
		}
		if st.wait == 0 {
			put(st)
		}
	}
	finished := make(chan *step)
	running, streams, left := 0, 0, len(all)
	take := func(q *[]*step) *step {
		st := (*q)[0]
		*q = (*q)[1:]
		return st
	}
	for {
		for r.ctx.Err() == nil && running < r.e.Workers {
			var st *step
			switch {
			case len(bodies) > 0 && streams < r.e.Streams:
				st = take(&bodies)
				streams++
			case len(ready) > 0:
				st = take(&ready)
			case len(late) > 0 && early == 0:
				st = take(&late)
			}
			if st == nil {
				break
			}
			running++
			go func() { // waited for by finished
				r.do(st)
				finished <- st
			}()
		}
		if running == 0 {
			if len(late) > 0 && early > 0 && r.ctx.Err() == nil {
				early = 0 // the others wait for each other
				continue
			}
			break
		}
		st := <-finished
		running--
		left--
		if st.body {
			streams--
		}
		if !st.late {
			early--
		}
		release(st, put)
	}
	if left > 0 && r.ctx.Err() == nil {
		r.stuck(all)
	}
}

// release those that have waited for a step. A step that is off goes through
// the same way, so that each is told.
func release(st *step, put func(*step)) {
	for _, next := range st.hard {
		if st.off != "" && next.off == "" {
			next.off = "needs " + st.it.Key.String() + ", which was not done: " + st.off
			if next.it == st.it {
				next.off = st.off
			}
		}
		if next.wait--; next.wait == 0 {
			put(next)
		}
	}
	for _, next := range st.soft {
		if next.wait--; next.wait == 0 {
			put(next)
		}
	}
}

// stuck names what waits in a circle.
func (r *run) stuck(all []*step) {
	for _, st := range all {
		if st.wait > 0 && st.op != opSecond {
			r.fail(st.it, Blocked, fmt.Sprintf("waits in a circle with others: %d are before it", st.wait))
		}
	}
}
