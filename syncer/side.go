package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Reader is a side that is read. Its methods may be called at the same time.
type Reader interface {
	// Site is the name of the site. Markers bear its [SiteWord].
	Site() string

	// Kinds says what the side has, in an order in which needs come first. A
	// kind that its cloud has no service for comes with the reason.
	Kinds(ctx context.Context) ([]Offer, error)

	// List gives every object of a kind, or of those within one, and calls each
	// for them one after another; an error from each ends it. Objects may come
	// without Fields where those cost more requests. An object that comes twice
	// (pages shift while they are read) counts once.
	List(ctx context.Context, kind Kind, within Key, each func(Object) error) (Listing, error)

	// Read gives the whole of an object that List gave: [ErrGone] if it is not
	// there any more.
	Read(ctx context.Context, o Object) (Object, error)

	// Open reads an object's content from an offset on. [ErrChanged] if it is
	// not that of o any more.
	Open(ctx context.Context, o Object, from int64) (io.ReadCloser, error)
}

// Offer is a kind that a side has, or has not.
type Offer struct {
	Traits
	Missing string // why it has not; empty: it has
}

// Writer is a side that is written. What its methods return is the object as
// Read would give it then.
type Writer interface {
	Reader

	// Find looks for the object that Create would make, by its marker where the
	// kind is marked, else by its natural key: [ErrGone] if there is none. It
	// is asked before a Create is repeated.
	Find(ctx context.Context, want Object) (Object, error)

	// Create makes an object. want is in terms of this side; its ID is that of
	// the source, which is kept where the service lets it be chosen. A body is
	// read to its end once, and what came of it is compared with want.Content:
	// what is cut off or altered is removed again. An error that is not an
	// [Uncertain] means that nothing was made, or that it was removed.
	Create(ctx context.Context, want Object, body io.Reader) (Object, error)

	// Update changes the fields named of an object, "" among them: its content,
	// from body. A marker that want has and have lacks is set besides.
	Update(ctx context.Context, have, want Object, fields []string, body io.Reader) (Object, error)

	// Delete removes an object. One that is gone already is no error.
	Delete(ctx context.Context, have Object) error
}

// The outcomes that the engine tells apart.
var (
	// ErrGone: there is no such object.
	ErrGone = errors.New("not there")
	// ErrChanged: the object was changed while it was read or written.
	ErrChanged = errors.New("changed meanwhile")
	// ErrTaken: another object has the name, the id or the address.
	ErrTaken = errors.New("taken by another")
	// ErrDenied: the credentials may not do this.
	ErrDenied = errors.New("not permitted")
	// ErrInUse: it cannot be deleted while others need it.
	ErrInUse = errors.New("in use")
)

// Uncertain is the error of a request that may have been carried out.
type Uncertain struct{ Err error }

func (u *Uncertain) Error() string { return fmt.Sprintf("outcome not known: %v", u.Err) }
func (u *Uncertain) Unwrap() error { return u.Err }

// Temporary is the error of a request that may succeed later, and was not
// carried out.
type Temporary struct {
	Err   error
	After time.Duration // not sooner; 0: not known
}

func (t *Temporary) Error() string { return t.Err.Error() }
func (t *Temporary) Unwrap() error { return t.Err }
