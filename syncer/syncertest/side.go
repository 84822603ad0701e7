// Package syncertest has a side that stands in memory, with faults, and the
// suite that every [syncer.Writer] has to pass.
package syncertest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/draasd/draas/syncer"
)

// Spec is a kind of a [Side].
type Spec struct {
	syncer.Traits
	// Natural of an object; nil: it has none.
	Natural func(syncer.Object) []any
	// KeepsID: Create takes the id that it is given.
	KeepsID bool
	// Brief listings have no fields.
	Brief bool
	// Blind listings have no revisions.
	Blind bool
	// Absent says why the side does not have the kind.
	Absent string
}

// Call is a call of a side's method.
type Call struct {
	Op  string // kinds, list, read, open, find, create, update, delete
	Key syncer.Key
	N   int // of the side's calls, from 1
}

// Writes tells whether it changes the side.
func (c Call) Writes() bool { return c.Op == "create" || c.Op == "update" || c.Op == "delete" }

// Fault is what a call meets.
type Fault struct {
	// Err is returned, and nothing is done.
	Err error
	// Lose: it is done, and the answer lost.
	Lose bool
	// Cut ends a body that is read, after so many bytes, with an error; of an
	// open call.
	Cut int64
	// Partial ends a listing in the middle, with no error.
	Partial bool
	// Repeat gives each row of a listing twice.
	Repeat bool
	// Half does the first half of an update's fields, and then loses the answer.
	Half bool
}

// Side is a cloud in memory. Its fields are set before it is used.
type Side struct {
	Name  string
	Specs []Spec
	// Fault decides what each call meets. It is called without a lock, and may
	// change the side.
	Fault func(Call) Fault
	// Clock of the service.
	Clock func() time.Time

	mu      sync.Mutex
	objects map[syncer.Key]*held
	serial  int
	calls   int
	ops     map[string]int
}

type held struct {
	syncer.Object
	body []byte
}

// NewSide makes an empty one.
func NewSide(name string, specs ...Spec) *Side {
	return &Side{Name: name, Specs: specs, Clock: time.Now, objects: make(map[syncer.Key]*held), ops: make(map[string]int)}
}

func (s *Side) spec(k syncer.Kind) (Spec, error) {
	for _, spec := range s.Specs {
		if spec.Kind == k && spec.Absent == "" {
			return spec, nil
		}
	}
	return Spec{}, fmt.Errorf("%s has no kind %s", s.Name, k)
}

func (s *Side) call(ctx context.Context, op string, k syncer.Key) (Fault, error) {
	s.mu.Lock()
	s.calls++
	s.ops[op]++
	c := Call{Op: op, Key: k, N: s.calls}
	s.mu.Unlock()
	var f Fault
	if s.Fault != nil {
		f = s.Fault(c)
	}
	if f.Err != nil {
		return f, f.Err
	}
	return f, ctx.Err()
}

// Requests counts the calls until now.
func (s *Side) Requests() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.calls)
}

// Ops counts the calls of each method until now.
func (s *Side) Ops() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.ops)
}

// Site is the name.
func (s *Side) Site() string { return s.Name }

// Kinds gives the specs, in their order.
func (s *Side) Kinds(ctx context.Context) ([]syncer.Offer, error) {
	if _, err := s.call(ctx, "kinds", syncer.Key{}); err != nil {
		return nil, err
	}
	var out []syncer.Offer
	for _, spec := range s.Specs {
		out = append(out, syncer.Offer{Traits: spec.Traits, Missing: spec.Absent})
	}
	return out, nil
}

// List gives objects in the order of their ids.
func (s *Side) List(ctx context.Context, k syncer.Kind, within syncer.Key, each func(syncer.Object) error) (syncer.Listing, error) {
	l := syncer.Listing{At: s.Clock().Truncate(time.Second)}
	f, err := s.call(ctx, "list", syncer.Key{Kind: k, ID: within.ID})
	if err != nil {
		return l, err
	}
	spec, err := s.spec(k)
	if err != nil {
		return l, err
	}
	rows := s.All(k)
	rows = slices.DeleteFunc(rows, func(o syncer.Object) bool { return o.Within != within })
	if spec.Within != "" && within == (syncer.Key{}) {
		return l, fmt.Errorf("list %s: within what?", k)
	}
	for i, o := range rows {
		if f.Partial && i >= len(rows)/2 {
			return l, nil
		}
		if spec.Brief {
			o.Fields, o.Content, o.Lost, o.Unsupported = nil, syncer.Content{}, nil, ""
		}
		if spec.Blind {
			o.Revision = ""
		}
		for range 1 + map[bool]int{true: 1}[f.Repeat] {
			if err := each(o); err != nil {
				return l, err
			}
		}
	}
	l.Complete = !f.Partial
	return l, nil
}

