package stream

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func TestLeadsToTheActiveSite(t *testing.T) {
	l := newLab(t, twoSites(t))
	l.decide(1, "primary")
	over := l.dial()
	l.want(over, "hello", "primary hello")
	_ = over.Close()
	l.last(EndClosed) // and is not dropped by the move
	c := l.dial()
	for range 3 {
		l.want(c, "hello", "primary hello")
	}
	l.decide(2, "dr")
	if _, err := ask(c, "hello"); !isReset(err) {
		t.Errorf("the old site's connection was not reset: %v", err)
	}
	if a := l.last(EndMoved); a.Site != "primary" || a.Epoch != 1 || a.In != 18 || a.Out != 42 {
		t.Errorf("%+v", a)
	}
	l.want(l.dial(), "hello", "dr hello")
	if n := l.service.Stats.Dropped.Load(); n != 1 {
		t.Errorf("%d dropped", n)
	}
	st := l.service.Stats.Sites()["primary"]
	if st.Requests.Load() != 2 || st.In.Load() != 24 || st.Out.Load() != 56 {
		t.Errorf("counted %d connections, %d bytes in, %d out", st.Requests.Load(), st.In.Load(), st.Out.Load())
	}
}

func TestHoldsWhileAMoveIsUnderWay(t *testing.T) {
	l := newLab(t, twoSites(t))
	before := l.dial() // nothing is known yet
	_, _ = io.WriteString(before, "early\n")
	l.until("held", func() bool { return l.service.Stats.Held.Load() == 1 })
	l.decide(1, "primary")
	if got, err := readLine(before); got != "primary early" {
		t.Fatalf("%q, %v", got, err)
	}
	l.apply(frontend.Decision{Epoch: 1, Site: "primary", Moving: true})
	l.want(before, "still", "primary still")
	during := l.dial()
	_, _ = io.WriteString(during, "during\n")
	l.until("held", func() bool { return l.service.Stats.Held.Load() == 2 })
	l.decide(2, "dr")
	if got, err := readLine(during); got != "dr during" {
		t.Fatalf("%q, %v", got, err)
	}
	_ = during.Close()
	if a := l.last(EndClosed); a.Held <= 0 || a.Site != "dr" {
		t.Errorf("%+v", a)
	}
}

// A site that cannot be reached is told of, and connections wait for the next.
func TestHoldsWhileTheSiteIsDead(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {gone.Addr().String()}, "dr": {echo(t, "dr")}}))
	l.decide(1, "primary")
	c := l.dial()
	l.until("told", func() bool { return l.evidence(frontend.Refused) })
	l.decide(2, "dr")
	l.want(c, "hello", "dr hello")
	// It may come back, too.
	before := l.service.Stats.Held.Load() // the first may have been led on before it had to wait
	l.decide(3, "primary")
	c = l.dial()
	l.until("held", func() bool { return l.service.Stats.Held.Load() > before })
	ln, err := net.Listen("tcp", gone.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, func(c net.Conn) { echoLines(c, "primary") })
	l.want(c, "hello", "primary hello")
}

func TestBeyondTheBoundsIsReset(t *testing.T) {
	s := twoSites(t)
	s.Hold = frontend.Bounds{Time: 150 * time.Millisecond, Requests: 1, Bytes: 100}
	l := newLab(t, s)
	first := l.dial()
	l.until("held", func() bool { return l.service.Stats.Held.Load() == 1 })
	if err := l.refused(""); !isReset(err) {
		t.Errorf("the second: %v", err)
	}
	if _, err := readLine(first); !isReset(err) {
		t.Errorf("the first, when it had waited: %v", err)
	}
	l.last(EndShed)
	l.until("shut", func() bool { return l.service.Where().State == frontend.Shut })
	if err := l.refused(""); !isReset(err) {
		t.Errorf("when it is shut: %v", err)
	}
}

// A client that goes while it waits gives its place back.
func TestHeldClientGoes(t *testing.T) {
	l := newLab(t, twoSites(t))
	c := l.dial()
	l.until("held", func() bool { return l.table.Reports()[0].Held == 1 })
	_ = c.SetLinger(0)
	_ = c.Close()
	l.last(EndClient)
	l.until("given back", func() bool { return l.table.Reports()[0].Held == 0 })
}

