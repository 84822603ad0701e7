package demo

import (
	"context"
	"sync"
)

// mode is what a link does with what it carries.
type mode string

const (
	// pass delivers.
	pass mode = "pass"
	// drop delivers nothing. Datagrams are lost. Bytes of a connection are
	// held back and delivered when the link passes again, as TCP would send
	// them again; an end or a reset is held back with them. A relay cannot
	// drop a SYN: it accepts a new connection and stays silent, and goes on to
	// its target when the link passes again.
	drop mode = "drop"
	// reset resets every connection, old and new. Datagrams are lost.
	reset mode = "reset"
)

// valve holds the mode of a link; all its relays look at it.
type valve struct {
	mu     sync.Mutex
	mode   mode
	until  context.Context // ends when the mode changes
	change context.CancelFunc
}

func newValve() *valve {
	v := &valve{mode: pass}
	v.until, v.change = context.WithCancel(context.Background())
	return v
}

// set changes the mode.
func (v *valve) set(m mode) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m == v.mode {
		return
	}
	v.change()
	v.mode = m
	v.until, v.change = context.WithCancel(context.Background())
}

// get is the mode, and a context that ends when it changes.
func (v *valve) get() (mode, context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mode, v.until
}

// passes waits while the link drops. It is false when the link resets, or when
// ctx ended first.
func (v *valve) passes(ctx context.Context) bool {
	for {
		m, until := v.get()
		switch m {
		case pass:
			return ctx.Err() == nil
		case reset:
			return false
		}
		select {
		case <-until.Done():
		case <-ctx.Done():
			return false
		}
	}
}
