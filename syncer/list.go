package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// kind is what a survey knows of one.
type kind struct {
	Traits
	policy  Policy
	missing string // why a side has it not
	left    bool   // by a filter
	done    bool   // all of its objects were looked at

	// Of the listings: what could not be looked at, and when they were begun.
	unknown []string
	at      time.Time // by the source's clock
	began   time.Time // by ours
	// passed: objects whose change could not be told without an audit.
	passed bool

	objects, leftOut, others, records int
	verbs                             map[Verb]int
	bytes                             int64
}

func (k *kind) whole() bool { return k.done && len(k.unknown) == 0 }

// listed is a listing, by id.
type listed struct {
	Listing
	objects map[string]*Object
	order   []string // ids
	err     error
}

// list reads a whole listing. What came before an error counts: it is there.
func list(ctx context.Context, r Reader, k Kind, within Key) *listed {
	l := &listed{objects: make(map[string]*Object)}
	l.Listing, l.err = r.List(ctx, k, within, func(o Object) error {
		if o.Kind != k || o.ID == "" {
			return fmt.Errorf("the listing of %s has %q", k, o.Key)
		}
		// What comes twice was moved from page to page: the later is the newer.
		l.objects[o.ID] = &o
		return ctx.Err()
	})
	if l.err != nil {
		l.Complete = false
	}
	for id := range l.objects {
		l.order = append(l.order, id)
	}
	slices.Sort(l.order) // for the same plan each time
	return l
}

// pair is what both sides have of a kind, or of a kind within one holder.
type pair struct {
	source, target *listed
	began          time.Time
}

// listPair lists both sides at once. target may be nil: there is no holder yet.
func (s *survey) listPair(ctx context.Context, k *kind, source, target Key) *pair {
	p := &pair{began: s.e.Now(), target: &listed{Listing: Listing{Complete: true}}}
	var g errgroup.Group
	g.Go(func() error {
		p.source = list(ctx, s.e.Source, k.Kind, source)
		return nil
	})
	if k.Within == "" || target != (Key{}) {
		g.Go(func() error {
			p.target = list(ctx, s.e.Target, k.Kind, target)
			return nil
		})
	}
	_ = g.Wait() // none of them fails: errors stand in the listings
	return p
}

// note keeps what a pair says of the whole kind.
func (k *kind) note(p *pair, source, target, within string) {
	for _, side := range []struct {
		site string
		l    *listed
	}{{source, p.source}, {target, p.target}} {
		if side.l.Complete {
			continue
		}
		why := "the listing is not complete"
		if side.l.err != nil {
			why = side.l.err.Error()
		}
		if within != "" {
			why = "within " + within + ": " + why
		}
		k.unknown = append(k.unknown, "at "+side.site+": "+why)
	}
	// The watermark is that of the first listing of many.
	if k.began.IsZero() || p.began.Before(k.began) {
		k.began = p.began
	}
	if k.at.IsZero() || p.source.At.Before(k.at) {
		k.at = p.source.At
	}
}

// kinds asks both sides what they have, and what of it is wanted.
func (s *survey) kinds(ctx context.Context) error {
	var source, target []Offer
	var g errgroup.Group
	g.Go(func() (err error) {
		source, err = s.e.Source.Kinds(ctx)
		return wrapSide(s.source, "ask kinds of", err)
	})
	g.Go(func() (err error) {
		target, err = s.e.Target.Kinds(ctx)
		return wrapSide(s.target, "ask kinds of", err)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	at := make(map[Kind]Offer)
	for _, o := range target {
		at[o.Kind] = o
	}
	for _, o := range source {
		k := &kind{Traits: o.Traits, policy: s.e.Policy(o.Kind), verbs: make(map[Verb]int)}
		other, there := at[o.Kind]
		switch {
		case o.Missing != "":
			k.missing = s.source + ": " + o.Missing
		case !there:
			k.missing = s.target + ": not known there"
		case other.Missing != "":
			k.missing = s.target + ": " + other.Missing
		default:
			k.Traits = other.Traits
		}
		k.left = !s.e.Filter.kind(o.Kind) || !s.o.Filter.kind(o.Kind)
		if s.byKind[o.Kind] != nil {
			return fmt.Errorf("%s offers kind %s twice", s.source, o.Kind)
		}
		s.byKind[o.Kind] = k
		s.order = append(s.order, k)
	}
	return nil
}

func wrapSide(site, verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, site, err)
	}
	return nil
}

// listAll lists, some at a time, the kinds that nothing holds.
func (s *survey) listAll(ctx context.Context) map[Kind]*pair {
	pairs := make([]*pair, len(s.order))
	var g errgroup.Group
	g.SetLimit(s.e.Listings)
	for i, k := range s.order {
		if k.Within == "" && s.looks(k) {
			g.Go(func() error {
				pairs[i] = s.listPair(ctx, k, Key{}, Key{})
				return nil
			})
		}
	}
	_ = g.Wait()
	out := make(map[Kind]*pair)
	for i, k := range s.order {
		if pairs[i] != nil {
			out[k.Kind] = pairs[i]
		}
	}
	return out
}

// read gives the whole of rows that came without fields, some at a time.
func (s *survey) read(ctx context.Context, rows []*row) {
	var g errgroup.Group
	g.SetLimit(s.e.Workers)
	for _, r := range rows {
		if r.readSource {
			g.Go(func() error {
				o, err := whole(ctx, s.e.Source, *r.source)
				r.sourceErr = err
				if err == nil {
					r.sourceRead = &o
				}
				return nil
			})
		}
		if have := r.target; r.readTarget || r.readOther {
			if r.readOther {
				have = r.other
			}
			g.Go(func() error {
				o, err := whole(ctx, s.e.Target, *have)
				r.targetErr = err
				if err == nil {
					r.targetRead = &o
				}
				return nil
			})
		}
	}
	_ = g.Wait()
	for _, r := range rows {
		r.settle()
	}
}

// whole is an object with its fields, as it was listed where that can be.
func whole(ctx context.Context, r Reader, o Object) (Object, error) {
	if o.Whole != nil {
		return o.Whole()
	}
	return r.Read(ctx, o)
}

// settle takes what was read.
func (r *row) settle() {
	if r.sourceRead != nil {
		r.source, r.sourceRead = r.sourceRead, nil
		r.p.source.objects[r.source.ID] = r.source
	}
	have := r.target
	if r.readOther {
		have = r.other
	}
	if r.targetRead != nil {
		r.p.target.objects[have.ID] = r.targetRead
		if r.target != nil {
			r.target = r.targetRead
		}
	}
	if errors.Is(r.targetErr, ErrGone) {
		delete(r.p.target.objects, have.ID)
		r.target, r.targetErr = nil, nil
	}
	r.readSource, r.readTarget, r.readOther, r.targetRead = false, false, false, nil
	if errors.Is(r.sourceErr, ErrGone) {
		// It was there a moment ago: the next listing knows.
		r.sourceErr = errors.New("gone since it was listed")
	}
}
