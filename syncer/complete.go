package syncer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Verification is a complete comparison of both sides, whatever the records say
// of what was written.
type Verification struct {
	Source     string       `json:"source"` // sites
	Target     string       `json:"target"`
	At         time.Time    `json:"at"`
	Kinds      []KindVerify `json:"kinds,omitempty"`
	Mismatches []Mismatch   `json:"mismatches,omitempty"`
}

// KindVerify counts what was compared of a kind.
type KindVerify struct {
	Kind    Kind     `json:"kind"`
	Missing string   `json:"missing,omitempty"` // why a side does not have it
	Unknown []string `json:"unknown,omitempty"`
	Objects int      `json:"objects"`
	Alike   int      `json:"alike"`
	Differ  int      `json:"differ"`
	Absent  int      `json:"absent"`
	Extra   int      `json:"extra"`  // ours, of what the source does not have
	Others  int      `json:"others"` // not ours
	// Unsummed contents were compared by their size alone.
	Unsummed int `json:"unsummed,omitempty"`
	// BodyBytes were read at each side to be compared.
	BodyBytes int64 `json:"body_bytes,omitempty"`
}

// Mismatch is an object that is not at the target as it is at the source.
type Mismatch struct {
	Key    Key           `json:"key"`
	Name   string        `json:"name,omitempty"`
	Target string        `json:"target,omitempty"`
	Reason string        `json:"reason"`
	Fields []FieldChange `json:"fields,omitempty"`
}

// Outcome of a verification.
func (v *Verification) Outcome() Outcome {
	for _, k := range v.Kinds {
		if len(k.Unknown) > 0 {
			return Failed
		}
	}
	if len(v.Mismatches) > 0 {
		return Differs
	}
	return Clean
}

// VerifyOptions are those of one verification.
type VerifyOptions struct {
	Filter Filter
	// Bodies are read at both sides where their sums cannot be compared.
	Bodies bool
}

// verifier gathers what a survey compares.
type verifier struct {
	e      *Engine
	kinds  map[*kind]*KindVerify
	rows   map[Key]*compared
	bodies bool
}

type compared struct {
	k      *kind
	row    Mismatch
	absent bool
	extra  bool
	// The bodies, where only reading them can tell.
	source, target *Object
}

