package quorum_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
)

func TestTransportCarriesMessages(t *testing.T) {
	p := newPair(t, nil, nil)
	defer p.b.stop()
	defer p.a.stop()
	p.connect(t)
	big := strings.Repeat("x", quorum.MaxMessage)
	p.a.Send(message("primary", "dr", "hello"))
	p.a.Send(message("primary", "dr", big))
	p.a.Send(message("primary", "dr", big+strings.Repeat("x", 2000))) // too large: dropped
	p.a.Send(message("primary", "elsewhere", "nobody"))
	p.b.Send(message("dr", "primary", "back"))
	eventually(t, "messages there", func() bool { return len(p.b.received()) == 2 && len(p.a.received()) == 1 })
	if got := p.b.received(); got[0] != "primary:hello" || got[1] != "primary:"+big {
		t.Errorf("received %.40q", got)
	}
	if s := p.a.peer("dr"); s.Sent != 2 || s.Dropped != 1 {
		t.Errorf("sent %d, dropped %d", s.Sent, s.Dropped)
	}
	eventually(t, "a beat has come back", func() bool { return p.a.peer("dr").RoundTrip > 0 })
}

func TestPingNeedsTheMainLoop(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.a.Ping(ctx, "dr"); err != nil {
		t.Error(err)
	}
	p.b.mu.Lock()
	p.b.deaf = true
	p.b.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := p.a.Ping(short, "dr"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ping of a stuck daemon: %v", err)
	}
	p.b.stop()
	eventually(t, "connection lost", func() bool { return !p.a.peer("dr").Connected })
	if err := p.a.Ping(ctx, "dr"); !errors.Is(err, quorum.ErrNotConnected) {
		t.Errorf("ping of a dead daemon: %v", err)
	}
	if err := p.a.Ping(ctx, "elsewhere"); !errors.Is(err, quorum.ErrNotMember) {
		t.Errorf("ping of a stranger: %v", err)
	}
}

func TestPeerDownAndBack(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	before := p.a.downs()
	start := time.Now()
	p.b.stop()
	eventually(t, "loss reported", func() bool { return p.a.downs() > before })
	t.Logf("loss reported after %v", time.Since(start))
	ln, err := net.Listen("tcp", p.lb)
	if err != nil {
		t.Fatal(err)
	}
	p.b = startPeer(t, "dr", ln, map[draas.MemberID]string{"primary": p.la}, p.b.files, nil)
	p.connect(t)
	if l := p.a.log.String(); strings.Contains(l, "two daemons") {
		t.Errorf("a restarted peer was taken for a second one: %s", l)
	}
	if d := p.b.downs(); d > 0 {
		t.Errorf("the restarted peer was told %d losses", d)
	}
}

// A peer that falls silent is noticed.
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	la, lb := listen(t), listen(t)
	relay := newRelay(t, lb.Addr().String())
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": relay.addr()}, identity(t, ca, ca, "primary", valid()), nil)
	startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": la.Addr().String()}, identity(t, ca, ca, "dr", valid()), nil)
	eventually(t, "connected", func() bool { return a.peer("dr").Connected })
	relay.freeze(true)
	eventually(t, "silence noticed", func() bool { return !a.peer("dr").Connected })
	if err := a.peer("dr").Err; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection ended with %v", err)
	}
	if a.downs() > 0 {
		t.Error("silence was reported as a closed connection")
	}
	relay.freeze(false)
	eventually(t, "connected again", func() bool { return a.peer("dr").Connected })
}

