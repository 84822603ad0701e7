package frontend

import (
	"context"
	"sync/atomic"
	"time"
)

// held counts what waits of a service.
type held struct {
	requests atomic.Int64
	bytes    atomic.Int64
}

// Held is one request's place among those that wait.
type Held struct {
	service *Service
	bytes   int64
	start   time.Time
	until   *time.Timer
}

// Hold takes a place for a request of which so many bytes are kept. It fails
// with ErrShed when those that wait are as many as may. Whoever has a place
// gives it back by Done.
func (s *Service) Hold(bytes int64) (*Held, error) {
	bounds := s.spec.Load().Hold
	requests, kept := s.held.requests.Add(1), s.held.bytes.Add(bytes)
	if requests > int64(bounds.Requests) || kept > bounds.Bytes {
		s.held.requests.Add(-1)
		s.held.bytes.Add(-bytes)
		s.Stats.Shed.Add(1)
		return nil, ErrShed
	}
	s.Stats.Held.Add(1)
	return &Held{service: s, bytes: bytes, start: time.Now(), until: time.NewTimer(bounds.Time)}, nil
}

// Wait waits until another decision than seen has come, or for again, if that
// is not zero, to try the same site once more, or until wake is closed, if that
// is not nil. It fails with ErrShed when the request has waited for as long as
// it may.
func (h *Held) Wait(ctx context.Context, seen Where, again time.Duration, wake <-chan struct{}) error {
	var retry <-chan time.Time
	if again > 0 {
		t := time.NewTimer(again)
		defer t.Stop()
		retry = t.C
	}
	select {
	case <-seen.Changed:
		return nil
	case <-retry:
		return nil
	case <-wake:
		return nil
	case <-h.until.C:
		h.until.Reset(0)
		h.service.Stats.Shed.Add(1)
		return ErrShed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done gives the place back and notes how long the request was held up.
func (h *Held) Done() {
	h.until.Stop()
	h.service.held.requests.Add(-1)
	h.service.held.bytes.Add(-h.bytes)
	h.service.Stats.Stalls.Note(time.Since(h.start))
}
