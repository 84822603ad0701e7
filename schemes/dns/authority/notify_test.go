package authority

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab/nameserver"
)

// pretender answers as a secondary would that has the serials one after the
// other, a question each, and stays at the last.
type pretender struct {
	net.PacketConn
	serials  []uint32
	notified atomic.Int32
	ended    chan struct{}
}

func newPretender(t *testing.T, key *tsigKey, serials ...uint32) *pretender {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pretender{PacketConn: c, serials: serials, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var q query
			m := new(mdns.Msg)
			if m.Unpack(buf[:n]) != nil || !q.parse(buf[:n]) {
				t.Errorf("was sent %x", buf[:n])
				continue
			}
			sent, err := parseTSIG(buf[:n], q.tsigAt)
			if err != nil || key.verify(buf[:n], sent, nil, time.Now()) != 0 {
				t.Errorf("was sent %v, not signed well", m)
				continue
			}
			r := new(mdns.Msg).SetReply(m)
			if m.Opcode == mdns.OpcodeNotify {
				p.notified.Add(1)
			} else {
				rr, _ := mdns.NewRR(soaText)
				rr.(*mdns.SOA).Serial = p.serials[0]
				if len(p.serials) > 1 {
					p.serials = p.serials[1:]
				}
				r.Answer = []mdns.RR{rr}
			}
			wire := (&signer{key: key, mac: sent.mac}).sign(pack(t, r), time.Now())
			forged := append([]byte(nil), wire...)
			forged[len(forged)-10] ^= 1 // somebody else guesses before
			_, _ = c.WriteTo(forged, from)
			_, _ = c.WriteTo(wire, from)
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-p.ended })
	return p
}

func tellPretender(t *testing.T, serials ...uint32) (*fixture, *pretender) {
	t.Helper()
	key := keyOf(nameserver.NewKey("transfer.", "hmac-sha512"))
	shared, err := newTSIGKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := newPretender(t, shared, serials...)
	f := newPrimary(t, copied(Secondary{Address: p.LocalAddr().(*net.UDPAddr).AddrPort(), Key: key}))
	f.allAt(t, 3, "primary") // serial 13
	_, _ = f.serve(t, "127.0.0.1:0")
	return f, p
}

// A secondary that is slow to follow is asked until it has, and told again
// meanwhile; then it is left alone.
func TestSecondaryThatLags(t *testing.T) {
	t.Parallel()
	f, p := tellPretender(t, 9, 9, 9, 9, 9, 13)
	eventually(t, "it is known to be behind", func() bool {
		st := f.Secondaries()
		return st[0].Answered && st[0].Has == 9 && strings.Contains(st[0].Err, "not followed yet")
	})
	eventually(t, "it follows", func() bool {
		st := f.Secondaries()
		return st[0].Notified && st[0].Has == 13 && st[0].Err == ""
	})
	if n := p.notified.Load(); n < 2 || n > 3 {
		t.Errorf("it was told %d times", n)
	}
	if text := f.log.String(); strings.Contains(text, "does not follow") {
		t.Errorf("warned of one that only lags:\n%s", text)
	}
}

// A secondary that has a newer zone will not take this one: that is told.
func TestSecondaryThatIsAhead(t *testing.T) {
	t.Parallel()
	f, _ := tellPretender(t, 70_000)
	eventually(t, "it is known to be ahead", func() bool {
		return strings.Contains(f.Secondaries()[0].Err, "it has serial 70000, which is newer")
	})
	eventually(t, "it is warned of", func() bool { return strings.Contains(f.log.String(), "does not follow") })
}
