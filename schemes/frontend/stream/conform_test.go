package stream

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/frontendtest"
)

// ours is this package's proxy, as the suite for all of them sees it.
type ours struct{ address string }

func (o ours) Address() string { return o.address }

func (o ours) Follow(t testing.TB, table *frontend.Table) (crash func()) {
	t.Helper()
	s, err := New(Config{Routes: []Route{{Service: table.Service("shop")}}, Drain: time.Nanosecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", o.address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return sync.OnceFunc(func() { stop(); wg.Wait() })
}

func TestContract(t *testing.T) {
	frontendtest.Run(t, func(t testing.TB, _ frontend.Spec) frontendtest.Proxy {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		return ours{ln.Addr().String()}
	}, frontendtest.Options{})
}
