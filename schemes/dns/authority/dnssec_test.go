package authority

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// newSigningKey makes a key of example.org. as dnssec-keygen writes it, with
// lines for its times.
func newSigningKey(t testing.TB, flags uint16, times ...string) (public, private string) {
	t.Helper()
	k := &mdns.DNSKEY{Hdr: header("example.org.", mdns.TypeDNSKEY, time.Hour), Flags: flags, Protocol: 3, Algorithm: mdns.ECDSAP256SHA256}
	made, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return "; a key\n" + k.String() + "\n", k.PrivateKeyString(made.(*ecdsa.PrivateKey)) + strings.Join(times, "\n") + "\n"
}

func signingKey(t testing.TB, flags uint16, times ...string) SigningKey {
	t.Helper()
	public, private := newSigningKey(t, flags, times...)
	k, err := ParseSigningKey("example.org.", public, private)
	if err != nil {
		t.Fatal(err)
	}
	return *k
}

// stamp is a time as key files write it, some time from now.
func stamp(d time.Duration) string { return time.Now().Add(d).UTC().Format("20060102150405") }

func signedZone(keys ...SigningKey) Zone {
	z := sampleZone()
	z.Signing = &Signing{Keys: keys}
	return z
}

// verify checks the signatures of all sets of an answer that are to have one,
// by the library's own hand.
func verify(t *testing.T, r *mdns.Msg, keys []SigningKey, now time.Time) {
	t.Helper()
	for i, section := range [][]mdns.RR{r.Answer, r.Ns} {
		sets := make(map[string][]mdns.RR)
		sigs := make(map[string][]*mdns.RRSIG)
		for _, rr := range section {
			k := mdns.CanonicalName(rr.Header().Name) + " " + typeName(rr.Header().Rrtype)
			if sig, ok := rr.(*mdns.RRSIG); ok {
				k = mdns.CanonicalName(rr.Header().Name) + " " + typeName(sig.TypeCovered)
				sigs[k] = append(sigs[k], sig)
				continue
			}
			sets[k] = append(sets[k], rr)
		}
		for k, set := range sets {
			if i == 1 && strings.HasSuffix(k, " NS") {
				if len(sigs[k]) > 0 {
					t.Errorf("%v: the NS of a delegation is signed", r.Question)
				}
				continue
			}
			good := 0
			for _, sig := range sigs[k] {
				for _, key := range keys {
					if key.tag == sig.KeyTag && sig.Verify(&key.public, set) == nil && sig.ValidityPeriod(now) {
						good++
					}
				}
			}
			if good == 0 || good != len(sigs[k]) {
				t.Errorf("%v: %s has %d signatures, %d are good", r.Question, k, len(sigs[k]), good)
			}
		}
	}
}

// Everything is signed for who asks for it, and for nobody else; also after a
// decision.
func TestSignedAnswers(t *testing.T) {
	t.Parallel()
	keys := []SigningKey{signingKey(t, 257), signingKey(t, 256)}
	f := newPrimary(t, signedZone(keys...))
	plain := newPrimary(t)
	for epoch, site := range []draas.SiteID{"primary", "dr"} {
		f.allAt(t, draas.Epoch(epoch+1), site)
		plain.allAt(t, draas.Epoch(epoch+1), site)
		for name := range f.table.Load().nodes {
			for _, name := range []string{textName(name), "x." + textName(name), "-." + textName(name)} {
				for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeNS, mdns.TypeSOA, mdns.TypeCNAME, mdns.TypeDS, mdns.TypeMX, mdns.TypeANY} {
					m := question(name, qtype)
					without := f.respond(nil, pack(t, m), true)
					if want := plain.respond(nil, pack(t, m), true); string(without) != string(want) {
						t.Errorf("%s %s without DO: %s, unsigned %s", name, typeName(qtype), brief(unpack(t, without)), brief(unpack(t, want)))
					}
					r := unpack(t, f.respond(nil, pack(t, m.SetEdns0(4096, true)), true))
					if r.Rcode != mdns.RcodeServerFailure {
						verify(t, r, keys, wall(f.clock.Now()))
					}
				}
			}
		}
	}
	for _, qtype := range []uint16{mdns.TypeDNSKEY, mdns.TypeCDS, mdns.TypeCDNSKEY, mdns.TypeNSEC, mdns.TypeRRSIG} {
		r := f.ask(t, question("example.org.", qtype).SetEdns0(1232, true))
		verify(t, r, keys, wall(f.clock.Now()))
		if len(r.Answer) < 2 {
			t.Errorf("%s: %s", typeName(qtype), brief(r))
		}
	}
	// The same delegation signer in CDS and as text.
	r := f.ask(t, question("example.org.", mdns.TypeCDS).SetEdns0(1232, true))
	if got := strings.Replace(strings.Join(strings.Fields(r.Answer[0].String()), " "), " CDS ", " DS ", 1); got != strings.Replace(keys[0].DS(), " 3600 ", " 3600 ", 1) {
		t.Errorf("CDS %s, DS %s", got, keys[0].DS())
	}
	// What does not fit UDP is asked for by TCP.
	if r := f.ask(t, question("big.example.org.", mdns.TypeTXT).SetEdns0(1232, true)); !r.Truncated || len(r.Answer)+len(r.Ns) > 0 {
		t.Errorf("a large set: %s", brief(r))
	}
}

