package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// A zone is signed with keys that dnssec-keygen made; delv takes the answers
// of both sites for true, before a move and after it, and check says what the
// zone above needs.
func TestSignedZone(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	keys := t.TempDir()
	out, err := exec.Command("dnssec-keygen", "-q", "-K", keys, "-a", "ECDSAP256SHA256", "-f", "KSK", "draas.test").CombinedOutput()
	if err != nil {
		t.Fatalf("dnssec-keygen (apt-get install bind9-utils, or make setup): %v: %s", err, out)
	}
	base := filepath.Join(keys, strings.TrimSpace(string(out)))
	zone := filepath.Join(keys, "draas.test.zone")
	if err := os.WriteFile(zone, []byte("@ 60 MX 10 mail\nmail 60 A 192.0.2.25\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.everywhere(func(text string) string {
		return strings.Replace(text, "provider = \"embedded\"\n", fmt.Sprintf("provider = \"embedded\"\nzone_file = %q\ndnssec_keys = %q\n", zone, keys), 1)
	})
	report, err := Check(l.file("dr"), true)
	ds, dsErr := exec.Command("dnssec-dsfromkey", "-2", base+".key").Output()
	if err != nil || dsErr != nil {
		t.Fatal(err, dsErr)
	}
	if want := strings.Fields(string(ds)); !strings.Contains(strings.ToLower(report), strings.ToLower(want[len(want)-1])) || !strings.Contains(report, "dns.demo: the zone above needs draas.test. ") {
		t.Errorf("check does not tell the DS %s:\n%s", ds, report)
	}
	l.startAll()
	l.activate()
	anchor := anchorOf(t, base+".key")
	validated := func(site, name, rtype, to string) func() bool {
		host, port, err := net.SplitHostPort(l.dnsAt(site))
		if err != nil {
			t.Fatal(err)
		}
		return func() bool {
			got, _ := exec.Command("delv", "@"+host, "-p", port, "-a", anchor, "+root=draas.test", name, rtype).CombinedOutput()
			return strings.Contains(string(got), "; fully validated") && strings.Contains(string(got), to)
		}
	}
	for _, site := range []string{"primary", "dr"} {
		l.await(site+" is believed", 10*time.Second, validated(site, "web.draas.test", "A", "127.0.0.2"))
		l.await(site+" is believed of the zone file", 10*time.Second, validated(site, "draas.test", "MX", "10 mail.draas.test."))
	}
	l.request("witness", api.Request{Request: failover.Request{Move: failover.MoveSwitchover}, Site: "dr"})
	l.awaitPhase(failover.PhaseElsewhere, 20*time.Second)
	for _, site := range []string{"primary", "dr"} {
		l.await(site+" is believed after the move", 10*time.Second, validated(site, "web.draas.test", "A", "127.0.0.3"))
	}
	if err := os.Chmod(base+".private", 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(l.file("dr"), true); err == nil || !strings.Contains(err.Error(), "dns.demo: read keys of draas.test.: ") || !strings.Contains(err.Error(), "chmod o=") {
		t.Errorf("a key that others can read: %v", err)
	}
}

// anchorOf writes the trust anchor of a key as delv reads it.
func anchorOf(t *testing.T, key string) string {
	t.Helper()
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 6 && f[2] == "DNSKEY" {
			anchor := filepath.Join(t.TempDir(), "anchor")
			conf := fmt.Sprintf("trust-anchors {\n\tdraas.test. static-key %s %s %s %q;\n};\n", f[3], f[4], f[5], strings.Join(f[6:], ""))
			if err := os.WriteFile(anchor, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			return anchor
		}
	}
	t.Fatalf("no key in %s", key)
	return ""
}
