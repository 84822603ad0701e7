package fence_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

func TestGuardAgainstGarbage(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	for name, in := range map[string]string{
		"no JSON":       "hello\n",
		"unknown op":    `{"op":"open"}` + "\n",
		"unknown field": `{"op":"status","x":1}` + "\n",
		"oversized":     strings.Repeat("x", 1<<20),
		"binary":        "\x00\x01\x02\n",
	} {
		conn := must[net.Conn](t)(net.Dial("unix", r.socket))
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte(in)) // the guard may hang up in the middle of it
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if name != "oversized" && (err != nil || !strings.Contains(string(buf[:n]), "bad_request")) {
			t.Errorf("%s: %q, %v", name, buf[:n], err)
		}
		for err == nil {
			_, err = conn.Read(buf)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the guard keeps the connection", name)
		}
		_ = conn.Close()
	}
	if _, err := r.client.Extend(t.Context(), "nope", 1, draas.DeadlineAt(r.clock.Now(), time.Second)); !errors.Is(err, fence.ErrUnknownService) {
		t.Errorf("unknown service: %v", err)
	}
	if _, err := r.extend(t, 1, time.Hour); !errors.Is(err, fence.ErrTooFar) {
		t.Errorf("a deadline in an hour: %v", err)
	}
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
}

func TestClientFindsARestartedGuardAndNeverBlocks(t *testing.T) {
	r := newRig(t, fencetest.Faults{})
	r.ready(t)
	must[fence.Status](t)(r.extend(t, 1, time.Minute))
	client := r.client
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context()); err == nil {
		t.Fatal("an answer without a guard")
	}
	r.start(t)
	r.ready(t)
	must[[]fence.Status](t)(client.Status(t.Context()))
	if err := errors.Join(r.stop(), client.Close()); err != nil {
		t.Fatal(err)
	}

	// A guard that is stopped: the socket takes the connection, nobody answers.
	ln := must[*net.UnixListener](t)(net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "mute"), Net: "unix"}))
	defer ln.Close()
	mute := fence.Dial(ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := mute.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a mute guard: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Fatalf("blocked %v", took)
	}
}

func TestFakeConforms(t *testing.T) {
	fencetest.Run(t, func(*testing.T) fencetest.Subject {
		f := fencetest.NewFake(fence.SystemClock{}, time.Millisecond)
		ask := func(context.Context) error {
			if !f.Serving() {
				return errors.New("refused")
			}
			return nil
		}
		return fencetest.Subject{Fence: f, Clock: fence.SystemClock{}, Ask: ask,
			Connect: func(context.Context) (func(context.Context) error, error) { return ask, nil }}
	})
}

func TestFakeGuard(t *testing.T) {
	clock := &stepClock{}
	g := fencetest.NewGuard(clock, "shop")
	ctx := t.Context()
	d := draas.DeadlineAt(clock.Now(), time.Minute)
	if st, err := g.Extend(ctx, "shop", 1, d); err != nil || st.State != fence.Open || !g.Serving("shop") {
		t.Fatalf("%+v, %v", st, err)
	}
	g.SetStuck("shop", errors.New("jammed"))
	if _, err := g.Shut(ctx, "shop", 1); !errors.Is(err, fence.ErrNotClosed) || !g.Serving("shop") {
		t.Fatalf("a stuck fence: %v", err)
	}
	g.SetStuck("shop", nil)
	if _, err := g.Shut(ctx, "shop", 1); err != nil || g.Serving("shop") {
		t.Fatalf("shut: %v", err)
	}
	if _, err := g.Extend(ctx, "shop", 1, d); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Fatalf("reopened: %v", err)
	}
	if _, err := g.Extend(ctx, "shop", 2, d); err != nil {
		t.Fatal(err)
	}
	clock.stepWall(time.Hour)
	if g.Serving("shop") {
		t.Fatal("serving after the deadline")
	}
	g.SetDown(net.ErrClosed)
	if _, err := g.Status(ctx); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("down: %v", err)
	}
}
