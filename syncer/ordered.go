package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A holder may have a million objects. Where both sides list them in one order,
// they are looked at window by window, as they come: what is held is what is
// done about them, and not what there is. What a listing does not have is only
// told when all of it was seen, so the objects that records have and the source
// has not are kept until then.

// Sizes of a window, and of what is read ahead of it, in objects.
const (
	windowSize = 2000
	feedChunk  = 500
)

// feed is a listing that is read as it is needed.
type feed struct {
	holder string // its id: what is behind it in an id is what the order is by
	chunks chan []*Object
	next   []*Object
	last   string

	listing Listing // when the chunks have ended
	err     error
}

// feed lists in the background until it ends, or ctx does.
func (s *survey) feed(ctx context.Context, wg *sync.WaitGroup, r Reader, k Kind, holder Key) *feed {
	f := &feed{holder: holder.ID, chunks: make(chan []*Object, 1)}
	if holder == (Key{}) { // there is none yet
		f.listing.Complete = true
		close(f.chunks)
		return f
	}
	wg.Go(func() {
		defer close(f.chunks)
		var chunk []*Object
		send := func() error {
			select {
			case f.chunks <- chunk:
				chunk = nil
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		f.listing, f.err = r.List(ctx, k, holder, func(o Object) error {
			if o.Kind != k || o.ID == "" {
				return fmt.Errorf("the listing of %s has %q", k, o.Key)
			}
			place := f.place(o.ID)
			switch {
			case place == f.last && f.last != "":
				return nil // it came twice
			case place < f.last:
				return fmt.Errorf("the listing of %s is out of order at %q", k, o.ID)
			}
			f.last = place
			if chunk = append(chunk, &o); len(chunk) == feedChunk {
				return send()
			}
			return nil
		})
		if f.err == nil {
			f.err = send()
		} else if len(chunk) > 0 {
			_ = send() // what came before an error counts: it is there
		}
		if f.err != nil {
			f.listing.Complete = false
		}
	})
	return f
}

// place of an object in the order.
func (f *feed) place(id string) string { return strings.TrimPrefix(id, f.holder) }

// peek at the next object; nil: there is none.
func (f *feed) peek() *Object {
	for len(f.next) == 0 {
		chunk, more := <-f.chunks
		if !more {
			return nil
		}
		f.next = chunk
	}
	return f.next[0]
}

// take it.
func (f *feed) take(l *listed) {
	o := f.next[0]
	f.next = f.next[1:]
	l.objects[o.ID] = o
	l.order = append(l.order, o.ID)
}

// feeds are those of a holder.
type feeds struct {
	source, target *feed
	began          time.Time
}

// ordered tells whether a holder's objects can be looked at window by window.
// What stands under another name, by the operator's word or a policy, is found
// by the whole listing only; so is what only the target has after a turn.
func (s *survey) ordered(k *kind, h holder) bool {
	return k.Ordered && s.e.Window > 0 && !h.gone && !k.policy.Rename && s.looked == nil && !s.afterTurn() &&
		!slices.ContainsFunc(s.e.Map, func(m Mapping) bool { return m.Kind == k.Kind })
}

// rest is what the windows have left for the end.
type rest struct {
	records map[string]*Record // of what the source did not show
	targets map[string]*Object // and what stands for it
	only    []*Object          // at the target, where that counts
	odd     map[string]bool    // ids at the target that stand for another name
}

// lookOrdered looks at what a holder has.
func (s *survey) lookOrdered(ctx context.Context, k *kind, h holder, f *feeds) error {
	left := rest{records: make(map[string]*Record), targets: make(map[string]*Object), odd: make(map[string]bool)}
	for after, more := "", true; more; {
		p := &pair{source: newListed(), target: newListed(), began: f.began}
		bound := window(f, p, s.e.Window)
		// What is absent between two that are there is absent. Whether all of the
		// listing came is looked at behind it.
		p.target.Complete = true
		more = f.source.peek() != nil || f.target.peek() != nil
		to := h.source.ID + bound
		if !more {
			to = ""
		}
		records, err := s.between(ctx, k, h, p, after, to, &left)
		if err != nil {
			return err
		}
		b, err := s.look(ctx, k, p, records)
		if err != nil {
			return err
		}
		s.keepRest(k, b, &left)
		after = to
	}
	return s.lookRest(ctx, k, h, f, left)
}

func newListed() *listed { return &listed{objects: make(map[string]*Object)} }

// window takes the next objects of both sides, and gives the place of the last.
func window(f *feeds, p *pair, size int) (bound string) {
	for range size {
		a, b := f.source.peek(), f.target.peek()
		switch {
		case a == nil && b == nil:
			return bound
		case b == nil || a != nil && f.source.place(a.ID) <= f.target.place(b.ID):
			bound = f.source.place(a.ID)
			f.source.take(p.source)
			if b != nil && f.target.place(b.ID) == bound {
				f.target.take(p.target)
			}
		default:
			bound = f.target.place(b.ID)
			f.target.take(p.target)
		}
	}
	return bound
}

// between are the records of a window. What one of them says stands under
// another name is asked for by itself.
func (s *survey) between(ctx context.Context, k *kind, h holder, p *pair, after, to string, left *rest) (map[string]*Record, error) {
	records := make(map[string]*Record)
	err := s.e.Store.EachBetween(k.Kind, h.source.ID, after, to, func(r Record) error {
		records[r.Key.ID] = &r
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Target == "" || p.target.objects[r.Target] != nil || strings.TrimPrefix(r.Target, h.target.ID) == strings.TrimPrefix(r.Key.ID, h.source.ID) {
			continue
		}
		left.odd[r.Target] = true
		o, err := s.e.Target.Read(ctx, Object{Key: Key{k.Kind, r.Target}, Within: h.target})
		switch {
		case err == nil:
			p.target.objects[o.ID] = &o
			p.target.order = append(p.target.order, o.ID)
		case !errors.Is(err, ErrGone):
			return nil, wrapSide(s.target, "read "+r.Target+" of", err)
		}
	}
	return records, nil
}

// keepRest keeps what can only be decided when both listings have ended.
func (s *survey) keepRest(k *kind, b *batch, left *rest) {
	gone, naturals := make(map[string]bool), make(map[string]bool)
	for id, r := range b.records {
		if b.source.objects[id] != nil {
			continue
		}
		left.records[id] = r
		k.records-- // counted at the end
		if r.Target != "" {
			gone[r.Target] = true
		} else if r.Natural != "" {
			naturals[r.Natural] = true
		}
	}
	for _, id := range b.target.order {
		o := b.target.objects[id]
		if o == nil || b.taken[id] {
			continue
		}
		switch {
		case gone[id], len(naturals) > 0 && naturals[NaturalKey(o.Kind, o.Natural)]:
			left.targets[id] = o
		case s.mayTurn():
			left.only = append(left.only, o)
		default:
			continue
		}
		k.others-- // counted at the end
	}
}

// lookRest decides about what the source does not have any more, now that the
// listings tell whether they were whole.
func (s *survey) lookRest(ctx context.Context, k *kind, h holder, f *feeds, left rest) error {
	p := &pair{source: newListed(), target: newListed(), began: f.began}
	p.source.Listing, p.source.err = f.source.listing, f.source.err
	p.target.Listing, p.target.err = f.target.listing, f.target.err
	for _, o := range left.only {
		if !left.odd[o.ID] {
			left.targets[o.ID] = o
		}
	}
	for id, o := range left.targets {
		p.target.objects[id] = o
		p.target.order = append(p.target.order, id)
	}
	slices.Sort(p.target.order)
	k.note(p, s.source, s.target, h.source.ID)
	if !p.target.Complete {
		s.unsee(k, h)
	}
	_, err := s.look(ctx, k, p, left.records)
	return err
}

// unsee takes back what was concluded from not having seen an object at the
// target, whose listing was not whole.
func (s *survey) unsee(k *kind, h holder) {
	for _, it := range s.items {
		seen := it.record != nil && it.decision.Have != nil && it.decision.Have.ID == it.record.Target
		if it.kind != k || it.source.Within != h.source || seen || it.Verb == Unsupported {
			continue
		}
		if it.Verb == Adopt || it.Verb == Update {
			k.others++ // what it would have taken over
		}
		s.hold(it, Blocked, unseenAtTarget)
		it.Target, it.Fields = "", nil
	}
	for _, rows := range s.waiting {
		for _, r := range rows {
			if r.k == k && r.source != nil && r.source.Within == h.source {
				r.p.target.Complete = false
			}
		}
	}
}
