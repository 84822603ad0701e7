package authority

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSigningValidation(t *testing.T) {
	good := signingKey(t, 257)
	inner := Zone{Name: "inner.example.org.", Servers: []NameServer{{Site: "dr", Host: "ns.elsewhere.net."}}}
	other := good
	other.public.Hdr.Name = "example.net."
	tests := []struct {
		name  string
		zones []Zone
		want  string
	}{
		{"no key", []Zone{signedZone()}, "dnssec-keygen"},
		{"twice", []Zone{signedZone(good, good)}, "two keys have the tag"},
		{"another zone's", []Zone{signedZone(other)}, "not the zone's"},
		{"validity", []Zone{func() Zone { z := signedZone(good); z.Signing.Validity = time.Minute; return z }()}, "valid for 1m0s"},
		{"secondaries", []Zone{func() Zone {
			z := copied(Secondary{Key: Key{Name: "k.", Algorithm: "hmac-sha256", Secret: "c2VjcmV0c2VjcmV0c2VjcmV0"}})
			z.Signing = &Signing{Keys: []SigningKey{good}}
			return z
		}()}, "cannot have secondaries"},
		{"hidden zone", []Zone{signedZone(good), inner}, "without NS records"},
	}
	for _, tt := range tests {
		if err := CheckZones(tt.zones); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	public, private := newSigningKey(t, 257)
	public2, private2 := newSigningKey(t, 256)
	texts := []struct{ name, public, private, want string }{
		{"another private key", public, private2, "another key's"},
		{"no private key", public, "", "Private-key-format"},
		{"cut", public, strings.Split(private, "PrivateKey")[0], "no PrivateKey"},
		{"two", public + public2, private, "one DNSKEY"},
		{"none", "", private, "not example.org"},
		{"no zone file", "(", private, ".key file"},
		{"other zone", strings.ReplaceAll(public, "example.org.", "example.net."), private, "not example.org"},
		{"rsa", strings.Replace(public, "257 3 13", "257 3 8", 1), private, "want 13"},
		{"revoked", strings.Replace(public, "257 3 13", "385 3 13", 1), private, "revoked"},
		{"time", public, private + "Activate: soon\n", "activate is no time"},
	}
	for _, tt := range texts {
		if _, err := ParseSigningKey("example.org.", tt.public, tt.private); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	dir := t.TempDir()
	reads := func(want string) {
		t.Helper()
		if _, err := ReadSigningKeys(dir, "example.org."); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	reads("dnssec-keygen -a ECDSAP256SHA256")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("Kexample.org.+013+00001.key", public, 0o644)
	reads("no such file")
	write("Kexample.org.+013+00001.private", private, 0o644)
	reads("chmod o=")
	if err := os.Chmod(filepath.Join(dir, "Kexample.org.+013+00001.private"), 0o600); err != nil {
		t.Fatal(err)
	}
	reads("")
	if text := fmt.Sprintf("%v %+v %#v", good, good, good); !strings.Contains(text, fmt.Sprint("ksk ", good.tag)) || len(text) > 200 {
		t.Errorf("printed as %s", text)
	}
}