// Keys follow the times in their files: one is published before it signs, two
// sign at once, one goes.
func TestRollover(t *testing.T) {
	t.Parallel()
	ksk := signingKey(t, 257)
	old := signingKey(t, 256, "Inactive: "+stamp(2*time.Hour), "Delete: "+stamp(3*time.Hour))
	next := signingKey(t, 256, "Created: "+stamp(0), "Publish: "+stamp(time.Minute), "Activate: "+stamp(time.Hour))
	f := newPrimary(t, signedZone(ksk, old, next))
	f.allAt(t, 1, "primary")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // one turn of the upkeep
	expect := func(step string, published, signing int) {
		t.Helper()
		f.Touch(f.clock.Now())
		f.keepSigned(ctx)
		count := func(qtype uint16) (sets, sigs int) {
			r := f.ask(t, question("example.org.", qtype).SetEdns0(1232, true))
			verify(t, r, []SigningKey{ksk, old, next}, wall(f.clock.Now()))
			for _, rr := range r.Answer {
				if rr.Header().Rrtype == mdns.TypeRRSIG {
					sigs++
				} else {
					sets++
				}
			}
			return sets, sigs
		}
		if keys, by := count(mdns.TypeDNSKEY); keys != published || by != 1 {
			t.Errorf("%s: %d keys, %d sign them", step, keys, by)
		}
		if _, sigs := count(mdns.TypeA); sigs != signing {
			t.Errorf("%s: %d keys sign, want %d", step, sigs, signing)
		}
	}
	expect("at first", 2, 1)
	f.clock.Advance(10 * time.Minute)
	expect("published", 3, 1)
	f.clock.Advance(time.Hour)
	expect("both sign", 3, 2)
	f.clock.Advance(time.Hour)
	expect("the old one signs no more", 3, 1)
	f.clock.Advance(time.Hour)
	expect("it is gone", 2, 1)
}

// Signatures are renewed before they end, made anew when the clock was set back,
// and not made at all by a clock that cannot be right.
func TestSignaturesInTime(t *testing.T) {
	k := signingKey(t, 257, "Created: "+stamp(0))
	z := signedZone(k)
	z.Stale = 1000 * time.Hour
	f := newPrimary(t, z)
	f.allAt(t, 1, "primary")
	start := wall(f.clock.Now()).Truncate(time.Second)
	sig := func() *mdns.RRSIG {
		t.Helper()
		r := f.ask(t, question("mail.example.org.", mdns.TypeA).SetEdns0(1232, true))
		if len(r.Answer) != 2 {
			t.Fatalf("%s", brief(r))
		}
		verify(t, r, []SigningKey{k}, wall(f.clock.Now()))
		return r.Answer[1].(*mdns.RRSIG)
	}
	first := sig()
	if again := sig(); again.Signature != first.Signature {
		t.Error("signed at each question")
	}
	if from, till := time.Unix(int64(first.Inception), 0), time.Unix(int64(first.Expiration), 0); start.Sub(from) != time.Hour || till.Sub(start) != 7*24*time.Hour {
		t.Errorf("valid from %v to %v, it is %v", from, till, start)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 60 { // renewed in the background, long before the end
		f.clock.Advance(6 * time.Hour)
		if err := f.signAhead(ctx, f.table.Load(), true); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"mail.example.org.", "shop.example.org."} {
			s := pick(f.table.Load().nodes[wire(t, name)].sets, mdns.TypeA)
			if s == nil {
				s = f.table.Load().data[f.table.Load().nodes[wire(t, name)].moving].sets[0]
			}
			if made := s.signed.Load(); made == nil || made.renew.Before(wall(f.clock.Now())) {
				t.Fatalf("%s is not renewed", name)
			}
		}
	}
	late := sig()
	f.clock.Advance(-6 * 24 * time.Hour)
	if back := sig(); back.Inception >= late.Inception {
		t.Error("a clock that was set back gets signatures of the future")
	}
	f.clock.now.Wall = time.Duration(start.Add(-24 * time.Hour).UnixNano())
	r := f.ask(t, question("mail.example.org.", mdns.TypeA).SetEdns0(1232, true))
	if r.Rcode != mdns.RcodeServerFailure || !strings.Contains(fmt.Sprint(r.IsEdns0()), "clock") {
		t.Errorf("by a clock before the key was made: %s %v", brief(r), r.IsEdns0())
	}
	if r := f.ask(t, question("mail.example.org.", mdns.TypeA)); r.Rcode != mdns.RcodeSuccess {
		t.Errorf("without DO: %s", brief(r))
	}
	if err := f.signAhead(ctx, f.table.Load(), true); err == nil {
		t.Error("the upkeep does not say so")
	}
}

