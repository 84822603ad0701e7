package syncer

import (
	"context"
	"io"
)

// Ranged is a body of which parts can be read beside each other. Who calls From
// does not read the body itself.
type Ranged interface {
	io.Reader
	// From reads it from an offset on. What is read then is closed by the
	// caller, wherever it is by then. [ErrChanged] as of [Reader.Open].
	From(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// From implements [Ranged].
func (s *stream) From(ctx context.Context, offset int64) (io.ReadCloser, error) {
	body, err := s.r.e.Source.Open(ctx, s.it.source, offset)
	if err != nil {
		return nil, err
	}
	return &piece{body, s}, nil
}

// piece is a part of a stream. Several are read at once.
type piece struct {
	io.ReadCloser
	of *stream
}

func (p *piece) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.of.r.mu.Lock()
	p.of.n += int64(n)
	p.of.r.mu.Unlock()
	p.of.count(int64(n))
	return n, err
}
