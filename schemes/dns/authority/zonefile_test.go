package authority

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

const zoneText = `$ORIGIN ha.example.org.
$TTL 300
@	IN	SOA	ns.elsewhere.test. hostmaster 7 3600 600 86400 60
@	IN	NS	ns.elsewhere.test.
@	IN	MX	10 Mail
mail	60	IN	A	192.0.2.25
_sip._tcp	IN	SRV	0 5 5060 mail
@	IN	CAA	0 issue "ca.example.net"
www	IN	CNAME	Shop
sub	IN	NS	ns.sub
ns.sub	IN	A	192.0.2.53
`

func TestZoneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, []byte(zoneText), 0o600); err != nil {
		t.Fatal(err)
	}
	rrs, err := ReadZoneFile(file, "HA.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	if len(rrs) != 7 {
		t.Errorf("%d records: %v", len(rrs), rrs)
	}
	z := &zone{name: "ha.example.org."}
	if errs := z.addStatic(rrs); len(errs) > 0 {
		t.Fatal(errs)
	}
	var got strings.Builder
	for _, rr := range z.static {
		got.WriteString(strings.Join(strings.Fields(rr.String()), " ") + "\n")
	}
	want := `ha.example.org. 300 IN MX 10 Mail.ha.example.org.
mail.ha.example.org. 60 IN A 192.0.2.25
_sip._tcp.ha.example.org. 300 IN SRV 0 5 5060 mail.ha.example.org.
ha.example.org. 300 IN CAA 0 issue "ca.example.net"
www.ha.example.org. 300 IN CNAME shop.ha.example.org.
sub.ha.example.org. 300 IN NS ns.sub.ha.example.org.
ns.sub.ha.example.org. 300 IN A 192.0.2.53
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestZoneFileRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"www IN A":                         "no data",
		"$INCLUDE /etc/passwd":             "$INCLUDE directive not allowed",
		"www.example.net. 60 IN A 1.2.3.4": "not in zone ha.example.org.",
		"*.www 60 IN A 192.0.2.1":          "octet '*'",
		"www 700000 IN A 192.0.2.1":        "ttl of 700000 s, at most 604800",
		"sub 60 IN DS 1 13 2 00":           "a type that cannot stand in the file",
		"www 60 CH A 192.0.2.1":            "not of class IN",
	} {
		rrs, err := parseZone(strings.NewReader(text+"\n"), "ha.example.org.", "zone")
		if err == nil {
			z := &zone{name: "ha.example.org."}
			for _, e := range z.addStatic(rrs) {
				err = e
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	z, many := &zone{name: "ha.example.org."}, make([]mdns.RR, 100)
	for i := range many {
		many[i] = &mdns.A{Hdr: mdns.RR_Header{Name: "else.where.", Rrtype: mdns.TypeA, Class: mdns.ClassINET}, A: []byte{192, 0, 2, 1}}
	}
	if errs := z.addStatic(many); len(errs) != maxZoneErrors+1 {
		t.Errorf("%d errors are reported", len(errs))
	}
	if _, err := ReadZoneFile(filepath.Join(t.TempDir(), "none"), "ha.example.org."); err == nil {
		t.Error("no file is read")
	}
}
