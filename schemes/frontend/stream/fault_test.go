package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Connections of a process that is short of descriptors wait, none is lost, and
// nothing is said of the back end.
func TestOutOfDescriptors(t *testing.T) {
	leads := start(t, "backend")
	p := start(t, "proxy", envLeads+"="+leads.address, envFiles+"=64")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 100 {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		conns = append(conns, c)
	}
	served := 0
	buf := make([]byte, 512)
	for _, c := range conns {
		if _, err := io.WriteString(c, benchRequest); err != nil {
			t.Fatal(err)
		}
	}
	// As those that were served go, the others get their turn.
	for len(conns) > 0 {
		c := conns[0]
		conns = conns[1:]
		if _, err := c.Read(buf); err == nil {
			served++
		} else if !isReset(err) {
			t.Errorf("%v", err)
		}
		_ = c.Close()
	}
	if served < 100 {
		t.Errorf("%d of 100 were served", served)
	}
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := roundTrip(c, benchRequest, len(benchAnswer)+128, buf); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A back end that is stopped takes connections and says nothing: the members
// are asked, and the move ends what hangs.
func TestStoppedBackEnd(t *testing.T) {
	hangs := start(t, "backend")
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {hangs.address}, "dr": {echo(t, "dr")}}), func(c *Config) { c.Silence = 30 * time.Millisecond })
	l.decide(1, "primary")
	c := l.dial()
	if err := roundTrip(c, benchRequest, len(benchAnswer)+128, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	hangs.pause(t)
	_, _ = io.WriteString(c, benchRequest)
	l.until("told", func() bool { return l.evidence(frontend.Silent) })
	l.decide(2, "dr")
	if _, err := readLine(c); !isReset(err) {
		t.Errorf("%v", err)
	}
	l.want(l.dial(), "hello", "dr hello")
}

// A server that does not answer the handshake costs its clients little, and one
// that refuses nothing, as long as the site has another.
func TestOtherServersOfTheSite(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for name, bad := range map[string]string{"deaf": deaf(t), "refusing": gone.Addr().String()} {
		l := newLab(t, spec(map[draas.SiteID][]string{"primary": {bad, echo(t, "good")}}), func(c *Config) { c.ConnectTimeout = 5 * time.Second })
		l.decide(1, "primary")
		start := time.Now()
		for range 6 {
			l.want(l.dial(), "hello", "good hello")
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: after %s", name, took)
		}
		if told := l.evidence(frontend.Refused); told != (name == "refusing") {
			t.Errorf("%s: told %v", name, told)
		}
	}
}

// A site that does not answer handshakes at all is left as soon as another one
// is active.
func TestDeafSite(t *testing.T) {
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {deaf(t)}, "dr": {echo(t, "dr")}}), func(c *Config) { c.ConnectTimeout = 50 * time.Millisecond })
	l.decide(1, "primary")
	first := l.dial()
	l.until("told", func() bool { return l.evidence(frontend.Unreachable) })
	second := l.dial()
	l.decide(2, "dr")
	l.want(first, "hello", "dr hello")
	l.want(second, "hello", "dr hello")
}

// However long a dial may take: it ends when there is another decision, with the
// ones beside it.
func TestDialsEndWithTheirDecision(t *testing.T) {
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {deaf(t), deaf(t)}, "dr": {echo(t, "dr")}}), func(c *Config) { c.ConnectTimeout = 15 * time.Second })
	l.decide(1, "primary")
	c := l.dial()
	balancer := l.server.setting.Load().rest.dialer.Balancer
	l.until("trying both", func() bool {
		both := balancer.Servers("primary")
		return both[0].Connections() == 1 && both[1].Connections() == 1
	})
	l.decide(2, "dr")
	start := time.Now()
	l.want(c, "hello", "dr hello")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("after %s", took)
	}
}