// Verify reads everything at both sides and compares it. It changes nothing.
func (e *Engine) Verify(ctx context.Context, o VerifyOptions) (*Verification, error) {
	meta, err := e.Store.Meta()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verifier{e: e, kinds: make(map[*kind]*KindVerify), rows: make(map[Key]*compared), bodies: o.Bodies}
	s, err := e.surveyWith(ctx, Options{Filter: o.Filter, Audit: true, Epoch: meta.Epoch}, v.look)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	for _, k := range s.order {
		v.kinds[k] = &KindVerify{Kind: k.Kind, Missing: k.missing, Unknown: firstOf(k.unknown), Objects: k.objects, Others: k.others}
	}
	if err := v.readBodies(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	out := &Verification{Source: s.source, Target: s.target, At: s.now}
	for _, it := range s.items { // what could not be compared
		c := &compared{k: it.kind, row: Mismatch{Key: it.Key, Name: it.Name, Target: it.Target, Reason: it.Reason}}
		v.rows[it.Key] = c
	}
	for _, key := range slices.SortedFunc(maps.Keys(v.rows), compareKeys) {
		c := v.rows[key]
		k := v.kinds[c.k]
		switch {
		case c.row.Reason == "":
			k.Alike++
			continue
		case c.absent:
			k.Absent++
		case c.extra:
			k.Extra++
		default:
			k.Differ++
		}
		out.Mismatches = append(out.Mismatches, c.row)
	}
	for _, k := range s.order {
		if !k.left {
			out.Kinds = append(out.Kinds, *v.kinds[k])
		}
	}
	return out, nil
}

// look compares a row.
func (v *verifier) look(r *row) {
	c := &compared{k: r.k, row: Mismatch{Key: r.key}}
	v.rows[r.key] = c
	if r.target == nil && r.same == 1 {
		r.target = r.other // as it would be adopted
	}
	if r.target != nil {
		c.row.Target = r.target.ID
	}
	if r.source == nil {
		c.row.Name = r.record.Name
		if c.extra = r.target != nil; c.extra {
			c.row.Reason = "the source does not have it"
		}
		return
	}
	c.row.Name = r.source.Name
	switch {
	case r.source.Unsupported != "":
		c.row.Reason = "cannot be carried: " + r.source.Unsupported
	case r.target == nil && !r.p.target.Complete:
		c.row.Reason = unseenAtTarget
	case r.target == nil:
		c.row.Reason, c.absent = "the target does not have it", true
	case r.source.Stance == Given:
	default:
		v.compare(c, r)
	}
}

func (v *verifier) compare(c *compared, r *row) {
	names := Diff(r.want.Fields, r.target.Fields)
	if r.k.Body {
		a, b := r.source.Content, r.target.Content
		switch {
		case summed(a, b) && a.Sum == b.Sum:
		case summed(a, b), a.Size >= 0 && b.Size >= 0 && a.Size != b.Size:
			names = append([]string{""}, names...)
		default:
			c.source, c.target = r.source, r.target
		}
	}
	if len(names) > 0 {
		c.row.Reason = "it differs"
		c.row.Fields = showFields(Decision{Verb: Update, Fields: names, Have: r.target}, *r.source, r.want)
	}
}

// readBodies compares those of which no sum tells.
func (v *verifier) readBodies(ctx context.Context) error {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(v.e.Streams)
	for _, c := range v.rows {
		if c.source == nil {
			continue
		}
		k := v.kinds[c.k]
		if !v.bodies {
			k.Unsummed++
			continue
		}
		g.Go(func() error {
			n, why := v.sameBodies(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			k.BodyBytes += n
			if why != "" {
				c.row.Reason = why
			}
			return nil
		})
	}
	_ = g.Wait()
	return ctx.Err()
}

func (v *verifier) sameBodies(ctx context.Context, c *compared) (int64, string) {
	var sums [2]string
	var sizes [2]int64
	var g errgroup.Group
	for i, side := range []struct {
		r Reader
		o *Object
	}{{v.e.Source, c.source}, {v.e.Target, c.target}} {
		g.Go(func() error {
			body, err := side.r.Open(ctx, *side.o, 0)
			if err != nil {
				return fmt.Errorf("read content at %s: %w", side.r.Site(), err)
			}
			h := sha256.New()
			sizes[i], err = io.Copy(h, body)
			sums[i] = hex.EncodeToString(h.Sum(nil))
			if err = errors.Join(err, body.Close()); err != nil {
				return fmt.Errorf("read content at %s: %w", side.r.Site(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err.Error()
	}
	if sums[0] != sums[1] {
		return sizes[0], fmt.Sprintf("the content differs: %d and %d bytes", sizes[0], sizes[1])
	}
	return sizes[0], ""
}

// Adoption names an object of the target's that is to stand for one of the
// source's, by id or by a name that only one has.
type Adoption struct {
	Kind   Kind
	Source string
	Target string
	// Within is what holds the source's, for kinds that are held.
	Within Key
	// Keep what the target has until the source's changes. Else the next run
	// makes it alike.
	Keep bool
}

// Adopt takes an object of the target's into the records as one that was not
// created here: it is kept alike from now on, and never deleted.
func (e *Engine) Adopt(ctx context.Context, a Adoption) (Record, error) {
	rec, err := e.adopt(ctx, a)
	if err != nil {
		return rec, fmt.Errorf("adopt %s %s: %w", a.Kind, a.Target, err)
	}
	return rec, nil
}

func (e *Engine) adopt(ctx context.Context, a Adoption) (Record, error) {
	to := func(k Key) (Key, bool) {
		r, ok, err := e.Store.Record(k)
		return Key{k.Kind, r.Target}, ok && err == nil && r.Target != ""
	}
	within, ok := Key{}, true
	if a.Within != (Key{}) {
		if within, ok = to(a.Within); !ok {
			return Record{}, fmt.Errorf("nothing stands for %s", a.Within)
		}
	}
	source, err := pick(ctx, e.Source, a.Kind, a.Within, a.Source)
	if err != nil {
		return Record{}, err
	}
	target, err := pick(ctx, e.Target, a.Kind, within, a.Target)
	if err != nil {
		return Record{}, err
	}
	w := Translate(&source, to)
	if len(w.Needs) > 0 {
		return Record{}, fmt.Errorf("it needs %s, for which nothing stands", listKeys(w.Needs))
	}
	err = e.Store.Each(a.Kind, func(r Record) error {
		if r.Target == target.ID && r.Key != source.Key {
			return fmt.Errorf("%s stands for %s already", target.ID, r.Key)
		}
		return nil
	})
	if err != nil {
		return Record{}, err
	}
	old, _, err := e.Store.Record(source.Key)
	if err != nil {
		return Record{}, err
	}
	rec := Record{
		Key: source.Key, Within: source.Within, Target: target.ID, Name: source.Name,
		Created:    old.Created && old.Target == target.ID,
		TargetHash: Hash(target.Fields, target.Content), TargetRevision: target.Revision,
		Needs: source.Refs(), Natural: NaturalKey(a.Kind, w.Natural), Applied: e.Now(), Landed: target.Content,
	}
	if a.Keep {
		rec.SourceHash, rec.SourceRevision = Hash(w.Fields, source.Content), source.Revision
		rec.Content, rec.Bound = source.Content, bound(rec.Needs, to)
	}
	return rec, e.Store.Put(rec)
}

// pick finds one object by id or by a name that only one has, and reads it.
func pick(ctx context.Context, r Reader, k Kind, within Key, which string) (Object, error) {
	l := list(ctx, r, k, within)
	if l.err != nil {
		return Object{}, fmt.Errorf("list at %s: %w", r.Site(), l.err)
	}
	found, n := l.objects[which], 1
	if found == nil {
		n = 0
		for _, id := range l.order {
			if o := l.objects[id]; o.Name == which {
				found = o
				n++
			}
		}
	}
	if n != 1 {
		return Object{}, fmt.Errorf("%d objects at %s are called %q", n, r.Site(), which)
	}
	o, err := r.Read(ctx, *found)
	if err != nil {
		return o, fmt.Errorf("read %s at %s: %w", found.ID, r.Site(), err)
	}
	return o, nil
}

// Map gives what stands for what, by the records, kind by kind. A run may go on
// meanwhile.
func (s *Store) Map(each func(Record) error) error {
	kinds, err := s.Kinds()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if err := s.Each(k, each); err != nil {
			return err
		}
	}
	return nil
}
