package authority

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// Queries that come together, of several clients, are answered each to who asked
// it, among them what deserves no answer; and those behind an answer that cannot
// be sent are.
func TestBatches(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		t.Run(address, func(t *testing.T) {
			l, err := Listen(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			to := fmt.Sprintf("127.0.0.1:%d", l.Addr().Port())
			names := []string{"shop.example.org.", "mail.example.org.", "www.example.org.", "nothing.example.org."}
			var clients []net.Conn
			for range 3 {
				c, err := net.Dial("udp", to)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				clients = append(clients, c)
			}
			const each = 40
			dropped := func(i, j int) bool { return (3*i+j)%7 == 3 }
			for i := range each { // they wait until it is served
				for j, c := range clients {
					m := question(names[(i+j)%len(names)], mdns.TypeA)
					m.Id = uint16(1000*j + i)
					m.Response = dropped(i, j)
					if _, err := c.Write(pack(t, m)); err != nil {
						t.Fatal(err)
					}
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.Serve(ctx, l) }()
			buf := make([]byte, 1500)
			for j, c := range clients {
				got, want := make(map[int]string), make(map[int]string)
				for i := range each {
					if !dropped(i, j) {
						want[i] = names[(i+j)%len(names)]
					}
				}
				for range want {
					n, err := c.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					r := unpack(t, buf[:n])
					got[int(r.Id)-1000*j] = r.Question[0].Name
					if want := brief(f.ask(t, question(r.Question[0].Name, mdns.TypeA))); brief(r) != want {
						t.Errorf("answered %s, want %s", brief(r), want)
					}
				}
				if !maps.Equal(got, want) {
					t.Errorf("client %d: answered %v, want %v", j, got, want)
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// While one worker is held up with what it took, the other answers what is left.
func TestHelp(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	var first atomic.Bool
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	f.cfg.Clock = func() draas.Reading {
		if first.CompareAndSwap(false, true) {
			<-hold
		}
		return f.clock.Now()
	}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	const sent = 3*maxPackets + 1
	for range sent {
		if _, err := c.Write(pack(t, question("shop.example.org.", mdns.TypeA))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	help, done := make(chan struct{}, 1), make(chan error, 2)
	go func() { done <- f.serveUDP(ctx, l, help) }()
	go func() { done <- f.helpUDP(ctx, l, help) }()
	buf := make([]byte, 1500)
	for i := range sent {
		if i == sent-maxPackets {
			release() // only what the first one took is left
		}
		if _, err := c.Read(buf); err != nil {
			t.Errorf("answer %d: %v", i, err)
			break
		}
	}
	release()
	cancel()
	_ = l.Close()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
}

func TestSendsPastAFailure(t *testing.T) {
	f := newFixture(t)
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := client.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	p := newPackets(false)
	p.expect()
	if err := conn.Read(p.read); err != nil || p.n != 3 {
		t.Fatalf("%d packets: %v", p.n, err)
	}
	for i := range p.n {
		p.answer(i, i, fmt.Append(p.out[i], i))
	}
	p.from[1].Port = 0 // nobody can be sent to there
	f.sendAll(conn, p)
	buf := make([]byte, 10)
	for _, want := range []string{"0", "2"} {
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, want %q: %v", buf[:n], want, err)
		}
	}
	if n := f.Stats().UDPErrors; n != 1 {
		t.Errorf("%d errors", n)
	}
}