func TestHalfClose(t *testing.T) {
	// The back end answers when the client is through, and the other way round.
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		talk  func(*net.TCPConn) (string, error)
		want  string
	}{
		{"client first", func(c net.Conn) {
			b, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte("got "), b...))
		}, func(c *net.TCPConn) (string, error) {
			_, _ = io.WriteString(c, "all")
			_ = c.CloseWrite()
			b, err := io.ReadAll(c)
			return string(b), err
		}, "got all"},
		{"server first", func(c net.Conn) {
			_, _ = io.WriteString(c, "bye")
			_ = c.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(c)
			if string(b) != "more" {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
		}, func(c *net.TCPConn) (string, error) {
			b, err := io.ReadAll(c)
			if err == nil {
				_, err = io.WriteString(c, "more")
			}
			return string(b), err
		}, "bye"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, spec(map[draas.SiteID][]string{"primary": {backend(t, c.serve)}}))
			l.decide(1, "primary")
			conn := l.dial()
			if got, err := c.talk(conn); got != c.want || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			_ = conn.Close()
			l.last(EndClosed)
		})
	}
}

// Much goes both ways at once and unchanged, also when one side is slow.
func TestBulk(t *testing.T) {
	const size = 24 << 20
	address := backend(t, func(c net.Conn) { // sends back what it gets
		var wg sync.WaitGroup
		pr, pw := io.Pipe()
		wg.Go(func() {
			_, err := io.Copy(c, pr)
			_ = pr.CloseWithError(err)
			_ = c.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(pw, c)
		_ = pw.Close()
		wg.Wait()
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}))
	l.decide(1, "primary")
	out := make([]byte, size)
	_, _ = rand.Read(out)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, slow := range []bool{false, true} {
		c := l.dial()
		wg.Go(func() {
			_, _ = c.Write(out)
			_ = c.CloseWrite()
		})
		wg.Go(func() {
			if slow {
				<-time.After(300 * time.Millisecond) // until nobody takes anything any more
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, out) {
				t.Errorf("%d bytes came back, %v, slow: %v", len(got), err, slow)
			}
		})
	}
	wg.Wait()
	l.until("counted", func() bool { return l.service.Stats.Site("primary").Out.Load() == 2*size })
}

func TestResetIsPassedOn(t *testing.T) {
	fromClient := make(chan error, 1)
	address := backend(t, func(c net.Conn) {
		line, err := readLine(c)
		if line == "reset" {
			_, _ = io.WriteString(c, "last words\n")
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		}
		if err == nil {
			_, err = readLine(c)
		}
		fromClient <- err
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}))
	l.decide(1, "primary")
	c := l.dial()
	_, _ = io.WriteString(c, "wait\n")
	l.until("led", func() bool { return l.service.Stats.Site("primary").In.Load() == 5 })
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-fromClient; !isReset(err) {
		t.Errorf("the back end sees %v", err)
	}
	l.last(EndClient)

	c = l.dial()
	_, _ = io.WriteString(c, "reset\n")
	b, err := io.ReadAll(c)
	if !isReset(err) || string(b) != "last words\n" {
		t.Errorf("the client sees %q, %v", b, err)
	}
	l.last(EndServer)
	l.until("told", func() bool { return l.evidence(frontend.Reset) })
}

// A back end that answers before it has heard all, and hangs up, is heard.
func TestEarlyAnswerIsPassedOn(t *testing.T) {
	address := backend(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 1<<20))
		_, _ = io.WriteString(c, "too much\n") // and the rest is not read: a reset follows
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}))
	l.decide(1, "primary")
	for range 10 {
		c := l.dial()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(c, bytes.NewReader(make([]byte, 16<<20))) })
		b, _ := io.ReadAll(c)
		_ = c.Close()
		wg.Wait()
		if string(b) != "too much\n" {
			t.Fatalf("the client hears %q", b)
		}
	}
}

func TestSilenceIsTold(t *testing.T) {
	address := backend(t, func(c net.Conn) {
		_, _ = readLine(c)
		_, _ = readLine(c)
		_, _ = io.WriteString(c, "late\n")
		_, _ = readLine(c)
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}), func(c *Config) { c.Silence = 20 * time.Millisecond })
	l.decide(1, "primary")
	c := l.dial()
	_, _ = io.WriteString(c, "hello\n")
	l.until("told", func() bool { return l.evidence(frontend.Silent) })
	l.want(c, "again", "late") // it goes on
}

