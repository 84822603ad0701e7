package fence_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/draasd/draas/fence"
)

// BenchmarkPath compares the relay with a direct connection: one keep-alive
// connection, a 100-byte request, and an answer of 100 bytes or 1 MiB.
func BenchmarkPath(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"small", 100}, {"1MiB", 1 << 20}} {
		backend, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go answer(backend, size.bytes)
		front, err := net.Listen("tcp", "127.0.0.1:0") // a free address
		if err != nil {
			b.Fatal(err)
		}
		_ = front.Close()
		p := newPath(b, fence.PathConfig{Listen: front.Addr().String(), Forward: backend.Addr().String()})
		if err := p.Open(context.Background(), forLong(fence.SystemClock{})); err != nil {
			b.Fatal(err)
		}
		for name, addr := range map[string]string{"direct": backend.Addr().String(), "relay": front.Addr().String()} {
			b.Run(size.name+"/"+name, func(b *testing.B) { exchange(b, addr, size.bytes) })
		}
		_ = backend.Close()
	}
}

func answer(ln net.Listener, size int) {
	out := make([]byte, size)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			in := make([]byte, 100)
			for {
				if _, err := io.ReadFull(c, in); err != nil {
					return
				}
				if _, err := c.Write(out); err != nil {
					return
				}
			}
		}()
	}
}

func exchange(b *testing.B, addr string, size int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	req, rep := make([]byte, 100), make([]byte, size)
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := c.Write(req); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, rep); err != nil {
			b.Fatal(err)
		}
	}
}