// A machine that lost its power and is back is let in, under its new
// incarnation, as soon as its old connections are known to be dead.
func TestPowerLossIsNotADuplicate(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	la, lb := listen(t), listen(t)
	toA, toB := newRelay(t, la.Addr().String()), newRelay(t, lb.Addr().String())
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": toB.addr()}, identity(t, ca, ca, "primary", valid()), nil)
	b := startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": toA.addr()}, identity(t, ca, ca, "dr", valid()), nil)
	eventually(t, "connected", func() bool { return a.peer("dr").Connected && a.peer("dr").Inbound })
	toA.strand()
	toB.strand()
	b.stop()
	ln, err := net.Listen("tcp", lb.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	again := startPeer(t, "dr", ln, map[draas.MemberID]string{"primary": toA.addr()}, b.files, nil)
	eventually(t, "refused at first", func() bool { return errors.Is(again.peer("primary").Err, quorum.ErrDuplicate) })
	eventually(t, "back", func() bool {
		s := a.peer("dr")
		return s.Connected && s.Inbound && again.peer("primary").Connected
	})
	if d := time.Since(start); d > 6*time.Second {
		t.Errorf("back after %v", d)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	other := quorum.ClusterID{7}
	cases := map[string]struct {
		change func(*quorum.TransportConfig)
		files  func(t *testing.T, ca *quorum.CA) quorum.TLSFiles
		log    string // of the one that refuses
		err    error  // of the one that is refused
	}{
		"foreign CA": {
			files: func(t *testing.T, ca *quorum.CA) quorum.TLSFiles {
				return identity(t, authority(t), ca, "dr", valid())
			},
			log: "certificate signed by unknown authority",
		},
		"expired": {
			files: func(t *testing.T, ca *quorum.CA) quorum.TLSFiles { return identity(t, ca, ca, "dr", expired()) },
			log:   "certificate has expired",
		},
		"other cluster": {
			change: func(c *quorum.TransportConfig) { c.Cluster = other },
			log:    "belongs to another cluster",
			err:    quorum.ErrForeignCluster,
		},
		"no member": {
			change: func(c *quorum.TransportConfig) { c.Self = "elsewhere" },
			files: func(t *testing.T, ca *quorum.CA) quorum.TLSFiles {
				return identity(t, ca, ca, "elsewhere", valid())
			},
			log: "certificate is not that member",
			err: quorum.ErrNotMember,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var files func(*quorum.CA) quorum.TLSFiles
			if c.files != nil {
				files = func(ca *quorum.CA) quorum.TLSFiles { return c.files(t, ca) }
			}
			p := newPair(t, c.change, files)
			eventually(t, "refused and logged", func() bool {
				return p.a.Refused() > 0 && strings.Contains(p.a.log.String(), c.log) && p.b.peer("primary").Err != nil
			})
			if err := p.b.peer("primary").Err; c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("the refused one knows of %v", err)
			}
			// Nor is it believed when it is dialled.
			eventually(t, "dialled and refused", func() bool { return p.a.peer("dr").Err != nil })
			if a, b := p.a.peer("dr"), p.b.peer("primary"); a.Connected || a.Inbound || b.Connected || b.Inbound {
				t.Errorf("connected: %+v, %+v", a, b)
			}
		})
	}
}

// The member that answers at an address must be the one that was dialled.
func TestWrongMemberAtAddress(t *testing.T) {
	ca := authority(t)
	la, lb := listen(t), listen(t)
	peers := map[draas.MemberID]string{"dr": lb.Addr().String(), "witness": lb.Addr().String()}
	a := startPeer(t, "primary", la, peers, identity(t, ca, ca, "primary", valid()), nil)
	startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": la.Addr().String(), "witness": "127.0.0.1:1"}, identity(t, ca, ca, "dr", valid()), nil)
	eventually(t, "refused", func() bool { return errors.Is(a.peer("witness").Err, quorum.ErrNotMember) && a.peer("dr").Connected })
}

