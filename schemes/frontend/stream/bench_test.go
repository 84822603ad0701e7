package stream

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The benchmarks set the proxy beside HAProxy's mode tcp, io.Copy and no proxy
// at all. proxy-us/op is what the proxy's process costs the machine; the time
// of an operation has the load and the back end in it, and two processors for
// all of them.

func contenders(b *testing.B) map[string]*other {
	leads := start(b, "backend")
	return map[string]*other{
		"direct": leads, "haproxy": startHAProxy(b, leads.address),
		"copy": start(b, "copy", envLeads+"="+leads.address), "draas": start(b, "proxy", envLeads+"="+leads.address),
	}
}

var order = []string{"direct", "haproxy", "copy", "draas"}

func compare(b *testing.B, load func(*testing.B, string)) {
	all := contenders(b)
	for _, name := range order {
		b.Run(name, func(b *testing.B) {
			o := all[name]
			before := o.cpu(b)
			load(b, o.address)
			b.StopTimer()
			if name != "direct" {
				b.ReportMetric(float64(o.cpu(b)-before)/1e3/float64(b.N), "proxy-us/op")
			}
		})
	}
}

// share has so many connections do b.N operations together.
func share(b *testing.B, connections int, address string, do func(c net.Conn) error) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for _, c := range conns {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkKeepAlive(b *testing.B) {
	compare(b, func(b *testing.B, address string) {
		share(b, 32, address, func(c net.Conn) error {
			var buf [512]byte
			return roundTrip(c, benchRequest, len(benchAnswer)+128, buf[:])
		})
	})
}

func roundTrip(c net.Conn, request string, size int, buf []byte) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	for got := 0; got < size; {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

func BenchmarkNewConnection(b *testing.B) {
	compare(b, func(b *testing.B, address string) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var wg sync.WaitGroup
		b.ResetTimer()
		for range 32 {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					c, err := net.Dial("tcp", address)
					if err != nil {
						b.Error(err)
						return
					}
					var buf [512]byte
					err = roundTrip(c, benchRequest, len(benchAnswer)+128, buf[:])
					_ = c.(*net.TCPConn).SetLinger(0) // leaves no port behind
					_ = c.Close()
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func BenchmarkMegabyte(b *testing.B) {
	compare(b, func(b *testing.B, address string) {
		share(b, 4, address, func(c net.Conn) error {
			buf := make([]byte, 256<<10)
			head := len(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", bigBody))
			return roundTrip(c, bigRequest, head+bigBody, buf)
		})
	})
}

// BenchmarkIdle says what a connection costs that does nothing: of the proxy's
// memory, without the kernel's sockets.
func BenchmarkIdle(b *testing.B) {
	for _, name := range []string{"haproxy", "draas"} {
		b.Run(name, func(b *testing.B) {
			o := contenders(b)[name]
			before := o.field(b, "VmRSS")
			const n = 9000 // 20,000 descriptors hold no more
			for range n {
				c, err := net.Dial("tcp", o.address)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				var buf [512]byte
				if err := roundTrip(c, benchRequest, len(benchAnswer)+128, buf[:]); err != nil {
					b.Fatal(err)
				}
			}
			cpu := o.cpu(b)
			<-time.After(time.Second)
			b.ReportMetric(float64(o.field(b, "VmRSS")-before)/n, "KiB/conn")
			b.ReportMetric(float64(o.cpu(b)-cpu)/1e3, "idle-us/s")
		})
	}
}
