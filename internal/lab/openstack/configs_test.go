package openstack

import (
	"os"
	"strings"
	"testing"
)

// The files of a site are made of templates that fit it.
func TestConfigs(t *testing.T) {
	s := &Site{Options: Options{Name: "east", Number: 1, Dir: t.TempDir(), Workers: 3}, Host: "127.0.1.1"}
	for _, dir := range []string{"etc/glance", "etc/swift"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.writeConfigs(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"keystone.conf": s.Database("keystone"), "nova.conf": s.Database("nova_api"), "named.conf": "5401", "glance/glance-api.conf": s.Host + ":5000",
		"swift/object.conf": "6200", "neutron.conf": "api_workers = 3",
	} {
		text, err := os.ReadFile(s.path("etc", file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q: %v\n%s", file, want, err, text)
		}
	}
}
