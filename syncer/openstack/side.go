package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Options of a side.
type Options struct {
	Site string
	// Given are names that exist at both sites by themselves, by kind, beside
	// those that every cloud has (the role "admin", the project "service").
	Given map[syncer.Kind][]string
	// SegmentAbove is from what size on objects are carried in segments beside
	// each other, and SegmentSize that of a segment, in bytes: 1 GiB, 256 MiB.
	SegmentAbove, SegmentSize int64
}

// Side is one site's cloud. Its methods may be called at the same time.
type Side struct {
	options Options
	session *cloud.Session
	order   []handler
	kinds   map[syncer.Kind]handler

	learning sync.Mutex // held while all projects are listed
	learned  bool       // their names are known, of this run

	mu        sync.Mutex
	names     map[string]string // of projects, for people and filters
	externals map[string]bool   // networks that are the operator's
}

// New makes a side of a session with the cloud's admin.
func New(session *cloud.Session, o Options) *Side {
	s := &Side{options: o, session: session, kinds: make(map[syncer.Kind]handler), names: make(map[string]string)}
	s.order = slices.Concat(identityKinds(), computeKinds(), imageKinds(), networkKinds(), volumeKinds(), quotaKinds(), objectKinds(), dnsKinds())
	for _, h := range s.order {
		s.kinds[h.traits().Kind] = h
	}
	return s
}

// handler is one kind.
type handler interface {
	traits() syncer.Traits
	service() string // its type in the catalog
	list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error
	read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error)
	find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error)
	create(ctx context.Context, s *Side, want syncer.Object, body io.Reader) (syncer.Object, error)
	update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, body io.Reader) (syncer.Object, error)
	remove(ctx context.Context, s *Side, have syncer.Object) error
}

// opener is a kind whose objects have content.
type opener interface {
	open(ctx context.Context, s *Side, o syncer.Object, from int64) (io.ReadCloser, error)
}

var (
	_ syncer.Reader = (*Side)(nil)
	_ syncer.Writer = (*Side)(nil)
)

// Site is the site's name.
func (s *Side) Site() string { return s.options.Site }

// Kinds are those of this package; those whose service the cloud has not come
// with that reason. A run that begins with it learns the projects' names anew.
func (s *Side) Kinds(context.Context) ([]syncer.Offer, error) {
	s.forgetNames()
	var all []syncer.Offer
	for _, h := range s.order {
		offer := syncer.Offer{Traits: h.traits()}
		if _, err := s.session.Service(h.service()); errors.Is(err, cloud.ErrNoService) {
			offer.Missing = fmt.Sprintf("the cloud has no service %s", h.service())
		} else if err != nil {
			return nil, fmt.Errorf("look for service %s: %w", h.service(), classify(err))
		}
		all = append(all, offer)
	}
	return all, nil
}

// List lists a kind. It is complete, or an error: pages that are cut off are
// errors of the reading of them.
func (s *Side) List(ctx context.Context, kind syncer.Kind, within syncer.Key, each func(syncer.Object) error) (syncer.Listing, error) {
	h, err := s.handler(kind)
	if err != nil {
		return syncer.Listing{}, err
	}
	switch {
	case kind == Project:
		s.learning.Lock()
		defer s.learning.Unlock()
	case h.service() != identity.service:
		if err := s.learnNames(ctx); err != nil {
			return syncer.Listing{}, fmt.Errorf("list %s: %w", kind, classify(err))
		}
	}
	began := time.Now()
	if !h.traits().Ordered { // pages shift while they are read
		seen, all := make(map[string]bool), each
		each = func(o syncer.Object) error {
			if seen[o.ID] {
				return nil
			}
			seen[o.ID] = true
			return all(o)
		}
	}
	if err := h.list(ctx, s, within, each); err != nil {
		return syncer.Listing{}, fmt.Errorf("list %s: %w", kind, classify(err))
	}
	if kind == Project {
		s.learned = true
	}
	// By the service's clock, which is known to a second.
	skew, _ := s.session.Skew(h.service())
	return syncer.Listing{Complete: true, At: began.Add(skew - time.Second)}, nil
}