func TestIdleConnectionsEnd(t *testing.T) {
	l := newLab(t, twoSites(t), func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
	l.decide(1, "primary")
	c := l.dial()
	start := time.Now()
	for time.Since(start) < 200*time.Millisecond {
		l.want(c, "hello", "primary hello")
		<-time.After(20 * time.Millisecond)
	}
	if _, err := readLine(c); err != io.EOF {
		t.Errorf("%v", err)
	}
	l.last(EndIdle)
}

func TestPermitEnds(t *testing.T) {
	l := newLab(t, twoSites(t))
	l.apply(frontend.Decision{Epoch: 1, Site: "primary", Permit: 200 * time.Millisecond})
	c := l.dial()
	l.want(c, "hello", "primary hello")
	if _, err := readLine(c); !isReset(err) {
		t.Errorf("%v", err)
	}
	l.last(EndMoved)
}

func TestDrain(t *testing.T) {
	l := newLab(t, twoSites(t), func(c *Config) { c.Drain = 10 * time.Second })
	l.decide(1, "primary")
	c := l.dial()
	l.want(c, "hello", "primary hello")
	ended := make(chan struct{})
	go func() { l.stop(); close(ended) }()
	l.until("closed", func() bool {
		c, err := net.Dial("tcp", l.address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	l.want(c, "still", "primary still")
	_ = c.Close()
	<-ended
	l.last(EndClosed)
}

func TestStopsWhenDrainIsOver(t *testing.T) {
	l := newLab(t, twoSites(t))
	l.decide(1, "primary")
	c := l.dial()
	l.want(c, "hello", "primary hello")
	l.stop()
	if _, err := readLine(c); !isReset(err) {
		t.Errorf("%v", err)
	}
	l.last(EndShutdown)
}

// A client that was caught in its handshake by a site that says nothing, or
// resets, is led on: it has asked for nothing yet. So is one that has said
// nothing. Who has said more is reset.
func TestHandshakesAreLedAnew(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	for name, serve := range map[string]func(net.Conn){
		"hangs":  func(net.Conn) { <-stuck },
		"resets": func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 100)); _ = c.(*net.TCPConn).SetLinger(0) },
	} {
		l := newLab(t, spec(map[draas.SiteID][]string{"primary": {backend(t, serve)}, "dr": {secret(t, "dr")}}), func(c *Config) {
			c.Silence = 10 * time.Millisecond
		})
		l.decide(1, "primary")
		silent, plain := l.dial(), l.dial()
		_, _ = io.WriteString(plain, strings.Repeat("GET / HTTP/1.1\r\n", 10))
		client := tls.Client(l.dial(), &tls.Config{ServerName: "shop.example.org", InsecureSkipVerify: true})
		answered := make(chan error, 1)
		go func() {
			got, err := ask(client, "hello")
			if err == nil && got != "dr hello" {
				err = errors.New(got)
			}
			answered <- err
		}()
		if name == "hangs" {
			l.until("told", func() bool { return l.evidence(frontend.Silent) })
			l.decide(2, "dr")
			if err := <-answered; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			again := tls.Client(silent, &tls.Config{InsecureSkipVerify: true})
			l.want(again, "hello", "dr hello")
			if n := l.service.Stats.Replayed.Load(); n != 1 {
				t.Errorf("%d replayed", n)
			}
		} else if err := <-answered; !isReset(err) {
			t.Errorf("%s, again and again: %v", name, err)
		}
		if _, err := readLine(plain); !isReset(err) {
			t.Errorf("%s: who had asked for something: %v", name, err)
		}
	}
}

// Who has heard something, or has said more than a hello, is reset.
func TestOthersAreNotLedAnew(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {backend(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "banner\n")
		<-stuck
	})}, "dr": {echo(t, "dr")}, "mute": {backend(t, func(net.Conn) { <-stuck })}}))
	l.decide(1, "primary")
	greeted := l.dial()
	if _, err := readLine(greeted); err != nil {
		t.Fatal(err)
	}
	l.decide(2, "mute")
	more := l.dial()
	first := append(hello(t, &tls.Config{ServerName: "shop.example.org"}), 20, 3, 3, 0, 1, 1)
	_, _ = more.Write(first)
	l.until("sent", func() bool { return l.service.Stats.Site("mute").In.Load() == int64(len(first)) })
	l.decide(3, "dr")
	for name, c := range map[string]net.Conn{"who was greeted": greeted, "who has said more": more} {
		if got, err := readLine(c); !isReset(err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestOnlyHello(t *testing.T) {
	plain := hello(t, &tls.Config{ServerName: "shop.example.org"})
	at := strings.Index(string(plain), "shop.example.org") - 9
	early := rebuilt(plain, at, []byte{0, 42, 0, 0})
	if _, err := serverName(early); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"a hello": {plain, true}, "in small records": {cut(plain, 50), true},
		"with more behind it": {append(plain[:len(plain):len(plain)], 20), false}, "a part of one": {plain[:len(plain)-1], false},
		"with early data": {early, false}, "HTTP": {[]byte("GET / HTTP/1.1\r\n"), false},
	} {
		if got := onlyHello(c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