func TestNewTransportChecksIdentity(t *testing.T) {
	ca := authority(t)
	cfg := quorum.TransportConfig{
		Self: "dr", Cluster: testCluster, Incarnation: 1, Listen: "127.0.0.1:0", Peers: map[draas.MemberID]string{"primary": "127.0.0.1:1"},
		TLS: identity(t, ca, ca, "primary", valid()), Log: quietLog(t),
		Inbox: func(quorum.Message) {}, PeerDown: func(draas.MemberID) {}, Asked: func(draas.MemberID, func()) {},
	}
	if _, err := quorum.NewTransport(cfg); !errors.Is(err, quorum.ErrNotMember) {
		t.Errorf("another member's certificate: %v", err)
	}
	cfg.TLS.Key = filepath.Join(t.TempDir(), "none")
	if _, err := quorum.NewTransport(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	cfg.TLS = identity(t, ca, ca, "dr", valid())
	tr, err := quorum.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = tr.Addr().String()
	if _, err := quorum.NewTransport(cfg); err == nil {
		t.Error("two transports listen at one address")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// A copy of a member elsewhere, with its certificate, is refused while the
// member lives, and never gets anything that is meant for it.
func TestDuplicateIsRefused(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	clone := startPeer(t, "dr", listen(t), map[draas.MemberID]string{"primary": p.la}, p.b.files, nil)
	eventually(t, "refused", func() bool { return errors.Is(clone.peer("primary").Err, quorum.ErrDuplicate) })
	eventually(t, "refused again", func() bool { return p.a.Refused() >= 3 })
	p.a.Send(message("primary", "dr", "secret"))
	p.b.Send(message("dr", "primary", "from the real one"))
	clone.Send(message("dr", "primary", "from the copy"))
	eventually(t, "messages there", func() bool { return len(p.a.received()) > 0 && len(p.b.received()) > 0 })
	if got := p.a.received(); len(got) != 1 || got[0] != "dr:from the real one" {
		t.Errorf("received %q", got)
	}
	if got := clone.received(); len(got) > 0 {
		t.Errorf("the copy received %q", got)
	}
	if n := strings.Count(p.a.log.String(), "two daemons claim to be dr"); n != 1 {
		t.Errorf("logged %d times: %s", n, p.a.log)
	}
	if !strings.Contains(clone.log.String(), "level=ERROR") {
		t.Errorf("the copy was not told: %s", clone.log)
	}
}

// A copy that came first has to go when the member answers at its address, and
// a member that comes back is let in when the old connection is gone.
func TestAddressDecidesWhoIsReal(t *testing.T) {
	ca := authority(t)
	la, lb := listen(t), listen(t)
	addr := lb.Addr().String()
	lb.Close()
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": addr}, identity(t, ca, ca, "primary", valid()), nil)
	files := identity(t, ca, ca, "dr", valid())
	clone := startPeer(t, "dr", listen(t), map[draas.MemberID]string{"primary": la.Addr().String()}, files, nil)
	eventually(t, "the copy is in", func() bool { return clone.peer("primary").Connected && a.peer("dr").Inbound })
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b := startPeer(t, "dr", ln, map[draas.MemberID]string{"primary": la.Addr().String()}, files, nil)
	eventually(t, "the real one is in", func() bool { return a.peer("dr").Connected && b.peer("primary").Connected })
	eventually(t, "the copy is out", func() bool { return errors.Is(clone.peer("primary").Err, quorum.ErrDuplicate) })
}

// Certificates are renewed by replacing the files.
func TestCertificatesAreReadAgain(t *testing.T) {
	p := newPair(t, nil, func(ca *quorum.CA) quorum.TLSFiles { return identity(t, ca, ca, "dr", expired()) })
	eventually(t, "refused", func() bool { return p.a.Refused() > 0 })
	if !strings.Contains(p.b.log.String(), "own certificate has expired") {
		t.Errorf("not said at the start: %s", p.b.log)
	}
	id, err := p.ca.Issue("dr", nil, valid())
	if err != nil {
		t.Fatal(err)
	}
	// In the middle of a renewal key and certificate do not fit.
	if err := os.WriteFile(p.b.files.Cert, id.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticed", func() bool { return strings.Contains(p.b.log.String(), "certificates cannot be read") })
	if err := os.WriteFile(p.b.files.Key, id.KeyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	p.connect(t)
}

func TestGarbageOnThePort(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	files := identity(t, p.ca, p.ca, "dr", valid())
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	inTLS := func(data []byte) func() {
		return func() {
			conn, err := tls.Dial("tcp", p.la, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = conn.Write(data)
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q was not hung up on", data)
			}
		}
	}
	plain := func(data []byte) func() {
		return func() {
			conn, err := net.Dial("tcp", p.la)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = conn.Write(data)
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q was not hung up on", data)
			}
		}
	}
	attacks := map[string]func(){
		"http":              plain([]byte("GET / HTTP/1.1\r\n\r\n")),
		"zeros":             plain(make([]byte, 1<<20)),
		"huge frame":        inTLS([]byte{0xff, 0xff, 0xff, 0xff, 1}),
		"large handshake":   inTLS(append([]byte{0, 0, 0x20, 0}, make([]byte, 0x2000)...)),
		"empty frame":       inTLS([]byte{0, 0, 0, 0}),
		"message, no hello": inTLS([]byte{0, 0, 0, 2, 4, 1}),
		"not a hello":       inTLS([]byte{0, 0, 0, 5, 1, 'a', 'b', 'c', 'd'}),
	}
	for name, attack := range attacks {
		before := p.a.Refused()
		attack()
		eventually(t, name+" counted", func() bool { return p.a.Refused() > before })
	}
	if n := strings.Count(p.a.log.String(), "connection refused"); n != 1 {
		t.Errorf("%d kinds of garbage were logged %d times: %s", len(attacks), n, p.a.log)
	}
	p.b.Send(message("dr", "primary", "still there"))
	eventually(t, "still works", func() bool { return slices.Contains(p.a.received(), "dr:still there") })
}

// Many that connect and say nothing do not keep a peer out.
func TestIdleConnectionsDoNotCrowdPeersOut(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 200 {
		c, err := net.Dial("tcp", p.la)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	eventually(t, "the oldest were closed", func() bool { return p.a.Refused() >= 200-64 })
	p.b.stop()
	ln, err := net.Listen("tcp", p.lb)
	if err != nil {
		t.Fatal(err)
	}
	p.b = startPeer(t, "dr", ln, map[draas.MemberID]string{"primary": p.la}, p.b.files, nil)
	start := time.Now()
	p.connect(t)
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("the peer needed %v to come in", d)
	}
}

// More than can be sent is dropped, not kept.
func TestQueueIsBounded(t *testing.T) {
	ca := authority(t)
	la, lb := listen(t), listen(t)
	relay := newRelay(t, lb.Addr().String())
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": relay.addr()}, identity(t, ca, ca, "primary", valid()), nil)
	startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": la.Addr().String()}, identity(t, ca, ca, "dr", valid()), nil)
	a.Send(message("primary", "dr", "nobody there yet"))
	eventually(t, "connected", func() bool { return a.peer("dr").Connected })
	relay.freeze(true)
	big := strings.Repeat("x", 1<<20)
	for range 100 {
		a.Send(message("primary", "dr", big))
	}
	if d := a.peer("dr").Dropped; d < 40 {
		t.Errorf("dropped %d of 100 messages of 1 MiB", d)
	}
	for i := range 5000 {
		a.Send(message("primary", "dr", fmt.Sprint(i)))
	}
	if d := a.peer("dr").Dropped; d < 3000 {
		t.Errorf("dropped %d of 5000 small messages", d)
	}
}

// Where the member's address cannot be dialled, the daemon that came first is
// the member, until its connection is gone.
func TestFirstComerIsTheMember(t *testing.T) {
	ca := authority(t)
	la := listen(t)
	nowhere := listen(t)
	addr := nowhere.Addr().String()
	nowhere.Close()
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": addr}, identity(t, ca, ca, "primary", valid()), nil)
	files := identity(t, ca, ca, "dr", valid())
	peers := map[draas.MemberID]string{"primary": la.Addr().String()}
	first := startPeer(t, "dr", listen(t), peers, files, nil)
	eventually(t, "the first is in", func() bool { return first.peer("primary").Connected && a.peer("dr").Inbound })
	before := a.downs() // dialled and refused before the peer was heard
	second := startPeer(t, "dr", listen(t), peers, files, nil)
	eventually(t, "the second is refused", func() bool { return errors.Is(second.peer("primary").Err, quorum.ErrDuplicate) })
	refused := a.Refused() // meanwhile the first member dials in vain as often
	eventually(t, "it has tried for a while", func() bool { return a.Refused() >= refused+3 })
	if a.downs() > before {
		t.Error("a peer that is heard was reported lost because its address refuses")
	}
	first.stop()
	eventually(t, "the second is let in", func() bool { return second.peer("primary").Connected })
	if a.downs() == before {
		t.Error("the loss of the first was not reported")
	}
}

// A member cannot pass itself off as another, neither when it calls nor when it
// is called.
func TestMemberCannotImpersonateAnother(t *testing.T) {
	ca := authority(t)
	la, fake := listen(t), listen(t)
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": fake.Addr().String(), "witness": "127.0.0.1:1"},
		identity(t, ca, ca, "primary", valid()), nil)
	files := identity(t, ca, ca, "witness", valid())
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	// Called: it answers at the address of dr, in the name of dr.
	server := tls.NewListener(fake, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer server.Close()
	wg.Go(func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(quorum.Hello(true, testCluster, "dr", "primary"))
			conn.Close()
		}
	})
	eventually(t, "refused", func() bool { return errors.Is(a.peer("dr").Err, quorum.ErrNotMember) })
	// Calling: in the name of dr, of the called one, and for somebody else.
	for _, h := range [][2]draas.MemberID{{"dr", "primary"}, {"primary", "primary"}, {"witness", "dr"}} {
		before := a.Refused()
		conn, err := tls.Dial("tcp", la.Addr().String(), &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(quorum.Hello(false, testCluster, h[0], h[1])); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || len(answer) < 6 || answer[4] != 3 {
			t.Errorf("%s calling %s was answered %q, %v", h[0], h[1], answer, err)
		}
		conn.Close()
		eventually(t, "counted", func() bool { return a.Refused() > before })
	}
}
