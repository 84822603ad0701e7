package nameserver

import (
	"flag"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

// TestMain lets more tests run at once than there are processors: they wait
// most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// update sends a signed update that sets a name's address, and returns the
// answer's rcode, or why there is none.
func update(s *Server, address string, key Key, name, ip string) string {
	m := new(mdns.Msg)
	m.SetUpdate(s.Zone)
	rr, err := mdns.NewRR(name + " 5 A " + ip)
	if err != nil {
		return err.Error()
	}
	m.RemoveRRset([]mdns.RR{rr})
	m.Insert([]mdns.RR{rr})
	m.SetTsig(key.Name, mdns.CanonicalName(key.Algorithm), 300, time.Now().Unix())
	c := mdns.Client{Net: "tcp", Timeout: time.Second, TsigSecret: map[string]string{key.Name: key.Secret}}
	a, _, err := c.Exchange(m, address)
	if a == nil {
		return err.Error()
	}
	return mdns.RcodeToString[a.Rcode]
}

const shop = "shop.example.org."

func TestServers(t *testing.T) {
	for _, kind := range append(Real(), Fake) {
		for _, algorithm := range []string{"hmac-sha256", "hmac-sha512"} {
			t.Run(string(kind)+" "+algorithm, func(t *testing.T) {
				t.Parallel()
				s := Start(t, kind, Options{Key: NewKey("draas.", algorithm), Records: []string{"shop 60 A 192.0.2.1"}})
				if got := s.Lookup(shop, mdns.TypeA); got != shop+" A 192.0.2.1" {
					t.Fatalf("at first: %s", got)
				}
				if got := update(s, s.Address, s.Key, shop, "192.0.2.2"); got != "NOERROR" {
					t.Fatalf("update: %s", got)
				}
				s.Restart()
				if got := s.Lookup(shop, mdns.TypeA); got != shop+" A 192.0.2.2" {
					t.Errorf("after a restart: %s", got)
				}
				old := s.Key
				s.RotateKey(NewKey("draas.", algorithm))
				if got := update(s, s.Address, old, shop, "192.0.2.3"); got == "NOERROR" {
					t.Error("the old key is taken")
				}
				if got := update(s, s.Address, s.Key, shop, "192.0.2.4"); got != "NOERROR" {
					t.Errorf("update by the new key: %s", got)
				}
				if got := s.Lookup(shop, mdns.TypeA); got != shop+" A 192.0.2.4" {
					t.Errorf("at last: %s", got)
				}
			})
		}
	}
}

func TestPairs(t *testing.T) {
	for _, pair := range [][2]Kind{{BIND, Knot}, {Knot, BIND}, {PowerDNS, BIND}} {
		t.Run(string(pair[0])+" to "+string(pair[1]), func(t *testing.T) {
			t.Parallel()
			p, s := StartPair(t, pair[0], pair[1], Options{})
			got := update(p, p.Address, p.Key, shop, "192.0.2.2")
			for range 50 { // PowerDNS meets its own notifications in SQLite
				if got != "SERVFAIL" {
					break
				}
				<-time.After(20 * time.Millisecond)
				got = update(p, p.Address, p.Key, shop, "192.0.2.2")
			}
			if got != "NOERROR" {
				t.Fatalf("update: %s", got)
			}
			start := time.Now()
			for s.Lookup(shop, mdns.TypeA) != shop+" A 192.0.2.2" {
				if time.Since(start) > 10*time.Second {
					t.Fatalf("the secondary does not follow: %s\n%s", s.Lookup(shop, mdns.TypeA), tail(s.Log(), 3000))
				}
				<-time.After(time.Millisecond)
			}
			t.Logf("followed after %v", time.Since(start))
		})
	}
}

func TestFreeze(t *testing.T) {
	for _, kind := range []Kind{BIND, Knot, Fake} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind, Options{})
			s.Freeze()
			said := update(s, s.Address, s.Key, shop, "192.0.2.2")
			t.Logf("frozen: %s", said)
			if said == "NOERROR" {
				t.Error("updated")
			}
			s.Thaw()
			if got := update(s, s.Address, s.Key, shop, "192.0.2.3"); got != "NOERROR" {
				t.Errorf("thawed: %s", got)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	for _, kind := range Real() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind, Options{Size: 40 << 20})
			s.FillDisk()
			said := update(s, s.Address, s.Key, shop, "192.0.2.2")
			t.Logf("full: %s", said)
			s.FreeDisk()
			s.Restart()
			kept := s.Lookup(shop, mdns.TypeA)
			t.Logf("after a restart: %s", kept)
			if said == "NOERROR" && !strings.Contains(kept, "192.0.2.2") {
				t.Error("acknowledged and lost")
			}
			if got := update(s, s.Address, s.Key, shop, "192.0.2.3"); got != "NOERROR" {
				t.Errorf("with room again: %s", got)
			}
		})
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := Start(t, BIND, Options{})
	s.Pause()
	if got := update(s, s.Address, s.Key, shop, "192.0.2.2"); !strings.Contains(got, "timeout") {
		t.Errorf("paused: %s", got)
	}
	s.Resume()
	if got := update(s, s.Address, s.Key, shop, "192.0.2.2"); got != "NOERROR" {
		t.Errorf("resumed: %s", got)
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	s := Start(t, Fake, Options{})
	r := NewRelay(t, s.Address)
	steps := []struct {
		fate         Fate
		ip, said, is string
	}{
		{Pass, "192.0.2.1", "NOERROR", "192.0.2.1"},
		{Lose, "192.0.2.2", "timeout", "192.0.2.1"},
		{LoseAnswer, "192.0.2.3", "timeout", "192.0.2.3"},
		{Refused, "192.0.2.4", "REFUSED", "192.0.2.3"},
		{ServFail, "192.0.2.5", "SERVFAIL", "192.0.2.3"},
		{Hold, "192.0.2.6", "timeout", "192.0.2.3"},
	}
	for _, step := range steps {
		r.SetRule(Updates(step.fate))
		if got := update(s, r.Address, s.Key, shop, step.ip); !strings.Contains(got, step.said) {
			t.Errorf("%+v: said %s", step, got)
		}
		if got := s.Lookup(shop, mdns.TypeA); got != shop+" A "+step.is {
			t.Errorf("%+v: is %s", step, got)
		}
	}
	r.Deliver()
	if got := s.Lookup(shop, mdns.TypeA); got != shop+" A 192.0.2.6" {
		t.Errorf("delivered: %s", got)
	}
	if n := len(r.Seen()); n != len(steps) {
		t.Errorf("%d updates seen, want %d", n, len(steps))
	}
}