func wire(t testing.TB, name string) string {
	t.Helper()
	w, err := wireName(name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// delv, BIND's validator, believes every kind of answer; also after a decision,
// and in the middle of a rollover that a reload brings in. The keys are
// dnssec-keygen's.
func TestDelv(t *testing.T) {
	t.Parallel()
	delv, keygen := need(t, "delv", "bind9-dnsutils"), need(t, "dnssec-keygen", "bind9-utils")
	dir := t.TempDir()
	newKey := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), keygen, append(append([]string{"-q", "-a", "ECDSAP256SHA256", "-K", dir}, args...), "example.org")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dnssec-keygen: %v\n%s", err, out)
		}
	}
	read := func() []SigningKey {
		keys, err := ReadSigningKeys(dir, "example.org.")
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	newKey("-f", "KSK")
	keys := read()
	f := newPrimary(t, signedZone(keys...))
	f.allAt(t, 1, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	_, port, _ := strings.Cut(addr, ":")
	anchor := filepath.Join(t.TempDir(), "anchor")
	p := keys[0].public
	text := fmt.Sprintf("trust-anchors { example.org. static-key %d 3 13 %q; };\n", p.Flags, p.PublicKey)
	if err := os.WriteFile(anchor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	believes := func(name, qtype, want string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), delv, "@127.0.0.1", "-p", port, "-a", anchor, "+root=example.org", name, qtype).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("delv %s %s: %v, want %q\n%s", name, qtype, err, want, out)
		}
	}
	const yes, noName, noType = "; fully validated", "; negative response, fully validated", "; negative response, fully validated"
	believes("shop.example.org", "A", yes)
	believes("_draas.shop.example.org", "TXT", yes)
	believes("www.example.org", "A", yes) // a CNAME and what it leads to
	believes("example.org", "SOA", yes)
	believes("example.org", "DNSKEY", yes)
	believes("big.example.org", "TXT", yes) // by TCP
	believes("nothing.example.org", "A", noName)
	believes("x.y.nothing.example.org", "A", noName)
	believes("aaaa.example.org", "A", noName)
	believes("zzzz.example.org", "A", noName)
	believes("dangling.example.org", "A", yes) // the CNAME, and that it leads to nothing
	believes("mail.example.org", "AAAA", noType)
	believes("shop.example.org", "MX", noType)
	believes("b.c.example.org", "TXT", noType) // an empty non-terminal
	believes("sub.example.org", "DS", noType)
	f.allAt(t, 2, "dr")
	believes("shop.example.org", "A", "203.0.113.21")
	believes("shop.example.org", "A", yes)
	believes("www.example.org", "A", yes)
	newKey()
	newKey("-P", "now", "-A", "+1h") // published before it signs
	f.clock.Advance(time.Minute)
	f.Touch(f.clock.Now())
	if err := f.SetZones([]Zone{signedZone(read()...)}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shop.example.org", "example.org"} {
		believes(name, "A", yes)
	}
	believes("example.org", "DNSKEY", yes)
	believes("nothing.example.org", "A", noName)
	if r := f.ask(t, question("example.org.", mdns.TypeDNSKEY)); len(r.Answer) != 3 {
		t.Errorf("%d keys", len(r.Answer))
	}
}

