package quorum_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
)

// peerTest is a transport under test, and what it has reported.
type peerTest struct {
	*quorum.Transport
	id    draas.MemberID
	files quorum.TLSFiles
	log   *lockedBuffer
	stop  func()

	mu       sync.Mutex
	messages []quorum.Message
	down     []draas.MemberID
	deaf     bool // does not answer pings
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (p *peerTest) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, m := range p.messages {
		all = append(all, string(m.From)+":"+string(m.Data))
	}
	return all
}

func (p *peerTest) downs() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.down)
}

func (p *peerTest) peer(id draas.MemberID) quorum.PeerStatus {
	for _, s := range p.Status() {
		if s.Member == id {
			return s
		}
	}
	return quorum.PeerStatus{}
}

// authority is a CA for tests.
func authority(t testing.TB) *quorum.CA {
	t.Helper()
	ca, err := quorum.NewCA("test", valid())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func valid() quorum.Validity {
	return quorum.Validity{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}
}

func expired() quorum.Validity {
	return quorum.Validity{From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(-time.Hour)}
}

// identity writes a member's TLS files; trust is the CA that it believes.
func identity(t testing.TB, ca, trust *quorum.CA, member draas.MemberID, v quorum.Validity) quorum.TLSFiles {
	t.Helper()
	id, err := ca.Issue(member, []string{"127.0.0.1"}, v)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := quorum.TLSFiles{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "member.crt"), Key: filepath.Join(dir, "member.key")}
	for name, data := range map[string][]byte{f.CA: trust.CertPEM, f.Cert: id.CertPEM, f.Key: id.KeyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// startPeer runs a transport until the test ends, or its stop is called.
func startPeer(t testing.TB, id draas.MemberID, ln net.Listener, peers map[draas.MemberID]string, files quorum.TLSFiles, change func(*quorum.TransportConfig)) *peerTest {
	t.Helper()
	p := &peerTest{id: id, files: files, log: &lockedBuffer{}}
	cfg := quorum.TransportConfig{
		Self: id, Cluster: testCluster, Incarnation: draas.Incarnation(time.Now().UnixNano()), Listener: ln, Peers: peers, TLS: files,
		Log: slog.New(slog.NewTextHandler(p.log, nil)),
		Inbox: func(m quorum.Message) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.messages = append(p.messages, m)
		},
		PeerDown: func(m draas.MemberID) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.down = append(p.down, m)
		},
		Asked: func(_ draas.MemberID, answer func()) {
			p.mu.Lock()
			deaf := p.deaf
			p.mu.Unlock()
			if !deaf {
				answer()
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	tr, err := quorum.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Transport = tr
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", id, err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// eventually polls until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// pair is two members that know each other's address.
type pair struct {
	a, b   *peerTest
	ca     *quorum.CA
	la, lb string // addresses
}

func newPair(t testing.TB, changeB func(*quorum.TransportConfig), filesB func(ca *quorum.CA) quorum.TLSFiles) *pair {
	t.Helper()
	ca := authority(t)
	la, lb := listen(t), listen(t)
	p := &pair{ca: ca, la: la.Addr().String(), lb: lb.Addr().String()}
	fb := quorum.TLSFiles{}
	if filesB != nil {
		fb = filesB(ca)
	} else {
		fb = identity(t, ca, ca, "dr", valid())
	}
	p.a = startPeer(t, "primary", la, map[draas.MemberID]string{"dr": p.lb}, identity(t, ca, ca, "primary", valid()), nil)
	p.b = startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": p.la}, fb, changeB)
	return p
}

func (p *pair) connect(t testing.TB) {
	t.Helper()
	eventually(t, "both connected", func() bool {
		a, b := p.a.peer("dr"), p.b.peer("primary")
		return a.Connected && a.Inbound && b.Connected && b.Inbound
	})
}

func message(from, to draas.MemberID, data string) []quorum.Message {
	return []quorum.Message{{From: from, To: to, Data: []byte(data)}}
}

// relay carries TCP connections, and can hold back all bytes, or those of the
// connections that there are.
type relay struct {
	ln       net.Listener
	mu       sync.Mutex
	gate     *sync.Cond
	frozen   bool
	made     int // connections
	stranded int // the first so many are held back
}

func newRelay(t testing.TB, to string) *relay {
	r := &relay{ln: listen(t)}
	r.gate = sync.NewCond(&r.mu)
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			in, err := r.ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			conns = append(conns, in, out)
			r.made++
			n := r.made
			r.mu.Unlock()
			wg.Go(func() { r.copy(out, in, n) })
			wg.Go(func() { r.copy(in, out, n) })
		}
	})
	t.Cleanup(func() {
		r.ln.Close()
		r.freeze(false)
		r.mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.ln.Addr().String() }

func (r *relay) freeze(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen, r.stranded = on, 0
	r.gate.Broadcast()
}

// strand leaves the connections of now as a power loss does: no byte comes, and
// no end.
func (r *relay) strand() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stranded = r.made
}

func (r *relay) copy(to, from net.Conn, number int) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		for r.frozen || number <= r.stranded {
			r.gate.Wait()
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