// Read gives the whole of an object.
func (s *Side) Read(ctx context.Context, o syncer.Object) (syncer.Object, error) {
	h, err := s.handler(o.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	whole, err := h.read(ctx, s, o)
	return whole, wrap("read", o, err)
}

// Open reads an object's content from an offset on.
func (s *Side) Open(ctx context.Context, o syncer.Object, from int64) (io.ReadCloser, error) {
	h, err := s.handler(o.Kind)
	if err != nil {
		return nil, err
	}
	with, ok := h.(opener)
	if !ok {
		return nil, fmt.Errorf("open %s: it has no content", o.Key)
	}
	body, err := with.open(ctx, s, o, from)
	return body, wrap("open", o, err)
}

// Find looks for what Create would make.
func (s *Side) Find(ctx context.Context, want syncer.Object) (syncer.Object, error) {
	h, err := s.handler(want.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	found, err := h.find(ctx, s, want)
	return found, wrap("find", want, err)
}

// Create makes an object.
func (s *Side) Create(ctx context.Context, want syncer.Object, body io.Reader) (syncer.Object, error) {
	h, err := s.handler(want.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	made, err := h.create(ctx, s, want, body)
	return made, wrap("create", want, err)
}

// Update changes fields of an object.
func (s *Side) Update(ctx context.Context, have, want syncer.Object, fields []string, body io.Reader) (syncer.Object, error) {
	h, err := s.handler(want.Kind)
	if err != nil {
		return syncer.Object{}, err
	}
	made, err := h.update(ctx, s, have, want, fields, body)
	return made, wrap("update", have, err)
}

// Delete removes an object.
func (s *Side) Delete(ctx context.Context, have syncer.Object) error {
	h, err := s.handler(have.Kind)
	if err != nil {
		return err
	}
	err = h.remove(ctx, s, have)
	if cloud.NotFound(err) {
		return nil
	}
	return wrap("delete", have, err)
}

func (s *Side) handler(kind syncer.Kind) (handler, error) {
	h, ok := s.kinds[kind]
	if !ok {
		return nil, fmt.Errorf("no kind is called %q", kind)
	}
	return h, nil
}

func (s *Side) client(service string) (*gophercloud.ServiceClient, error) {
	return s.session.Service(service)
}

func wrap(verb string, o syncer.Object, err error) error {
	if err == nil {
		return nil
	}
	name := o.Name
	if name == "" {
		name = o.ID
	}
	return fmt.Errorf("%s %s %s: %w", verb, o.Kind, name, classify(err))
}

// classify says what an error of a cloud's means to the engine.
func classify(err error) error {
	after, temporary := cloud.Temporary(err)
	switch {
	case err == nil, errors.Is(err, syncer.ErrGone), errors.Is(err, syncer.ErrChanged), errors.Is(err, syncer.ErrTaken):
		return err
	case cloud.Uncertain(err):
		return &syncer.Uncertain{Err: err}
	case temporary, overQuota(err):
		return &syncer.Temporary{Err: err, After: after}
	case cloud.NotFound(err):
		return both{syncer.ErrGone, err}
	case cloud.Denied(err):
		return both{syncer.ErrDenied, err}
	case gophercloud.ResponseCodeIs(err, 412):
		return both{syncer.ErrChanged, err}
	case cloud.Conflict(err):
		return both{syncer.ErrTaken, err}
	}
	return err
}

// overQuota: the copy of the project's quota may be on its way, or a person has
// to raise it; no other object has the place.
func overQuota(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "quota exceeded")
}

// both is what a cloud said, and what it means.
type both struct{ means, said error }

func (b both) Error() string   { return b.said.Error() }
func (b both) Unwrap() []error { return []error{b.means, b.said} }
