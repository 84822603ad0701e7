package quorum_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
)

// renew replaces a member's files.
func renew(t testing.TB, p *peerTest, ca *quorum.CA, bundle []byte, v quorum.Validity) {
	t.Helper()
	id, err := ca.Issue(p.id, nil, v)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{p.files.CA: bundle, p.files.Cert: id.CertPEM, p.files.Key: id.KeyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Reload()
}

func lasting(d time.Duration) quorum.Validity {
	return quorum.Validity{From: time.Now().Add(-time.Hour), To: time.Now().Add(d)}
}

// A new CA, certificates and keys come in while messages flow: none is lost
// for it, nobody is reported lost, and at the end the old CA is not trusted.
func TestRotationLosesNothing(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	downs := p.a.downs() + p.b.downs()
	newCA, err := quorum.NewCA("new", valid())
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	flow := func(what string, done func() bool) {
		t.Helper()
		eventually(t, what, func() bool {
			sent++
			p.a.Send(message("primary", "dr", fmt.Sprint(sent)))
			p.b.Send(message("dr", "primary", fmt.Sprint(sent)))
			if sent%16 == 0 {
				eventually(t, "no backlog", func() bool {
					return len(p.a.received()) == sent && len(p.b.received()) == sent
				})
			}
			return done()
		})
	}
	both := slices.Concat(p.ca.CertPEM, newCA.CertPEM)
	// What a peer is heard by rests on its own certificate: trust in the CA of the
	// one before must last until then.
	until := func(of, at *peerTest, d time.Duration) func() bool {
		return func() bool {
			s := at.peer(of.id)
			return s.Connected && s.Inbound && time.Until(at.Heard(of.id)).Round(time.Minute) == d
		}
	}
	// Both trust both, then the certificates change, then the old CA goes.
	renew(t, p.a, p.ca, both, lasting(2*time.Hour))
	renew(t, p.b, p.ca, both, lasting(3*time.Hour))
	flow("a's first", until(p.a, p.b, 2*time.Hour))
	flow("b's first", until(p.b, p.a, 3*time.Hour))
	// A certificate of a CA that expires earlier is good until then only, but
	// that is for its owner to see.
	renew(t, p.a, newCA, both, lasting(4*time.Hour))
	renew(t, p.b, newCA, both, lasting(5*time.Hour))
	flow("a's second", until(p.a, p.b, 4*time.Hour))
	flow("b's second", until(p.b, p.a, 5*time.Hour))
	if got := p.a.Certificate(); time.Until(got.NotAfter).Round(time.Minute) != 4*time.Hour || time.Until(got.CANotAfter).Round(time.Minute) != time.Hour {
		t.Errorf("own certificate: %+v", got)
	}
	renew(t, p.a, newCA, newCA.CertPEM, lasting(6*time.Hour))
	renew(t, p.b, newCA, newCA.CertPEM, lasting(7*time.Hour))
	flow("a's third", until(p.a, p.b, 6*time.Hour))
	flow("b's third", until(p.b, p.a, 7*time.Hour))
	eventually(t, "all there", func() bool { return len(p.a.received()) == sent && len(p.b.received()) == sent })
	for _, x := range []*peerTest{p.a, p.b} {
		if d := x.Status()[0].Dropped; d > 0 {
			t.Errorf("%s dropped %d of %d messages", x.id, d, sent)
		}
	}
	if n := p.a.downs() + p.b.downs(); n > downs {
		t.Errorf("a renewal was reported as a loss, %d times", n-downs)
	}
	refused := p.a.Refused()
	old := startPeer(t, "dr", listen(t), map[draas.MemberID]string{"primary": p.la}, identity(t, p.ca, newCA, "dr", valid()), nil)
	eventually(t, "the old CA is refused", func() bool { return p.a.Refused() > refused+2 })
	if old.peer("primary").Connected {
		t.Error("a certificate of the old CA was let in")
	}
}

// A new certificate that the peer does not take leaves the old connection.
func TestBadRenewalKeepsTheConnection(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	other, err := quorum.NewCA("other", valid())
	if err != nil {
		t.Fatal(err)
	}
	renew(t, p.b, other, slices.Concat(p.ca.CertPEM, other.CertPEM), valid())
	eventually(t, "said", func() bool { return strings.Contains(p.b.log.String(), "the old one is kept") })
	p.b.Send(message("dr", "primary", "still there"))
	eventually(t, "message", func() bool { return slices.Contains(p.a.received(), "dr:still there") })
	// Files that are another member's are not taken over at all.
	before := p.a.Certificate()
	id, err := p.ca.Issue("dr", nil, lasting(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{p.a.files.Cert: id.CertPEM, p.a.files.Key: id.KeyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.a.Reload()
	if got := p.a.Certificate(); got != before {
		t.Errorf("took another member's certificate: %+v", got)
	}
}

// Who takes a CA out of the bundle hears no more of those who still rest on it.
func TestDistrustedPeerIsDropped(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	other, err := quorum.NewCA("other", valid())
	if err != nil {
		t.Fatal(err)
	}
	renew(t, p.a, other, other.CertPEM, valid())
	eventually(t, "dropped", func() bool { return !p.a.peer("dr").Inbound })
	if !strings.Contains(p.a.log.String(), "not trusted any more") {
		t.Errorf("it was not said: %s", p.a.log)
	}
}

// A peer whose certificate ends is dropped, at both sides of a connection, and
// comes back with a new one.
func TestExpiredPeerIsDropped(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil, func(ca *quorum.CA) quorum.TLSFiles {
		return identity(t, ca, ca, "dr", quorum.Validity{From: time.Now().Add(-time.Hour), To: time.Now().Add(3 * time.Second)})
	})
	p.connect(t)
	if left := time.Until(p.a.peer("dr").NotAfter); left > 3*time.Second {
		t.Errorf("it is good for %v", left)
	}
	eventually(t, "dropped", func() bool { s := p.a.peer("dr"); return !s.Connected && !s.Inbound })
	if got := p.a.Certificate(); time.Until(got.NotAfter) < time.Minute {
		t.Errorf("own certificate: %+v", got)
	}
	renew(t, p.b, p.ca, p.ca.CertPEM, valid())
	p.connect(t)
}

// Peers come, move and go while the transport runs.
func TestPeersChange(t *testing.T) {
	p := newPair(t, nil, nil)
	p.connect(t)
	lc := listen(t)
	c := startPeer(t, "branch", lc, map[draas.MemberID]string{"primary": p.la}, identity(t, p.ca, p.ca, "branch", valid()), nil)
	eventually(t, "a stranger is refused", func() bool { return errors.Is(c.peer("primary").Err, quorum.ErrNotMember) })
	since := p.a.peer("dr").Since
	if err := p.a.SetPeers(map[draas.MemberID]string{"dr": p.lb, "branch": lc.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected", func() bool { s := p.a.peer("branch"); return s.Connected && s.Inbound })
	p.a.Send(message("primary", "branch", "welcome"))
	eventually(t, "message", func() bool { return slices.Contains(c.received(), "primary:welcome") })
	if got := p.a.peer("dr").Since; got != since {
		t.Error("the connection to one that stayed was made anew")
	}
	if err := p.a.SetPeers(map[draas.MemberID]string{"branch": lc.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return len(p.a.Status()) == 1 && errors.Is(p.b.peer("primary").Err, quorum.ErrNotMember) })
	p.a.Send(message("primary", "dr", "nobody"))
	// It comes back at another address.
	lb := listen(t)
	p.b.stop()
	p.b = startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": p.la}, p.b.files, nil)
	if err := p.a.SetPeers(map[draas.MemberID]string{"dr": lb.Addr().String(), "branch": lc.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	p.connect(t)
	// And moves once more.
	p.b.stop()
	lb = listen(t)
	p.b = startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": p.la}, p.b.files, nil)
	if err := p.a.SetPeers(map[draas.MemberID]string{"dr": lb.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	p.connect(t)
	if err := p.a.SetPeers(map[draas.MemberID]string{"primary": "127.0.0.1:1"}); err == nil {
		t.Error("it is its own peer")
	}
}

func TestLoadCA(t *testing.T) {
	old, fresh := authority(t), authority(t)
	dir := t.TempDir()
	write := func(cert, key []byte) {
		t.Helper()
		for name, data := range map[string][]byte{"ca.crt": cert, "ca.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(slices.Concat(old.CertPEM, fresh.CertPEM), fresh.KeyPEM)
	ca, err := quorum.LoadCA(dir)
	if err != nil || !bytes.Equal(ca.CertPEM, fresh.CertPEM) || time.Until(ca.Validity().To) < time.Minute {
		t.Fatalf("%v", err)
	}
	// What it issues is believed.
	newLink(t, ca)
	for name, c := range map[string][2][]byte{
		"other key":  {old.CertPEM, fresh.KeyPEM},
		"no key":     {old.CertPEM, []byte("x")},
		"no cert":    {[]byte("x"), old.KeyPEM},
		"cert twice": {old.CertPEM, old.CertPEM},
	} {
		write(c[0], c[1])
		if _, err := quorum.LoadCA(dir); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// newLink connects two members with certificates of an authority.
func newLink(t *testing.T, ca *quorum.CA) {
	t.Helper()
	la, lb := listen(t), listen(t)
	a := startPeer(t, "primary", la, map[draas.MemberID]string{"dr": lb.Addr().String()}, identity(t, ca, ca, "primary", valid()), nil)
	startPeer(t, "dr", lb, map[draas.MemberID]string{"primary": la.Addr().String()}, identity(t, ca, ca, "dr", valid()), nil)
	eventually(t, "connected", func() bool { s := a.peer("dr"); return s.Connected && s.Inbound })
}
