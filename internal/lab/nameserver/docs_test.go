package nameserver

import (
	"os"
	"strings"
	"testing"
)

// docs/dns.md shows what the servers here are started with.
func TestDocsShowTheConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, dir := range map[string]string{"bind.conf": "/var/lib/bind/", "knot.conf": "/var/lib/knot/", "pdns.conf": "/var/lib/powerdns/", "pdns.sh": "/var/lib/powerdns/"} {
		want, err := Text(file, Values{
			Options: Options{Zone: "example.org.", Names: []string{"shop.example.org."},
				Key:      Key{Name: "draas.", Algorithm: "hmac-sha256", Secret: "SECRET-OF-DRAAS.KEY"},
				Transfer: Key{Name: "transfer.", Algorithm: "hmac-sha256", Secret: "SECRET-OF-TRANSFER.KEY"}},
			Dir: dir, From: "198.51.100.0/24,203.0.113.0/24",
			Secondaries: []Endpoint{{"203.0.113.53", "53"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(want, "difference-no-serial") {
			t.Errorf("%s: with it Knot goes back to the zone file when it starts", file)
		}
		if !strings.Contains(string(text), "```\n"+want+"```\n") {
			t.Errorf("docs/dns.md does not show %s as it is:\n%s", file, want)
		}
	}
}
