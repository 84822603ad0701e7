package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Result is what a run has done.
type Result struct {
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
	Kinds []KindResult  `json:"kinds,omitempty"`
	// Failures are what was not done that the plan said, each with its reason.
	Failures []Failure `json:"failures,omitempty"`
	// Requests to either side, where they count them.
	SourceRequests int64 `json:"source_requests,omitempty"`
	TargetRequests int64 `json:"target_requests,omitempty"`
	// Plan that was carried out.
	Plan *Plan `json:"plan,omitempty"`
}

// KindResult is what a run has done about a kind.
type KindResult struct {
	Kind   Kind         `json:"kind"`
	Done   map[Verb]int `json:"done,omitempty"`
	Failed int          `json:"failed,omitempty"`
	Bytes  int64        `json:"bytes,omitempty"`
}

// Failure is one object that is not as planned. Its verb is what was to be done,
// or what turned out to be.
type Failure struct {
	Key    Key    `json:"key"`
	Name   string `json:"name,omitempty"`
	Verb   Verb   `json:"verb"`
	Reason string `json:"reason"`
}

// Outcome of a run, from the best to the worst.
type Outcome int

// The outcomes, with the exit codes of draasd sync.
const (
	Clean   Outcome = 0
	Failed  Outcome = 1 // objects failed, are blocked, or were not seen
	Differs Outcome = 3 // drift or conflict
)

// recordSpace is how much a record may need in the store, in bytes.
const recordSpace = 2 << 10

// Outcome sums a run up. What failed is worse than what differs.
func (r *Result) Outcome() Outcome {
	differs := false
	for _, f := range r.Failures {
		if f.Verb != Conflict && f.Verb != Drift {
			return Failed
		}
		differs = true
	}
	if o := r.Plan.Outcome(); o != Clean || !differs {
		return o
	}
	return Differs
}

// Outcome of a plan, as far as it is not of what would be done.
func (p *Plan) Outcome() Outcome {
	failed := p.Count(Blocked) > 0
	for _, k := range p.Kinds {
		failed = failed || len(k.Unknown) > 0
	}
	switch {
	case failed:
		return Failed
	case p.Count(Drift)+p.Count(Conflict) > 0:
		return Differs
	}
	return Clean
}

// run is a plan that is carried out.
type run struct {
	*survey
	ctx    context.Context // ends with the first error that ends the run
	cancel context.CancelCauseFunc
	result *Result
	began  time.Time

	mu       sync.Mutex
	kinds    map[*kind]*tally
	report   reporter
	failures []Failure
	broken   error // what ended the run
}

// tally of a kind while it runs.
type tally struct {
	KindResult
	toDo    int
	toCarry int64
	moved   int64 // bytes read from the source
	held    bool  // something of it is not at the target yet
	pending int
	bytes   int64
}

