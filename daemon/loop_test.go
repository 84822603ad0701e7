package daemon

import (
	"context"
	"testing"
)

// Who gives up on the main loop has what its function writes for itself: the
// function does not run any more, also when the loop gets to it later.
func TestCallGivenUpDoesNotRun(t *testing.T) {
	l := &loop{inbox: make(chan func(*loop), 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ran := false
	ended := make(chan error)
	go func() { ended <- l.call(ctx, func(*loop) { ran = true }) }()
	late := <-l.inbox
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("a call that nobody answered succeeded")
	}
	late(l)
	if ran {
		t.Error("it ran after the caller had given up")
	}
}

// What the loop has begun is waited for, also when the caller's time is over.
func TestCallBegunIsWaitedFor(t *testing.T) {
	l := &loop{inbox: make(chan func(*loop), 1)}
	ctx, cancel := context.WithCancel(t.Context())
	answer := 0
	ended := make(chan error)
	go func() {
		ended <- l.call(ctx, func(*loop) {
			cancel()
			answer = 42
		})
	}()
	(<-l.inbox)(l)
	if err := <-ended; err != nil || answer != 42 {
		t.Fatalf("%d, %v", answer, err)
	}
}
