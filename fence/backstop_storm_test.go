package fence_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/fence"
)

// unimpeded asks a port, with all the patience that a machine standing still may
// call for, and says whether a segment was lost on the way: on a machine's own
// wires none is, unless a fence drops it.
func (w wire) unimpeded(p uint16) func(context.Context) error {
	dial := w.dial("tcp", w.v4, p)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		err = ask(ctx, c)
		raw, rerr := c.(*net.TCPConn).SyscallConn()
		if rerr != nil {
			return errors.Join(err, rerr, c.Close())
		}
		var info *unix.TCPInfo
		cerr := raw.Control(func(fd uintptr) { info, rerr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
		if err := errors.Join(err, cerr, rerr, c.Close()); err != nil {
			return err
		}
		if info.Total_retrans > 0 {
			return fmt.Errorf("%d segments were sent again", info.Total_retrans)
		}
		return nil
	}
}

// storm asks from many sides until it is stopped, and counts who was answered.
func storm(t *testing.T, ask func(context.Context) error) (stop func() (asked, answered int64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var asked, answered atomic.Int64
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if ask(ctx) == nil {
					answered.Add(1)
				}
			}
		})
	}
	once := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(once)
	return func() (int64, int64) { once(); return asked.Load(), answered.Load() }
}

// A guard that is started anew takes over what is pinned, with no moment in
// which a service is open that was closed, nor closed that was open.
func backstopTakenOver(t *testing.T, w wire) {
	closed, open, own := freePort(), freePort(), freePort()
	listenEcho(t, w.v4+port(closed))
	listenEcho(t, w.v4+port(open))
	listenEcho(t, w.v4+port(own))
	before := w.backstop(t)
	k, l := w.kernel(t, before, fence.KernelConfig{Ports: []uint16{closed}}), w.kernel(t, before, fence.KernelConfig{Ports: []uint16{open}})
	if err := errors.Join(k.Close(t.Context()), l.Close(t.Context()), l.Open(t.Context(), forLong(fence.SystemClock{}))); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "flush", "ruleset")
	stopClosed, stopOpen := storm(t, w.reach(closed)), storm(t, w.unimpeded(open))
	programs := map[string]bool{w.program(t): true}
	for range 5 {
		if err := before.Close(); err != nil { // as a dead process does
			t.Fatal(err)
		}
		after := w.backstop(t)
		another := w.kernel(t, after, fence.KernelConfig{Ports: []uint16{own}})
		if err := another.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.reach(own)(t.Context()) == nil {
			t.Error("the guard that took over does not fence its service")
		}
		if id := w.program(t); programs[id] {
			t.Errorf("program %s was not replaced by this version's", id)
		} else {
			programs[id] = true
		}
		before = after
	}
	asked, answered := stopClosed()
	if answered > 0 || asked < 20 {
		t.Errorf("closed: %d of %d were answered", answered, asked)
	}
	if asked, answered = stopOpen(); answered < asked-3 || asked < 20 { // the last of each asker is cut off
		t.Errorf("open: %d of %d were answered", answered, asked)
	}
}
