package fence_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
)

// A foreign flush of all rules, at a site that is closed, while users send
// without a pause. With the backstop not one packet gets through; without it
// only those of the moment until the kernel has told the guard.
func TestForeignFlush(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		t.Run("rules alone", func(t *testing.T) { foreignFlush(t, newWire(t, users), false) })
		t.Run("with the backstop", func(t *testing.T) { foreignFlush(t, newWire(t, users), true) })
		t.Run("of an open fence", func(t *testing.T) { foreignFlushOpen(t, newWire(t, users)) })
	})
}

func foreignFlush(t *testing.T, w wire, backed bool) {
	p := freePort()
	spec := fence.Spec{Service: "flushed", Kind: draas.FenceKernel, Ports: []uint16{p}, Proto: "udp"}
	if backed {
		spec.XDP = []string{w.name}
	}
	entry := must[fence.Entry](t)(spec.Entry(fence.Host{Backstop: w.backstop(t)}))
	entry.Audit = time.Hour // what the kernel does not tell is not found
	socket := filepath.Join(shortDir(t), "g")
	g := must[*fence.Guard](t)(fence.NewGuard(fence.GuardConfig{Socket: socket, Services: []fence.Entry{entry}}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	client := fence.Dial(socket)
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := entry.Fence.(*fence.Kernel).Remove(); err != nil {
			t.Error(err)
		}
		_ = client.Close()
	}()
	<-g.Ready()
	upsets := func() (n int, restored bool) {
		st := must[[]fence.Status](t)(client.Status(t.Context()))[0]
		if st.Upsets > 0 && st.LastUpset == "" {
			t.Fatalf("the status does not tell what happened: %+v", st)
		}
		return st.Upsets, st.State == fence.Closed
	}

	arrived := stream(t, w, p)
	if got := arrived(); len(got) > 0 {
		t.Fatalf("closed, and %d packets arrived", len(got))
	}
	const flushes = 10
	var gaps []time.Duration
	for i := range flushes {
		run(t, "nft", "flush", "ruleset")
		eventually(t, "the flush is counted and the fence restored", func() bool {
			n, restored := upsets()
			return n > i && restored
		})
		if !strings.Contains(run(t, "nft", "list", "ruleset"), "draas_flushed") {
			t.Error("closed without its rules")
		}
		var gap time.Duration
		if at := arrived(); len(at) > 0 {
			gap = at[len(at)-1] - at[0] + 200*time.Microsecond // between two packets
		}
		gaps = append(gaps, gap)
	}
	if n, _ := upsets(); n != flushes {
		t.Errorf("%d flushes counted, want %d", n, flushes)
	}
	slices.Sort(gaps)
	t.Logf("open after a flush: median %v, at most %v", gaps[flushes/2], gaps[flushes-1])
	if backed && gaps[flushes-1] > 0 {
		t.Error("packets arrived in spite of the backstop")
	}
	if !backed && gaps[flushes/2] > 150*time.Millisecond { // looking every 200 ms would be slower
		t.Error("the kernel's word does not help")
	}
}

// At a site that is open, a flush and its restoring cut nobody off.
func foreignFlushOpen(t *testing.T, w wire) {
	p := freePort()
	listenEcho(t, w.v4+port(p))
	spec := fence.Spec{Service: "open", Kind: draas.FenceKernel, Ports: []uint16{p}}
	entry := must[fence.Entry](t)(spec.Entry(fence.Host{}))
	g, client, stop := startGuard(t, fence.GuardConfig{}, entry)
	defer func() {
		if err := errors.Join(stop(), entry.Fence.(*fence.Kernel).Remove()); err != nil {
			t.Error(err)
		}
	}()
	<-g.Ready()
	must[fence.Status](t)(client.Extend(t.Context(), "open", 1, draas.DeadlineAt(fence.SystemClock{}.Now(), time.Minute)))
	w.open(t, "with a permit", w.v4, p)
	c := must[net.Conn](t)(w.dial("tcp", w.v4, p)(t.Context()))
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var asked atomic.Int64
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			actx, done := context.WithTimeout(context.Background(), 10*time.Second)
			err := ask(actx, c)
			done()
			if err != nil {
				failed <- err
				return
			}
			asked.Add(1)
		}
	})
	for range 10 {
		before := asked.Load()
		run(t, "nft", "flush", "ruleset")
		eventually(t, "the rules are back, with the permit", func() bool {
			return strings.Contains(run(t, "nft", "list", "ruleset"), "meta time <") && asked.Load() > before+20 || len(failed) > 0
		})
	}
	cancel()
	wg.Wait()
	if len(failed) > 0 {
		t.Errorf("a connection ended with %v after %d answers", <-failed, asked.Load())
	}
	if st := must[[]fence.Status](t)(client.Status(t.Context()))[0]; st.Upsets == 0 {
		t.Error("nothing was restored: the test shows nothing")
	}
}

// stream sends packets to the port without a pause, and returns a function that
// takes the instants at which those that arrived were sent, by the boot clock.
func stream(t *testing.T, w wire, p uint16) func() []time.Duration {
	t.Helper()
	addr := net.JoinHostPort(w.v4, strconv.Itoa(int(p)))
	pc := must[net.PacketConn](t)(net.ListenPacket("udp", addr))
	c := must[net.Conn](t)(w.dial("udp", w.v4, p)(t.Context()))
	var mu sync.Mutex
	var at []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 16)
		for {
			if _, _, err := pc.ReadFrom(buf); err != nil {
				return
			}
			mu.Lock()
			at = append(at, time.Duration(binary.NativeEndian.Uint64(buf)))
			mu.Unlock()
		}
	})
	stop := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				// It is refused while it is closed.
				_, _ = c.Write(binary.NativeEndian.AppendUint64(nil, uint64(fence.SystemClock{}.Now().Boot)))
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); _ = c.Close(); _ = pc.Close(); wg.Wait() })
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		got := at
		at = nil
		return got
	}
}