// Run looks at both sides and does what is to be done. The error says what kept
// it from going on, as [ErrHeld], [ErrStale], a Gate's or the store's; objects
// that failed stand in the result. After an error the result, if there is one,
// is what was done until then.
func (e *Engine) Run(ctx context.Context, o Options) (*Result, error) {
	began := e.Now()
	before := e.requests()
	s, err := e.survey(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	p := s.plan()
	res := &Result{Began: began, Plan: p}
	r := &run{survey: s, result: res, began: began, kinds: make(map[*kind]*tally)}
	err = r.apply(ctx, p)
	after := e.requests()
	res.SourceRequests, res.TargetRequests = after[0]-before[0], after[1]-before[1]
	res.Took = e.Now().Sub(began)
	if err != nil {
		return res, fmt.Errorf("run: %w", err)
	}
	return res, nil
}

// requests that both sides count, if they do.
func (e *Engine) requests() [2]int64 {
	var n [2]int64
	for i, side := range []any{e.Source, e.Target} {
		if c, ok := side.(interface{ Requests() int64 }); ok {
			n[i] = c.Requests()
		}
	}
	return n
}

func (r *run) apply(ctx context.Context, p *Plan) error {
	if p.Held != "" {
		return fmt.Errorf("%w: %s", ErrHeld, p.Held)
	}
	if err := r.allow(); err != nil {
		return err
	}
	if err := r.prepare(p); err != nil {
		return err
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.report.start(r, r.o.Progress)
	r.carry()
	r.report.stop(r)
	slices.SortFunc(r.failures, func(a, b Failure) int { return compareKeys(a.Key, b.Key) })
	r.result.Failures, p.Lost = r.failures, r.losses()
	for _, k := range r.order {
		if t := r.kinds[k]; t != nil && (len(t.Done) > 0 || t.Failed > 0) {
			r.result.Kinds = append(r.result.Kinds, t.KindResult)
		}
	}
	err := r.broken
	if err == nil {
		err = ctx.Err()
	}
	return errors.Join(err, r.setStatus(err == nil))
}

// prepare makes durable what was seen, and makes sure that what is done can be
// written down, before anything is done.
func (r *run) prepare(p *Plan) error {
	if acts := p.Acts(); acts > 0 {
		if err := r.e.Store.Reserve(min(64<<10+acts*recordSpace, 32<<20)); err != nil {
			return fmt.Errorf("nothing was done: %w", err)
		}
	}
	m := r.meta
	m.Source, m.Target, m.Epoch, m.Ran = r.source, r.target, r.o.Epoch, r.began
	if err := r.e.Store.SetMeta(m); err != nil {
		return fmt.Errorf("nothing was done: %w", err)
	}
	r.meta = m
	for _, k := range r.order {
		r.kinds[k] = &tally{KindResult: KindResult{Kind: k.Kind, Done: make(map[Verb]int)}}
	}
	var put []Record
	var remove []Key
	gone := make(map[Key]bool)
	for _, it := range r.items {
		switch it.Verb {
		case Forget:
			remove, gone[it.Key] = append(remove, it.Key), true
		case Adopt:
			rec := r.written(it, r.wantOf(it), *it.decision.Have)
			rec.Created = it.decision.Created
			delete(r.refresh, it.Key)
			put = append(put, rec)
		}
		r.tallyOf(it)
	}
	for key, rec := range r.refresh {
		if !gone[key] {
			put = append(put, rec)
		}
	}
	slices.SortFunc(put, func(a, b Record) int { return compareKeys(a.Key, b.Key) })
	const most = 1000 // in one transaction
	for len(put) > 0 {
		n := min(most, len(put))
		if err := r.e.Store.Write(put[:n], nil); err != nil {
			return fmt.Errorf("nothing was done: %w", err)
		}
		put = put[n:]
	}
	if err := r.e.Store.Write(nil, remove); err != nil {
		return fmt.Errorf("nothing was done: %w", err)
	}
	return r.setStatus(false) // what is to be done counts as lag from now on
}

// tallyOf counts what is to be done, and what keeps the watermark.
func (r *run) tallyOf(it *item) {
	t := r.kinds[it.kind]
	switch {
	case it.Verb.Acts():
		t.toDo++
		t.toCarry += it.Bytes
		t.pending++
		t.bytes += it.Bytes
	case it.Verb == Adopt || it.Verb == Forget:
		t.Done[it.Verb]++
	case it.Verb == Blocked && it.source.Stance == Outside:
		// It is not to be carried: what needs it is blocked as well.
	case it.Verb == Blocked, it.Verb == Held && it.source.ID != "":
		t.held = true
		t.pending++
		t.bytes += max(0, it.source.Content.Size)
	}
}

// allow asks the gate.
func (e *Engine) allow() error {
	if e.Gate == nil {
		return nil
	}
	if err := e.Gate.Allow(); err != nil {
		return fmt.Errorf("may not write: %w", err)
	}
	return nil
}

func (r *run) allow() error { return r.e.allow() }

// end ends the run: nothing new is begun.
func (r *run) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = err
	}
	r.cancel(err)
}

// fail notes what was not done.
func (r *run) fail(it *item, v Verb, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.kinds[it.kind]
	t.Failed++
	if v != Conflict && v != Drift && v != Unsupported {
		t.held = true
	} else {
		t.pending--
		t.bytes -= it.Bytes
	}
	r.failures = append(r.failures, Failure{Key: it.Key, Name: it.Name, Verb: v, Reason: reason})
}

// done notes what was.
func (r *run) done(it *item, v Verb) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.kinds[it.kind]
	t.Done[v]++
	t.pending--
	t.bytes -= it.Bytes
}

// setStatus writes how far each kind is now. whole: the run has ended.
func (r *run) setStatus(whole bool) error {
	old, err := r.e.Store.Status()
	if err != nil {
		return err
	}
	var all []KindStatus
	partial := r.o.Filter.narrows()
	for _, k := range r.order {
		if k.left || k.missing == "" && partial {
			continue
		}
		st, _ := old.Of(k.Kind)
		st.Missing = k.missing
		if k.missing == "" {
			t := r.kinds[k]
			st.Looked, st.Objects, st.Verbs = k.began, k.objects, k.verbs
			st.Pending, st.PendingBytes, st.Failed, st.Error = t.pending, t.bytes, t.Failed, ""
			if len(k.unknown) > 0 {
				st.Error = k.unknown[0]
			}
			if whole && k.whole() && !t.held && !k.passed {
				st.Through, st.SourceThrough = k.began, k.at
				if r.o.Audit {
					st.Audited = k.began
				}
			}
		}
		all = append(all, st)
	}
	var forget []Kind // what is not carried any more has no lag
	for _, st := range old.Kinds {
		if r.byKind[st.Kind] == nil || !r.e.Filter.kind(st.Kind) {
			forget = append(forget, st.Kind)
		}
	}
	if err := r.e.Store.SetStatus(all, forget); err != nil {
		return err
	}
	if whole && !r.meta.Whole && !partial && len(r.o.Filter.Kinds)+len(r.o.Filter.Without) == 0 {
		r.meta.Whole = true
		return r.e.Store.SetMeta(r.meta)
	}
	return nil
}