// deaf is an address where a handshake is never answered: its queue is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	a := localAddr(int32(fd)).String()
	for {
		c, err := net.DialTimeout("tcp", a, 50*time.Millisecond)
		if err != nil && frontend.Classify(err) == frontend.Silent {
			return a
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// While one site after the other is active and the file is read again, every
// connection is answered by one site only, and by the one that was active at
// some time while it was led; and nothing but moves ends one.
func TestMovesAndReloadsUnderLoad(t *testing.T) {
	l := newLab(t, twoSites(t))
	l.decide(1, "primary")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := make(map[string]int)
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", l.address)
				if isReset(err) {
					continue // by a move, before this end came to see it connected
				}
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				site := ""
				for range 20 {
					answer, err := ask(c, "x")
					if err != nil {
						if !isReset(err) && !errors.Is(err, syscall.EPIPE) {
							t.Errorf("%v", err)
						}
						break
					}
					if site == "" {
						site = answer
					}
					if answer != site {
						t.Errorf("%q after %q on one connection", answer, site)
					}
					mu.Lock()
					answers[answer]++
					mu.Unlock()
				}
				_ = c.Close()
			}
		})
	}
	for epoch := draas.Epoch(2); epoch < 30; epoch++ {
		site := draas.SiteID("primary")
		if epoch%2 == 0 {
			site = "dr"
		}
		if epoch%3 == 0 {
			l.apply(frontend.Decision{Epoch: epoch - 1, Site: map[bool]draas.SiteID{true: "dr", false: "primary"}[site == "primary"], Moving: true})
			<-time.After(2 * time.Millisecond)
		}
		if err := l.server.Use(l.config()); err != nil {
			t.Fatal(err)
		}
		l.decide(epoch, site)
		<-time.After(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if answers["primary x"] == 0 || answers["dr x"] == 0 || len(answers) != 2 {
		t.Errorf("answered %v", answers)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.ended {
		if a.End != EndMoved && a.End != EndClosed && a.End != EndClient {
			t.Errorf("ended: %+v", a)
			break
		}
	}
}

// A planned move loses nothing: who is connected is waited for, who comes is
// held, and is led to the new site.
func TestPlannedMoveLosesNothing(t *testing.T) {
	l := newLab(t, twoSites(t))
	l.decide(1, "primary")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", l.address)
				if err == nil {
					_ = c.SetDeadline(time.Now().Add(20 * time.Second))
					_, err = ask(c, "x")
					_ = c.Close()
				}
				if err != nil {
					t.Errorf("connection %d: %v", n, err)
					return
				}
			}
		})
	}
	sites := []draas.SiteID{"primary", "dr"}
	for epoch := draas.Epoch(1); epoch < 12; epoch++ {
		from, to := sites[(epoch+1)%2], sites[epoch%2]
		l.apply(frontend.Decision{Epoch: epoch, Site: from, Moving: true})
		l.until("drained", func() bool { return l.table.Reports()[0].Flights == 0 })
		l.apply(frontend.Decision{Epoch: epoch, Site: from, Moving: true, Released: true})
		l.decide(epoch+1, to)
		<-time.After(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if l.service.Stats.Held.Load() == 0 || l.service.Stats.Shed.Load() != 0 {
		t.Errorf("%d held, %d shed", l.service.Stats.Held.Load(), l.service.Stats.Shed.Load())
	}
}

// A client that is gone without a word takes nothing along: what it would get
// is kept within bounds, and it ends when its kernel gives up. Here it does not
// read.
func TestClientThatDoesNotRead(t *testing.T) {
	sent := make(chan int, 1)
	address := backend(t, func(c net.Conn) {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, _ := io.Copy(c, bytes.NewReader(make([]byte, 64<<20)))
		sent <- int(n)
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}))
	l.decide(1, "primary")
	c := l.dial()
	_ = c.SetReadBuffer(16 << 10)
	n := <-sent
	if n > 32<<20 {
		t.Errorf("%d MiB were taken of the back end", n>>20)
	}
	_ = c.SetLinger(0)
	_ = c.Close()
	l.last(EndClient)
}

// A connection that does nothing costs little, and all of it is given back.
func TestIdleConnectionsAreSmall(t *testing.T) {
	leads := start(t, "backend")
	p := start(t, "proxy", envLeads+"="+leads.address)
	open := func(n int) (conns []net.Conn) {
		for range n {
			c, err := net.Dial("tcp", p.address)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if err := roundTrip(c, benchRequest, len(benchAnswer)+128, make([]byte, 512)); err != nil {
				t.Fatal(err)
			}
		}
		return conns
	}
	first := open(50)
	before := p.field(t, "VmRSS")
	const n = 200
	conns := append(open(n), first...)
	if each := float64(p.field(t, "VmRSS")-before) / n; each > 20 && !raced {
		t.Errorf("%.1f KiB each", each)
	} else {
		t.Logf("%.1f KiB each", each)
	}
	// What streamed has given its pipe back.
	for _, c := range conns[:100] {
		head := len(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", bigBody))
		if err := roundTrip(c, bigRequest, head+bigBody, make([]byte, 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if files := countFiles(t, fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)); files > 2*len(conns)+2*spares+40 {
		t.Errorf("%d descriptors for %d connections", files, len(conns))
	}
	for _, c := range conns {
		_ = c.Close()
	}
	files := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	for deadline := time.Now().Add(10 * time.Second); countFiles(t, files) > 40; {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are left", countFiles(t, files))
		}
		<-time.After(10 * time.Millisecond)
	}
}
