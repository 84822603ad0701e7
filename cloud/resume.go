package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// resumeAttempts bounds how often in a row a reading is taken up again without
// a single octet more.
const resumeAttempts = 5

// Resuming reads a body to its end although its stream breaks: it opens it
// again where it broke, by open, which is Download as a rule. What comes then has
// to be of the same total and tag, or the reading ends with ErrChanged. It is to
// be closed.
func Resuming(ctx context.Context, open func(ctx context.Context, offset int64) (*Body, error)) (*Resumed, error) {
	body, err := open(ctx, 0)
	if err != nil {
		return nil, err
	}
	return &Resumed{ctx: ctx, open: open, body: body, Total: body.Total, tag: body.Tag()}, nil
}

// Resumed is one reading over several streams.
type Resumed struct {
	Total int64 // octets, -1 if the server does not say
	// Breaks is how often the stream has broken so far.
	Breaks int

	ctx   context.Context
	open  func(context.Context, int64) (*Body, error)
	body  *Body // nil while none is open
	at    int64
	tag   string
	tries int // since the last octet
	end   error
}

// Offset is how much was read.
func (r *Resumed) Offset() int64 { return r.at }

// Tag is what the server has said of the content.
func (r *Resumed) Tag() string { return r.tag }

// Read implements io.Reader.
func (r *Resumed) Read(p []byte) (int, error) {
	for r.end == nil {
		if r.body == nil {
			if r.end = r.reopen(); r.end != nil {
				break
			}
		}
		n, err := r.body.Read(p)
		if n > 0 {
			r.at += int64(n)
			r.tries = 0
		}
		switch {
		case r.Total >= 0 && r.at > r.Total:
			r.end = fmt.Errorf("%d octets of %d: %w", r.at, r.Total, ErrSize)
			return 0, r.end
		case err == io.EOF && (r.Total < 0 || r.at == r.Total):
			r.end = io.EOF
		case err == io.EOF:
			r.broke(io.ErrUnexpectedEOF)
		case err != nil:
			r.broke(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, r.end
}

// broke lets a stream go that has ended too soon.
func (r *Resumed) broke(err error) {
	_ = r.body.Close() // it is broken
	r.body = nil
	r.Breaks++
	// The whole arrived before the break: there is no range behind it.
	if r.Total >= 0 && r.at == r.Total {
		r.end = io.EOF
		return
	}
	if r.tries++; r.tries > resumeAttempts || r.ctx.Err() != nil {
		r.end = fmt.Errorf("at octet %d of %d: %w", r.at, r.Total, err)
	}
}

// reopen opens the stream where it broke.
func (r *Resumed) reopen() error {
	for {
		if err := sleep(r.ctx, backoff(max(r.tries, 1))); err != nil {
			return err
		}
		body, err := r.open(r.ctx, r.at)
		if err == nil {
			if err = r.same(body); err != nil {
				_ = body.Close() // of another
				return err
			}
			r.body = body
			return nil
		}
		_, again := Temporary(err)
		if r.tries++; !again || r.tries > resumeAttempts || r.ctx.Err() != nil {
			return fmt.Errorf("at octet %d of %d: %w", r.at, r.Total, err)
		}
	}
}

// same compares what is opened again with what was begun.
func (r *Resumed) same(body *Body) error {
	tag := body.Tag()
	switch {
	case body.Offset != r.at:
		return fmt.Errorf("opened at octet %d instead of %d: %w", body.Offset, r.at, ErrSize)
	case body.Total != r.Total && body.Total >= 0 && r.Total >= 0:
		return fmt.Errorf("%d octets, before %d: %w", body.Total, r.Total, ErrChanged)
	case tag != r.tag && tag != "" && r.tag != "":
		return fmt.Errorf("its tag is another: %w", ErrChanged)
	}
	return nil
}

// Close ends the reading.
func (r *Resumed) Close() error {
	if r.end == nil {
		r.end = errors.New("read after close")
	}
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}
