package web

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/proxy"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/frontendtest"
)

func embedded(t testing.TB, _ frontend.Spec) frontendtest.Proxy {
	return frontendtest.Embedded{At: proxy.Address(t), Serve: func(t testing.TB, service *frontend.Service) func(context.Context, net.Listener) error {
		t.Helper()
		s, err := New(Config{Hosts: []Host{{Service: service}}, Log: slog.New(slog.DiscardHandler), Limits: Limits{Drain: 50 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		return s.Serve
	}}
}

func TestContract(t *testing.T) { frontendtest.Run(t, embedded, frontendtest.Options{}) }

// go test -run xxx -bench Latency -benchtime 20x
func BenchmarkLatency(b *testing.B) { frontendtest.Latency(b, embedded, frontendtest.Options{}) }
