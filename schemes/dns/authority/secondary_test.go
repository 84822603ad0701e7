package authority

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns"
)

func keyOf(k nameserver.Key) Key { return Key{Name: k.Name, Algorithm: k.Algorithm, Secret: k.Secret} }

// copied is the sample zone without what a copy cannot say, with secondaries.
func copied(list ...Secondary) Zone {
	z := sampleZone()
	z.Services[1].Targets["primary"] = dns.Target{Addresses: addrs("198.51.100.30")}
	z.Secondaries = list
	return z
}

// newPrimary is a fixture whose clock has the time of day: signatures need it.
func newPrimary(t testing.TB, zones ...Zone) *fixture {
	f := newFixture(t, zones...)
	f.clock.now.Wall = time.Duration(time.Now().UnixNano())
	return f
}

// contents is a zone's records as a transfer of it shows them, one a line.
func contents(t testing.TB, addr string, key Key) string {
	t.Helper()
	tr := &mdns.Transfer{ReadTimeout: 30 * time.Second, TsigSecret: map[string]string{key.Name: key.Secret}}
	m := new(mdns.Msg)
	m.SetAxfr("example.org.")
	m.SetTsig(key.Name, key.Algorithm+".", 300, time.Now().Unix())
	answers, err := tr.In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for e := range answers {
		if e.Error != nil {
			t.Fatalf("transfer from %s: %v", addr, e.Error)
		}
		for _, rr := range e.RR {
			lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return strings.Join(lines, "\n")
}

// What a transfer hands out is what is answered, name by name; and nothing is
// handed out that is not answered.
func TestTransferIsWhatIsAnswered(t *testing.T) {
	key := keyOf(nameserver.NewKey("transfer.", "hmac-sha512"))
	f := newPrimary(t, copied(Secondary{Key: key}))
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	lines := strings.Split(contents(t, addr, key), "\n")
	if first, last := lines[0], lines[len(lines)-1]; first != last || !strings.Contains(first, " SOA ") {
		t.Fatalf("begins with %s, ends with %s", first, last)
	}
	got := make(map[string][]string)
	for _, line := range lines[1:] {
		rr, err := mdns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		k := rr.Header().Name + " " + typeName(rr.Header().Rrtype)
		got[k] = append(got[k], line)
	}
	for k, want := range got {
		name, kind, _ := strings.Cut(k, " ")
		if mdns.IsSubDomain("sub.example.org.", name) {
			continue // answered as a referral
		}
		m := question(name, mdns.StringToType[kind])
		var answered []string
		for _, rr := range exchange(t, "tcp", addr, m).Answer {
			if rr.Header().Name == name {
				answered = append(answered, strings.Join(strings.Fields(rr.String()), " "))
			}
		}
		if strings.Join(answered, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: transferred\n%s\nanswered\n%s", k, strings.Join(want, "\n"), strings.Join(answered, "\n"))
		}
	}
	for name := range f.table.Load().nodes {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeTXT, mdns.TypeNS, mdns.TypeCNAME, mdns.TypeSOA} {
			r := exchange(t, "tcp", addr, question(textName(name), qtype))
			for _, rr := range r.Answer {
				if k := rr.Header().Name + " " + typeName(rr.Header().Rrtype); got[k] == nil && rr.Header().Rrtype != mdns.TypeHINFO {
					t.Errorf("%s is answered and not transferred", k)
				}
			}
		}
	}
}

// Only who is listed gets a zone, with the key if there is one.
func TestTransferIsForTheListed(t *testing.T) {
	key, other := nameserver.NewKey("transfer.", "hmac-sha256"), nameserver.NewKey("transfer.", "hmac-sha256")
	byKey := Secondary{Key: keyOf(key)}
	byAddress := Secondary{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	elsewhere := Secondary{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Key: keyOf(key)}
	tests := []struct {
		name string
		list []Secondary
		key  *nameserver.Key
		skew time.Duration
		want string
	}{
		{"nobody", nil, nil, 0, "REFUSED"},
		{"the key", []Secondary{byKey}, &key, 0, "NOERROR"},
		{"no key", []Secondary{byKey}, nil, 0, "REFUSED"},
		{"wrong key", []Secondary{byKey}, &other, 0, "NOTAUTH BADSIG"},
		{"late", []Secondary{byKey}, &key, -time.Hour, "NOTAUTH BADTIME"},
		{"key that is not known", []Secondary{byAddress}, &key, 0, "NOTAUTH BADKEY"},
		{"address", []Secondary{byAddress}, nil, 0, "NOERROR"},
		{"address, but the key is another's", []Secondary{byAddress, elsewhere}, &key, 0, "NOERROR"},
		{"key from another address", []Secondary{elsewhere}, &key, 0, "REFUSED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newPrimary(t, copied(tt.list...))
			f.allAt(t, 3, "primary")
			addr, _ := f.serve(t, "127.0.0.1:0")
			for _, qtype := range []uint16{mdns.TypeAXFR, mdns.TypeIXFR} {
				m := question("example.org.", qtype)
				if qtype == mdns.TypeIXFR {
					m.SetIxfr("example.org.", 1, "ns.example.org.", "x.example.org.")
				}
				wire, mac := pack(t, m), ""
				if tt.key != nil {
					m.SetTsig(tt.key.Name, tt.key.Algorithm+".", 300, time.Now().Add(tt.skew).Unix())
					var err error
					if wire, mac, err = mdns.TsigGenerate(m, tt.key.Secret, "", false); err != nil {
						t.Fatal(err)
					}
				}
				c := dial(t, addr)
				_, _ = c.Write(append([]byte{byte(len(wire) >> 8), byte(len(wire))}, wire...))
				frame, err := readFrame(c)
				if err != nil {
					t.Fatal(err)
				}
				r := unpack(t, frame)
				got := mdns.RcodeToString[r.Rcode]
				if sig := r.IsTsig(); sig != nil && sig.Error != 0 {
					got += " " + mdns.RcodeToString[int(sig.Error)]
				} else if sig != nil {
					if err := mdns.TsigVerify(frame, tt.key.Secret, mac, false); err != nil {
						t.Errorf("signature of the answer: %v", err)
					}
				} else if tt.key != nil {
					t.Error("the answer is not signed")
				}
				if got != tt.want || (r.Rcode == mdns.RcodeSuccess) != (len(r.Answer) > 0) {
					t.Errorf("%s: %s with %d records, want %s", typeName(qtype), got, len(r.Answer), tt.want)
				}
			}
		})
	}
}

func pack(t testing.TB, m *mdns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// A member hands out what it would answer itself, and nothing else: unknown is
// not empty.
func TestHandedOutIsWhatIsKnown(t *testing.T) {
	f := newPrimary(t, copied(Secondary{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	addr, _ := f.serve(t, "127.0.0.1:0")
	expect := func(step, want string) {
		t.Helper()
		for _, qtype := range []uint16{mdns.TypeAXFR, mdns.TypeSOA} {
			c := dial(t, addr)
			_, _ = c.Write(tcpFrame(question("example.org.", qtype)))
			frame, err := readFrame(c)
			if err != nil {
				t.Fatal(err)
			}
			if got := mdns.RcodeToString[unpack(t, frame).Rcode]; got != want {
				t.Errorf("%s: %s is answered %s, want %s", step, typeName(qtype), got, want)
			}
		}
	}
	expect("before the first view", "SERVFAIL")
	if err := f.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(1, "primary")}}); err != nil {
		t.Fatal(err)
	}
	expect("while it applies the log", "SERVFAIL")
	f.publish(t, 1, "primary", "shop")
	expect("with one of four services active", "NOERROR")
	f.publish(t, 1, "nowhere", "apex")
	expect("with a service at a site without a target", "SERVFAIL")
	f.allAt(t, 2, "primary")
	expect("with all", "NOERROR")
	f.Lease(map[draas.ServiceID]draas.Deadline{"dual": draas.DeadlineAt(f.clock.Now(), time.Second)})
	f.clock.Advance(2 * time.Second)
	expect("beyond the permit", "SERVFAIL")
	f.Lease(nil)
	expect("without a permit that bounds", "NOERROR")
	f.clock.Advance(time.Minute)
	expect("out of touch", "SERVFAIL")
	f.Touch(f.clock.Now())
	expect("in touch again", "NOERROR")

	fresh := newPrimary(t, copied(Secondary{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	fresh.publish(t, 0, "")
	addr, _ = fresh.serve(t, "127.0.0.1:0")
	expect("with a log in which nothing was ever decided", "SERVFAIL")
}

// Real secondaries take the zone, hear of a decision, and fetch what changed;
// also when the authority was restarted meanwhile, or runs at another site.
func TestRealSecondaries(t *testing.T) {
	for _, kind := range nameserver.Real() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			key := nameserver.NewKey("transfer.", "hmac-sha256")
			at := kind.Address(t)
			zone := copied(Secondary{Address: netip.MustParseAddrPort(at), Key: keyOf(key)})
			f := newPrimary(t, zone)
			f.allAt(t, 3, "primary")
			addr, stop := f.serve(t, "127.0.0.1:0")
			s := nameserver.Start(t, kind, nameserver.Options{Primary: addr, Transfer: key, Address: at})
			same := func(what string, f *fixture) {
				t.Helper()
				for _, name := range []string{"shop.example.org.", "dual.example.org.", "example.org.", "www.example.org.", "a.b.c.example.org.", "mail.example.org."} {
					for _, qtype := range []uint16{mdns.TypeA, mdns.TypeTXT} {
						if want, got := nameserver.Show(f.ask(t, question(name, qtype).SetEdns0(4096, false))), s.Lookup(name, qtype); got != want {
							t.Errorf("%s: %s %s: the secondary answers\n%s\nwant\n%s", what, name, typeName(qtype), got, want)
						}
					}
				}
			}
			follows := func(what string, f *fixture) {
				t.Helper()
				start := time.Now()
				eventually(t, what, func() bool {
					serial, err := s.Serial()
					return err == nil && serial == f.table.Load().zones[0].serial
				})
				t.Logf("%s: followed after %v", what, time.Since(start))
				same(what, f)
			}
			follows("at first", f)
			var st []SecondaryStatus
			defer func() { t.Logf("it was seen last as %+v", st) }()
			eventually(t, "it is seen to follow", func() bool {
				st = f.Secondaries()
				return len(st) == 1 && st[0].Notified && st[0].Answered && st[0].Has == st[0].Serial && st[0].Err == ""
			})
			for epoch := draas.Epoch(4); epoch < 7; epoch++ {
				f.allAt(t, epoch, []draas.SiteID{"dr", "primary"}[epoch%2])
				follows(fmt.Sprint("epoch ", epoch), f)
			}
			if st := f.Stats(); st.Changes == 0 || st.Transfers == 0 {
				t.Errorf("%d whole transfers and %d of changes", st.Transfers, st.Changes)
			}
			stop()
			g := newPrimary(t, zone) // applies the log anew
			for epoch := draas.Epoch(1); epoch < 4; epoch++ {
				v := View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(epoch, "primary"), "dual": decision(epoch, "primary"),
					"alias": decision(epoch, "primary"), "apex": decision(epoch, "primary")}}
				if err := g.Publish(v); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = g.serve(t, addr)
			if got := s.Lookup("_draas.shop.example.org.", mdns.TypeTXT); !strings.Contains(got, "epoch=6") {
				t.Errorf("while the log is applied anew: %s", got)
			}
			g.allAt(t, 6, "dr")
			follows("after a restart", g)
			g.allAt(t, 7, "dr")
			follows("the next decision", g) // no difference is known: whole
			zone.Records = append(zone.Records, Record{Name: "new.example.org.", Type: "A", Value: []string{"192.0.2.44"}, TTL: time.Minute})
			zone.Revision++
			if err := g.SetZones([]Zone{zone}); err != nil {
				t.Fatal(err)
			}
			follows("a reload", g)
			if got := s.Lookup("new.example.org.", mdns.TypeA); !strings.Contains(got, "192.0.2.44") {
				t.Errorf("the new record: %s", got)
			}
		})
	}
}

// A secondary that is silent is told again and again; nothing waits for it.
func TestSilentSecondary(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	key := keyOf(nameserver.NewKey("transfer.", "hmac-sha384"))
	f := newPrimary(t, copied(Secondary{Address: silent.LocalAddr().(*net.UDPAddr).AddrPort(), Key: key}))
	f.allAt(t, 3, "primary")
	addr, stop := f.serve(t, "127.0.0.1:0")
	buf := make([]byte, 1500)
	heard := func() *mdns.Msg {
		_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := silent.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := mdns.TsigVerify(buf[:n], key.Secret, "", false); err != nil {
			t.Error(err)
		}
		m := unpack(t, buf[:n])
		if m.Opcode != mdns.OpcodeNotify || !m.Authoritative || m.Question[0].Name != "example.org." || m.Question[0].Qtype != mdns.TypeSOA {
			t.Errorf("told %v", m)
		}
		return m
	}
	first, again := heard(), heard()
	if serial := again.Answer[0].(*mdns.SOA).Serial; serial != 13 || first.Id == again.Id {
		t.Errorf("told of serial %d by message %d, and before by %d", serial, again.Id, first.Id)
	}
	f.allAt(t, 4, "dr")
	if r := exchange(t, "udp", addr, question("shop.example.org.", mdns.TypeA)); !strings.Contains(brief(r), "203.0.113.20") {
		t.Errorf("after the decision: %s", brief(r))
	}
	start := time.Now()
	for heard().Answer[0].(*mdns.SOA).Serial != 17 {
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("told of the next serial after %v", d)
	}
	if st := f.Secondaries(); len(st) != 1 || st[0].Notified || st[0].Answered || st[0].Err == "" {
		t.Errorf("%+v", st)
	}
	if n := strings.Count(f.log.String(), "does not follow"); n != 1 {
		t.Errorf("warned %d times:\n%s", n, f.log)
	}
	stop() // while it waits for an answer
}

// Reloads that secondaries would not see are refused, with what to write.
func TestRevision(t *testing.T) {
	local := Secondary{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	f := newPrimary(t, copied(local))
	f.allAt(t, 70_000, "primary")
	more := copied(local)
	more.Records = append(more.Records, Record{Name: "new.example.org.", Type: "A", Value: []string{"192.0.2.44"}})
	refused := func(z Zone, want string) {
		t.Helper()
		before := f.table.Load()
		if err := f.SetZones([]Zone{z}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SetZones: %v, want %q", err, want)
		}
		if f.table.Load() != before {
			t.Error("the answers changed all the same")
		}
	}
	refused(more, "set revision = 1")
	if err := CheckChange([]Zone{copied(local)}, []Zone{more}); err == nil {
		t.Error("CheckChange takes it")
	}
	more.Revision = 1
	if err := CheckChange([]Zone{copied(local)}, []Zone{more}); err != nil {
		t.Error(err)
	}
	serial := f.table.Load().zones[0].serial
	if err := f.SetZones([]Zone{more}); err != nil || !newer(f.table.Load().zones[0].serial, serial) {
		t.Errorf("serial %d after %d: %v", f.table.Load().zones[0].serial, serial, err)
	}
	fewer := copied(local)
	fewer.Services = fewer.Services[1:]
	fewer.Services[1].Targets["primary"] = dns.Target{CNAME: "cdn.elsewhere.net."}
	fewer.Revision = 2
	refused(fewer, "set revision = 3")
	fewer.Revision = 3
	if err := f.SetZones([]Zone{fewer}); err != nil {
		t.Error(err)
	}
	// What does not concern the content needs none.
	fewer.Secondaries = append(fewer.Secondaries, Secondary{From: []netip.Prefix{netip.MustParsePrefix("::1/128")}})
	if err := f.SetZones([]Zone{fewer}); err != nil {
		t.Error(err)
	}
}

func TestSecondaryValidation(t *testing.T) {
	good := keyOf(nameserver.NewKey("transfer.", "hmac-sha256"))
	change := func(edit func(*Key)) Secondary { k := good; edit(&k); return Secondary{Key: k} }
	tests := []struct {
		name string
		zone Zone
		want string
	}{
		{"everybody", copied(Secondary{}), "everybody may have the zone"},
		{"port", copied(Secondary{Address: netip.MustParseAddrPort("192.0.2.1:0")}), "no port"},
		{"prefix", copied(Secondary{From: make([]netip.Prefix, 1), Key: good}), "not an address prefix"},
		{"key name", copied(change(func(k *Key) { k.Name = "transfer" })), "fully qualified"},
		{"algorithm", copied(change(func(k *Key) { k.Algorithm = "hmac-md5" })), "hmac-sha256, hmac-sha384 or hmac-sha512"},
		{"base64", copied(change(func(k *Key) { k.Secret = "?" })), "not base64"},
		{"short", copied(change(func(k *Key) { k.Secret = "c2hvcnQ=" })), "5 octets"},
		{"one name, two keys", copied(Secondary{Key: good}, change(func(k *Key) { k.Algorithm = "hmac-sha512" })), "two keys"},
		{"a type at one site", func() Zone { z := sampleZone(); z.Secondaries = []Secondary{{Key: good}}; return z }(), "same types at all sites"},
		{"expire", func() Zone { z := copied(Secondary{Key: good}); z.Expire = time.Minute; return z }(), "expire"},
	}
	for _, tt := range tests {
		if err := CheckZones([]Zone{tt.zone}); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), good.Secret) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", good, good, good, good); strings.Contains(text, good.Secret) {
		t.Errorf("the secret is printed: %s", text)
	}
	if err := CheckZones([]Zone{copied(Secondary{Key: good}, Secondary{Key: good, From: []netip.Prefix{netip.MustParsePrefix("::1/128")}})}); err != nil {
		t.Error(err)
	}
}
