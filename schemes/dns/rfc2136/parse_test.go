package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

const sampleSecret = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="

func TestParseKey(t *testing.T) {
	good := Key{Name: "draas.", Algorithm: mdns.HmacSHA256, secret: sampleSecret}
	for _, text := range []string{
		"key \"draas\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + sampleSecret + "\";\n};\n",
		"# by hand\nkey Draas. { secret " + sampleSecret + "; // the secret\nalgorithm HMAC-SHA256; /* and\n so on */ };",
		"hmac-sha256:draas:" + sampleSecret + "\n",
	} {
		if k, err := ParseKey(text); err != nil || k != good {
			t.Errorf("%q: %v, %v", text, k, err)
		}
	}
	block := func(body string) string { return `key "draas" { ` + body + " };" }
	for name, text := range map[string]string{
		"empty": "", "a comment": "# key", "no algorithm": block("secret " + sampleSecret + ";"), "no secret": block("algorithm hmac-sha256;"),
		"md5":          block("algorithm hmac-md5; secret " + sampleSecret + ";"),
		"sha1":         "hmac-sha1:draas:" + sampleSecret,
		"short":        "hmac-sha256:draas:MTIz",
		"no base64":    "hmac-sha256:draas:s3cret!s3cret!s3cret!s3cret!",
		"twice":        block("algorithm hmac-sha256; secret "+sampleSecret+";") + block("algorithm hmac-sha256; secret "+sampleSecret+";"),
		"two secrets":  block("algorithm hmac-sha256; secret " + sampleSecret + "; secret " + sampleSecret + ";"),
		"open comment": "/* key", "open quotation": `key "draas`, "nothing in it": block(""), "half": block("secret"),
		"no name": "hmac-sha256::" + sampleSecret, "odd name": "hmac-sha256:a b:" + sampleSecret,
		"large": strings.Repeat(" ", maxKeyFile) + "hmac-sha256:draas:" + sampleSecret,
	} {
		k, err := ParseKey(text)
		if err == nil {
			t.Errorf("%s: read as %v", name, k)
		} else if strings.Contains(err.Error(), sampleSecret[:8]) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}

func TestKeyDoesNotTellItsSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("hmac-sha512:draas:"+sampleSecret), 0o640); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k, "at", &k)
	said := log.String() + fmt.Sprintf("%v %+v %#v %s %q %v", k, k, k, k, k, []Key{k})
	if strings.Contains(said, sampleSecret) || !strings.Contains(said, "draas. (hmac-sha512)") {
		t.Error(said)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a key that all may read: %v", err)
	}
	if _, err := ReadKey(file + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("key \"draas\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + sampleSecret + "\";\n};\n")
	f.Add("hmac-sha512:draas:" + sampleSecret)
	f.Add("key a { /* */ # \n algorithm \"hmac-sha384\"; secret // \n x; };")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			return
		}
		if !strings.Contains(text, k.secret) || k.secret == "" || mdns.CanonicalName(k.Name) != k.Name {
			t.Fatalf("%q read as %v", text, k)
		}
		again, err := ParseKey(nameserver.Key{Name: k.Name, Algorithm: strings.TrimSuffix(k.Algorithm, "."), Secret: k.secret}.File())
		if err != nil || again != k {
			t.Fatalf("%v read again as %v, %v", k, again, err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("hmac-sha512:draas:"+sampleSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() Config {
		return Config{Zone: zone, Names: []dns.Name{atName(shop)}, Primary: dns.Server{Address: "127.0.0.1:53"}, KeyFile: file}
	}
	e, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if p := e.Promise(); p.CompareAndSet != runbook.Strong || p.Worst != 18*time.Second+500*time.Millisecond {
		t.Errorf("promise %+v", p)
	}
	cname := atName(zone)
	cname.Targets = map[draas.SiteID]dns.Target{"dr": {CNAME: "a.example.net."}}
	for name, change := range map[string]func(*Config){
		"no zone": func(c *Config) { c.Zone = "" }, "no key": func(c *Config) { c.KeyFile = file + "2" },
		"no primary": func(c *Config) { c.Primary.Address = "" }, "no port": func(c *Config) { c.Secondaries = []dns.Server{{Address: "127.0.0.1"}} },
		"a server twice": func(c *Config) { c.Secondaries = []dns.Server{c.Primary} },
		"negative":       func(c *Config) { c.Wait = -1 },
		"another zone":   func(c *Config) { c.Zone = "example.net." },
		"no target":      func(c *Config) { c.Names[0].Targets = nil },
		"two names":      func(c *Config) { c.Names = append(c.Names, c.Names[0]) },
		"one name for two": func(c *Config) {
			c.Names = append(c.Names, atName("SHOP."+zone))
			c.Names[1].Service = "other"
		},
		"an apex CNAME": func(c *Config) { c.Names = []dns.Name{cname} },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := good()
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "one server only") {
		t.Errorf("warnings %q", w)
	}
	c.Primary.Site, c.Secondaries = "primary", []dns.Server{{Address: "127.0.0.2:53"}}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "stands at site primary") {
		t.Errorf("warnings %q", w)
	}
}

func TestUnknownServiceOrSite(t *testing.T) {
	t.Parallel()
	s := nameserver.Start(t, nameserver.Fake, nameserver.Options{})
	e := effect(t, s, s.Address)
	for _, change := range []func(*runbook.Op){func(o *runbook.Op) { o.Service = "other" }, func(o *runbook.Op) { o.To = "elsewhere" }} {
		o := op(1, 0)
		change(&o)
		if err := e.Do(t.Context(), o); err == nil {
			t.Errorf("Do(%v) succeeded", o)
		}
		if got, _, err := e.Done(t.Context(), o); got != runbook.Unknown || err == nil {
			t.Errorf("Done(%v) = %v, %v", o, got, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Do(ended, op(1, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Do with an ended context: %v", err)
	}
}

// What the verdict is on answers of all kinds.
func TestVerdict(t *testing.T) {
	tests := []struct {
		rcode  int
		tsig   uint16
		other  string
		signed bool
		want   error
		says   string
	}{
		{rcode: mdns.RcodeSuccess, signed: true},
		{rcode: mdns.RcodeSuccess, want: ErrUnanswered},
		{rcode: mdns.RcodeNXRrset, signed: true, want: ErrMoved},
		{rcode: mdns.RcodeYXRrset, signed: true, want: ErrMoved},
		{rcode: mdns.RcodeYXRrset, want: ErrUnanswered},
		{rcode: mdns.RcodeServerFailure, want: ErrServer},
		{rcode: mdns.RcodeRefused, want: ErrRefused, says: "REFUSED"},
		{rcode: mdns.RcodeNotAuth, want: ErrRefused, says: "NOTAUTH"},
		{rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadKey, want: ErrKey},
		{rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadSig, want: ErrKey},
		{rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadTime, want: ErrClock},
		{rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadTime, other: "0000000003e8", want: ErrClock, says: "16m40s behind"},
		{rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadTime, other: "ffffffffffff", want: ErrClock, says: "centuries"},
		{rcode: mdns.RcodeFormatError, want: ErrRefused, says: "FORMERR"},
		{rcode: 12, want: ErrRefused, says: "rcode 12"},
	}
	for _, tt := range tests {
		m := new(mdns.Msg)
		m.Rcode = tt.rcode
		if tt.tsig != 0 {
			m.Extra = []mdns.RR{&mdns.TSIG{Hdr: mdns.RR_Header{Name: "draas.", Rrtype: mdns.TypeTSIG}, Error: tt.tsig, OtherData: tt.other}}
		}
		if err := verdict(m, tt.signed); !errors.Is(err, tt.want) || tt.want == nil && err != nil || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// FuzzAnswers: of whatever a server says, only a signed success is one, and
// only an authoritative answer without any record means that there is no
// epoch.
func FuzzAnswers(f *testing.F) {
	name := dns.EpochName(shop)
	add := func(rcode int, records ...string) {
		m := new(mdns.Msg)
		m.SetQuestion(name, mdns.TypeTXT)
		m.Response, m.Authoritative, m.Rcode = true, true, rcode
		for _, s := range records {
			rr, err := mdns.NewRR(s)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	add(mdns.RcodeSuccess, name+` 5 TXT "epoch=7 " "site=dr"`)
	add(mdns.RcodeSuccess, name+" 5 CNAME x.example.org.", `x.example.org. 5 TXT "epoch=7 site=dr"`)
	add(mdns.RcodeSuccess, name+` 5 TXT "epoch=7 site=dr rev=9223372036854775808"`)
	add(mdns.RcodeNameError)
	add(mdns.RcodeServerFailure)
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(mdns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		if err := verdict(m, false); err == nil || errors.Is(err, ErrMoved) {
			t.Fatalf("believed without a signature: %v", err)
		}
		if err := verdict(m, true); (err == nil) != (m.Rcode == mdns.RcodeSuccess) {
			t.Fatalf("verdict %v on rcode %d", err, m.Rcode)
		}
		h, err := heldOf(m, name)
		if err != nil {
			return
		}
		if !m.Authoritative || m.Truncated || m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError {
			t.Fatalf("%v read of %v", h, m)
		}
		texts := dns.Observed(m.Answer, name, mdns.TypeTXT)
		if len(h.set) == 0 {
			if len(texts) != 0 || h.decision != (dns.Decision{}) {
				t.Fatalf("no epoch read of %v", m)
			}
			return
		}
		if want, err := dns.ParseEpochText(strings.Join(texts, "\n")); err != nil || want != h.decision {
			t.Fatalf("%v read of %v", h.decision, m)
		}
		// What was read can be required, word for word.
		u := message(zone, atName(shop), dns.Target{Addresses: addrs("192.0.2.1")}, h.decision, h)
		if again := (held{set: []mdns.RR{u.Ns[1]}, decision: h.decision}).text(); again == h.text() {
			t.Fatalf("%q replaces itself", again)
		}
		if packed, err := u.Pack(); err == nil {
			back := new(mdns.Msg)
			if err := back.Unpack(packed); err != nil || len(back.Answer) != 1 || !mdns.IsDuplicate(back.Answer[0], h.set[0]) {
				t.Fatalf("%v required as %v (%v)", h.set, back.Answer, err)
			}
		}
	})
}