// A validating resolver does, and not with another key.
func TestValidatingResolver(t *testing.T) {
	t.Parallel()
	keys := []SigningKey{signingKey(t, 257), signingKey(t, 256)}
	z := quickZone()
	z.Signing = &Signing{Keys: keys}
	f := newPrimary(t, z)
	f.publish(t, 1, "primary", "shop")
	addr, _ := f.serve(t, "127.0.0.1:0")
	ask := func(resolver, name string, qtype uint16) *mdns.Msg {
		t.Helper()
		c := mdns.Client{Timeout: 15 * time.Second}
		r, _, err := c.Exchange(question(name, qtype).SetEdns0(1232, true), resolver)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	resolver := startValidator(t, []string{anchorOf(keys[0])}, addr)
	for _, q := range []struct {
		name  string
		qtype uint16
		rcode int
	}{
		{"shop.example.org.", mdns.TypeA, mdns.RcodeSuccess},
		{"quick.example.org.", mdns.TypeA, mdns.RcodeSuccess},
		{"mail.example.org.", mdns.TypeAAAA, mdns.RcodeSuccess},
		{"c.example.org.", mdns.TypeA, mdns.RcodeSuccess},
		{"nothing.example.org.", mdns.TypeA, mdns.RcodeNameError},
		{"x.shop.example.org.", mdns.TypeA, mdns.RcodeNameError},
		{"dangling.example.org.", mdns.TypeA, mdns.RcodeNameError},
	} {
		if r := ask(resolver, q.name, q.qtype); r.Rcode != q.rcode || !r.AuthenticatedData {
			t.Errorf("%s %s: %s", q.name, typeName(q.qtype), brief(r))
		}
	}
	f.publish(t, 2, "dr", "shop")
	eventually(t, "the resolver follows", func() bool {
		r := ask(resolver, "shop.example.org.", mdns.TypeA)
		if r.Rcode != mdns.RcodeSuccess || !r.AuthenticatedData {
			t.Fatalf("during the move: %s", brief(r))
		}
		return strings.Contains(brief(r), "203.0.113.20")
	})
	wrong := startValidator(t, []string{anchorOf(signingKey(t, 257))}, addr)
	if r := ask(wrong, "shop.example.org.", mdns.TypeA); r.Rcode != mdns.RcodeServerFailure {
		t.Errorf("with another key as the anchor: %s", brief(r))
	}
}

func anchorOf(k SigningKey) string { return strings.Join(strings.Fields(k.public.String()), " ") }

// The chain of NSEC goes once around all names that are answered and no others,
// and none of them denies a type that the name has, or will have at another
// site.
func TestChain(t *testing.T) {
	f := newPrimary(t, signedZone(signingKey(t, 257)))
	types := make(map[string]map[uint16]bool) // as answered, at either site
	for epoch, site := range []draas.SiteID{"primary", "dr"} {
		f.allAt(t, draas.Epoch(epoch+1), site)
		for name := range f.table.Load().nodes {
			name := textName(name)
			for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeNS, mdns.TypeSOA, mdns.TypeCNAME, mdns.TypeDNSKEY, mdns.TypeCDS, mdns.TypeCDNSKEY, mdns.TypeMX} {
				r := unpack(t, f.respond(nil, pack(t, question(name, qtype)), true))
				for _, rr := range append(r.Answer, r.Ns...) {
					if h := rr.Header(); h.Name == name && (r.Authoritative || h.Rrtype == mdns.TypeNS) && h.Rrtype == qtype {
						if types[name] == nil {
							types[name] = map[uint16]bool{mdns.TypeNSEC: true, mdns.TypeRRSIG: true}
						}
						types[name][qtype] = true
					}
				}
			}
		}
	}
	seen := 0
	for name := "example.org."; ; seen++ {
		n := f.table.Load().nodes[wire(t, name)]
		if n == nil || n.nsec == nil || types[name] == nil {
			t.Fatalf("%s is in the chain: %v", name, n)
		}
		rr, _, err := mdns.UnpackRR(append([]byte(n.name), n.nsec.wire[2:]...), 0)
		if err != nil {
			t.Fatal(err)
		}
		nsec := rr.(*mdns.NSEC)
		if want := slices.Sorted(maps.Keys(types[name])); !slices.Equal(nsec.TypeBitMap, want) {
			t.Errorf("%s has %v, its NSEC says %v", name, want, nsec.TypeBitMap)
		}
		if name = nsec.NextDomain; name == "example.org." {
			break
		}
	}
	if seen++; seen != len(types) {
		t.Errorf("%d names in the chain, %d are answered: %v", seen, len(types), slices.Sorted(maps.Keys(types)))
	}
}