// Read gives one object.
func (s *Side) Read(ctx context.Context, o syncer.Object) (syncer.Object, error) {
	if _, err := s.call(ctx, "read", o.Key); err != nil {
		return syncer.Object{}, err
	}
	got, ok := s.Get(o.Key)
	if !ok {
		return got, syncer.ErrGone
	}
	return got, nil
}

// Open reads a body.
func (s *Side) Open(ctx context.Context, o syncer.Object, from int64) (io.ReadCloser, error) {
	f, err := s.call(ctx, "open", o.Key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.objects[o.Key]
	switch {
	case h == nil:
		return nil, syncer.ErrGone
	case h.Content != o.Content:
		return nil, syncer.ErrChanged
	}
	body := bytes.NewReader(h.body[min(from, int64(len(h.body))):])
	if f.Cut > 0 {
		return io.NopCloser(io.MultiReader(io.LimitReader(body, f.Cut-1), broken{})), nil
	}
	return io.NopCloser(body), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection broke") }

// Find by marker, or by the natural key.
func (s *Side) Find(ctx context.Context, want syncer.Object) (syncer.Object, error) {
	if _, err := s.call(ctx, "find", want.Key); err != nil {
		return syncer.Object{}, err
	}
	spec, err := s.spec(want.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	for _, o := range s.All(want.Kind) {
		if spec.Marked && o.Marker == want.Marker && !want.Marker.IsZero() {
			return o, nil
		}
		key := syncer.NaturalKey(o.Kind, o.Natural)
		if !spec.Marked && key != "" && key == syncer.NaturalKey(o.Kind, want.Natural) {
			return o, nil
		}
	}
	return syncer.Object{}, syncer.ErrGone
}

// Create makes an object.
func (s *Side) Create(ctx context.Context, want syncer.Object, body io.Reader) (syncer.Object, error) {
	f, err := s.call(ctx, "create", want.Key)
	if err != nil {
		return syncer.Object{}, err
	}
	spec, err := s.spec(want.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	data, err := readBody(spec, want, body)
	if err != nil {
		return syncer.Object{}, err
	}
	id := want.ID
	if !spec.KeepsID {
		id = ""
	}
	o := want
	o.ID = id
	if !spec.Marked {
		o.Marker = syncer.Marker{}
	}
	got, err := s.put(spec, o, data, true)
	if err == nil && f.Lose {
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("answer lost")}
	}
	return got, err
}

// readBody takes a body, and refuses what is not as it should be.
func readBody(spec Spec, want syncer.Object, body io.Reader) ([]byte, error) {
	if !spec.Body {
		return nil, nil
	}
	if body == nil {
		return nil, errors.New("no body was given")
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if got := ContentOf(data); got != want.Content {
		return nil, fmt.Errorf("the body has %v, not %v", got, want.Content)
	}
	return data, nil
}

// ContentOf a body.
func ContentOf(data []byte) syncer.Content {
	sum := sha256.Sum256(data)
	return syncer.Content{Size: int64(len(data)), Sum: "sha256:" + hex.EncodeToString(sum[:8])}
}

// put is for the service and for people: refs are checked, and unique names.
func (s *Side) put(spec Spec, o syncer.Object, body []byte, anew bool) (syncer.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec.Natural != nil {
		o.Natural = spec.Natural(o)
	}
	o.Fields = maps.Clone(o.Fields)
	if o.ID == "" {
		s.serial++
		o.ID = fmt.Sprintf("%s-%s-%d", s.Name, o.Kind, s.serial)
	}
	if anew && s.objects[o.Key] != nil {
		return o, fmt.Errorf("id %s: %w", o.ID, syncer.ErrTaken)
	}
	if key := syncer.NaturalKey(o.Kind, o.Natural); spec.Unique && key != "" {
		for _, other := range s.objects {
			if other.Key != o.Key && other.Within == o.Within && syncer.NaturalKey(other.Kind, other.Natural) == key {
				return o, fmt.Errorf("name of %s: %w", other.ID, syncer.ErrTaken)
			}
		}
	}
	for _, ref := range o.Refs() {
		if s.objects[ref] == nil && ref != o.Key {
			return o, fmt.Errorf("%s is not there", ref)
		}
	}
	s.serial++
	o.Revision = strconv.Itoa(s.serial)
	o.Content = syncer.Content{}
	if spec.Body {
		o.Content = ContentOf(body)
	}
	s.objects[o.Key] = &held{Object: o, body: body}
	return o, nil
}

// Update changes fields.
func (s *Side) Update(ctx context.Context, have, want syncer.Object, fields []string, body io.Reader) (syncer.Object, error) {
	f, err := s.call(ctx, "update", have.Key)
	if err != nil {
		return syncer.Object{}, err
	}
	spec, err := s.spec(have.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	now, ok := s.Get(have.Key)
	switch {
	case !ok:
		return now, syncer.ErrGone
	case now.Revision != have.Revision && have.Revision != "":
		return now, syncer.ErrChanged
	}
	s.mu.Lock()
	data := s.objects[have.Key].body
	s.mu.Unlock()
	if f.Half {
		fields = fields[:len(fields)/2]
	}
	if spec.Marked && now.Marker.IsZero() {
		now.Marker = want.Marker
	}
	now.Fields = maps.Clone(now.Fields)
	for _, name := range fields {
		if slices.Contains(spec.Fixed, name) {
			return now, fmt.Errorf("%s cannot be changed", name)
		}
		if name == "" {
			if data, err = readBody(spec, want, body); err != nil {
				return now, err
			}
			continue
		}
		if v, there := want.Fields[name]; there {
			now.Fields[name] = v
		} else {
			delete(now.Fields, name)
		}
	}
	got, err := s.put(spec, now, data, false)
	if err == nil && (f.Lose || f.Half) {
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("answer lost")}
	}
	return got, err
}

// Delete removes what nothing else needs.
func (s *Side) Delete(ctx context.Context, have syncer.Object) error {
	f, err := s.call(ctx, "delete", have.Key)
	if err != nil {
		return err
	}
	if err := s.Drop(have.Key); err != nil {
		return err
	}
	if f.Lose {
		return &syncer.Uncertain{Err: errors.New("answer lost")}
	}
	return nil
}

// Drop deletes by hand.
func (s *Side) Drop(k syncer.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.Key != k && slices.Contains(o.Refs(), k) {
			return fmt.Errorf("%s needs it: %w", o.Key, syncer.ErrInUse)
		}
	}
	delete(s.objects, k)
	return nil
}

// Put makes or changes an object by hand. Without an id it gets one.
func (s *Side) Put(o syncer.Object, body []byte) (syncer.Key, error) {
	spec, err := s.spec(o.Kind)
	if err != nil {
		return o.Key, err
	}
	got, err := s.put(spec, o, body, false)
	return got.Key, err
}

// Get gives an object by hand; false: there is none.
func (s *Side) Get(k syncer.Key) (syncer.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.objects[k]
	if h == nil {
		return syncer.Object{}, false
	}
	return h.Object, true
}

// Body gives a body by hand.
func (s *Side) Body(k syncer.Key) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.objects[k]; h != nil {
		return h.body
	}
	return nil
}

// All gives the objects of a kind, in the order of their ids.
func (s *Side) All(k syncer.Kind) []syncer.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []syncer.Object
	for key, h := range s.objects {
		if key.Kind == k {
			all = append(all, h.Object)
		}
	}
	slices.SortFunc(all, func(a, b syncer.Object) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Restore puts an object back by hand as it was, with its revision if it has
// one.
func (s *Side) Restore(o syncer.Object) error {
	old, body := o.Revision, s.Body(o.Key)
	if _, err := s.Put(o, body); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.objects[o.Key]; h != nil && old != "" {
		h.Revision = old
	}
	return nil
}
