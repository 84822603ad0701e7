package nginx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func spec() *frontend.Spec {
	return &frontend.Spec{Service: "shop", Sites: map[draas.SiteID][]frontend.Server{
		"primary": {{Address: "192.0.2.1:80"}, {Address: "[2001:db8::1]:80"}}, "dr": {{Address: "192.0.2.2:80"}}}}
}

var leadings = []frontend.Leading{{}, {Site: "primary"}, {Site: "primary", Draining: true}, {Site: "dr"}}

// What a file says of itself is read back as what it leads to, and every file
// is known by its digest.
func TestFileIsReadBack(t *testing.T) {
	digests := make(map[string]string)
	for _, stream := range []bool{false, true} {
		p := place{service: "shop", stream: stream, dir: "/run/x"}
		for _, to := range leadings {
			f, err := p.render(spec(), to)
			if err != nil {
				t.Fatal(err)
			}
			_, said, _ := strings.Cut(string(f.text), `"`)
			said, _, _ = strings.Cut(said, `\n"`)
			s, err := parseStatus([]byte(said+"\n"), "shop")
			if err != nil || s.Leading != to || s.digest != f.digest {
				t.Errorf("%s is read back as %+v, %v", to, s, err)
			}
			if !intact(f.text, f.digest) || intact([]byte(strings.Replace(string(f.text), "upstream", "Upstream", 1)), f.digest) {
				t.Errorf("%s: whether it was changed is not seen", to)
			}
			if was, twice := digests[f.digest]; twice {
				t.Errorf("%s and %s have one digest", to, was)
			}
			digests[f.digest] = to.String()
		}
	}
}

func TestFileIsRefused(t *testing.T) {
	p := place{service: "shop", dir: "/run/x"}
	for what, c := range map[string]struct {
		p    place
		site draas.SiteID
		spec func(*frontend.Spec)
	}{
		"a site without servers":    {p, "gone", nil},
		"a server that is a name":   {p, "dr", func(s *frontend.Spec) { s.Sites["dr"][0].Address = "shop.example.org:80" }},
		"a server with more to say": {p, "dr", func(s *frontend.Spec) { s.Sites["dr"][0].Address = "192.0.2.2:80 backup" }},
		"a service that is a path":  {place{service: "../shop"}, "dr", nil},
		"a service of two words":    {place{service: "a b"}, "dr", nil},
		"a site of two words":       {p, "a b", func(s *frontend.Spec) { s.Sites["a b"] = s.Sites["dr"] }},
		"a site that means nowhere": {p, "-", func(s *frontend.Spec) { s.Sites["-"] = s.Sites["dr"] }},
	} {
		s := spec()
		if c.spec != nil {
			c.spec(s)
		}
		if f, err := c.p.render(s, frontend.Leading{Site: c.site}); err == nil {
			t.Errorf("%s: written as\n%s", what, f.text)
		}
	}
	for _, dir := range []string{"", "run/draas", "/run/a b", "/run/;"} {
		if _, err := New(Config{Include: dir}); err == nil {
			t.Errorf("directory %q", dir)
		}
	}
}

// FuzzStatus reads what nginx says of its file. What is taken means the same
// when it is said again.
func FuzzStatus(f *testing.F) {
	f.Add([]byte("draas shop led dr 0123456789abcdef\n"))
	f.Add([]byte("draas shop led - 0123456789abcdef\n"))
	f.Add([]byte("draas shop drained primary 0123456789abcdef\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseStatus(text, "shop")
		if err != nil {
			return
		}
		site, how := string(s.Site), led
		if site == "" {
			site = noSite
		}
		if s.Draining {
			how = drained
		}
		if again := fmt.Sprintf("draas shop %s %s %s\n", how, site, s.digest); again != string(text) {
			t.Fatalf("%q is taken for %q", text, again)
		}
	})
}

func TestProcesses(t *testing.T) {
	s, err := parseStat("12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242 20\n")
	if err != nil || s != (stat{"a (b) c", "S", 1, 424242}) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"", "12", "12 (a) S 1", ")(", "12 (a) S x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242"} {
		if s, err := parseStat(text); err == nil {
			t.Errorf("%q is taken for %+v", text, s)
		}
	}
	path := filepath.Join(t.TempDir(), "pid")
	for _, text := range []string{"", "x", fmt.Sprint(os.Getpid()), "999999999"} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := workers(path); err == nil {
			t.Errorf("process %q has the workers %v", text, all)
		}
	}
}
