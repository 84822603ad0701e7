package config_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

var update = flag.Bool("update", false, "write the expected messages anew")

// problemLine is the promise of the messages' form.
var problemLine = regexp.MustCompile(`^[\w.-]+\.toml:[1-9][0-9]*: (.+: )?.+, .+$`)

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse(filepath.Base(file), data)
			var problems config.Problems
			if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
				t.Fatalf("Parse = %v, %v; want nothing but problems", c, err)
			}
			for i, p := range problems {
				if !problemLine.MatchString(p.String()) {
					t.Errorf("not FILE:LINE: key: wrong, right: %q", p)
				}
				if i > 0 && p.Line < problems[i-1].Line {
					t.Errorf("not in the order of lines: %q", p)
				}
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") || strings.Contains(got, "PRIVATE KEY") {
				t.Errorf("a message shows a secret:\n%s", got)
			}
			wantFile := strings.TrimSuffix(file, ".toml") + ".want"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, []byte(got)) {
				t.Errorf("messages differ\n--- got\n%s--- want\n%s", got, want)
			}
		})
	}
}

// loadGood reads a file that must pass.
func loadGood(t *testing.T, file string) *config.Config {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(filepath.Base(file), data)
	if err != nil {
		t.Fatalf("Parse(%s):\n%v", file, err)
	}
	return c
}

// samples are the files that people copy.
func samples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../etc/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("samples %v: %v", files, err)
	}
	return files
}

func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range append(files, samples(t)...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			mustHold(t, loadGood(t, file))
		})
	}
}

func TestDefaults(t *testing.T) {
	c := loadGood(t, "testdata/good/minimal.toml")
	p := config.Profiles()[0]
	s, _ := c.Service("shop")
	k := s.Checks[0]
	switch {
	case c.Profile != p || p.Name != "cautious":
		t.Errorf("profile %+v", c.Profile)
	case c.Data != "data" || c.Control != "data/draasd.sock" || c.Guard != "data/guard.sock":
		t.Errorf("paths %q %q %q", c.Data, c.Control, c.Guard)
	case c.DNS["public"].Contact != "hostmaster.example.org." || c.DNS["public"].NegativeTTL != 5*time.Second || c.DNS["public"].Stale != 30*time.Second:
		t.Errorf("zone %+v", c.DNS["public"])
	case s.Confirmations != 2 || s.Automatic || s.Fence.Kind != draas.FenceNone || s.Fence.Margin != 0:
		t.Errorf("service %+v", s)
	case s.DNS.TTL != 5*time.Second || s.DNS.Name != "shop.example.org.":
		t.Errorf("service dns %+v", s.DNS)
	case s.Timing != config.Timing{Lease: draas.Lease{Length: p.Lease, Drift: config.Drift}, Renew: p.Renew, Confirm: p.Confirm, Hold: p.Hold, HoldMax: 24 * time.Hour}:
		t.Errorf("timing %+v", s.Timing)
	case k.Interval != p.Interval || k.Timeout != p.Timeout || k.Rise != p.Rise || k.Fall != p.Fall || k.SecondLook != p.SecondLook || k.Jitter != 0.1:
		t.Errorf("check %+v", k)
	case c.Raft != config.Raft{Heartbeat: p.Heartbeat, Election: p.Election}:
		t.Errorf("raft %+v", c.Raft)
	}
	m, ok := c.Member("dr")
	if !ok || m.ListenPeer != "[2001:db8::2]:7400" || m.Domain != "dr" || m.Role != draas.RoleSite {
		t.Errorf("member %+v, %v", m, ok)
	}
	if got := c.Sites(); !slices.Equal(got, []draas.SiteID{"dr", "primary"}) {
		t.Errorf("Sites = %v", got)
	}
}

func TestOverridesAndKinds(t *testing.T) {
	c := loadGood(t, "testdata/good/kinds.toml")
	s, _ := c.Service("exec")
	want := config.Timing{Lease: draas.Lease{Length: 6 * time.Second, Drift: 0.1, Margin: 500 * time.Millisecond}, Renew: time.Second, HoldMax: 24 * time.Hour}
	if s.Timing != want {
		t.Errorf("timing %+v, want %+v", s.Timing, want)
	}
	if s.Fence.Close[0] != "/bin/a" || s.Checks[0].Port != 0 || s.Checks[1].Port != 53 || s.Checks[1].QType != "A" {
		t.Errorf("service %+v", s)
	}
	u, _ := c.Service("unit")
	if k := u.Checks[0]; !k.Body.MatchString("ok") || k.Body.MatchString("not ok") || k.Path != "/" || u.Fence.Margin != time.Second {
		t.Errorf("service %+v", u)
	}
	if v := c.DNS["z"].Records[0].Value[0]; v != "path.z.example." {
		t.Errorf("CNAME value %q is not folded", v)
	}
	kernel, _ := c.Service("kernel")
	if kernel.Fence.Margin != 150*time.Millisecond || len(kernel.Sites()) != 3 {
		t.Errorf("service %+v", kernel)
	}
	if _, ok := c.Service("nobody"); ok || c.RTO("nobody") != nil {
		t.Error("a service that is not there was found")
	}
}

func TestTargets(t *testing.T) {
	c := loadGood(t, "testdata/good/kinds.toml")
	for _, tt := range []struct {
		service draas.ServiceID
		check   int
		vantage draas.MemberID
		site    draas.SiteID
		want    string
	}{
		{"path", 0, "a", "a", "127.0.0.1:8443"}, // behind the fence
		{"path", 0, "b", "b", "localhost:8443"},
		{"path", 0, "b", "a", "10.0.0.1:9101"}, // probe_via
		{"path", 0, "c", "a", "192.0.2.10:443"},
		{"path", 0, "a", "c", ""}, // not there
		{"exec", 0, "a", "b", "b.example"},
		{"exec", 1, "b", "b", "127.0.0.1:53"}, // local
		{"exec", 1, "a", "c", "c.example:53"},
		{"kernel", 0, "b", "b", "localhost:2525"},
		{"kernel", 0, "a", "b", "192.0.2.13:25"},
		{"kernel", 0, "a", "c", "[2001:db8::14]:25"},
		{"unit", 0, "a", "a", "192.0.2.15:8080"}, // no local, no forward
	} {
		s, _ := c.Service(tt.service)
		if got := s.TargetFor(&s.Checks[tt.check], tt.vantage, tt.site); got != tt.want {
			t.Errorf("%s check %d: %s looks at %s by %q, want %q", tt.service, tt.check, tt.vantage, tt.site, got, tt.want)
		}
	}
	for _, tt := range []struct{ from, to, want string }{
		{"b", "a", "10.0.0.1:7400"},
		{"c", "a", "192.0.2.1:7400"},
		{"a", "nobody", ""},
	} {
		if got := c.PeerAddress(draas.MemberID(tt.from), draas.MemberID(tt.to)); got != tt.want {
			t.Errorf("PeerAddress(%s, %s) = %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestAt(t *testing.T) {
	c := loadGood(t, "testdata/good/kinds.toml")
	at := c.At("/srv/a")
	p, _ := at.Service("path")
	for _, tt := range []struct{ got, want string }{
		{at.Data, "/srv/a/state"},
		{at.Control, "/srv/a/state/draasd.sock"},
		{at.Guard, "/srv/a/state/guard.sock"},
		{at.TLS.CA, "/srv/a/tls/ca.crt"},
		{at.TLS.Key, "/etc/draas/member.key"}, // absolute already
		{p.Checks[0].CA, "/srv/a/roots.pem"},
	} {
		if tt.got != tt.want {
			t.Errorf("path %q, want %q", tt.got, tt.want)
		}
	}
	if was, _ := c.Service("path"); c.Data != "state" || was.Checks[0].CA != "roots.pem" {
		t.Error("At changed its receiver")
	}
	if at.Digest() != c.Digest() || c.Digest() == "" {
		t.Error("the digest depends on where the file is")
	}
	if u, _ := at.Service("unit"); u.Checks[0].CA != "" {
		t.Error("a path that is not given became one")
	}
}

func TestBounds(t *testing.T) {
	deep := strings.Repeat("a.", 200_000) + "a = 1\n"
	for name, tt := range map[string]struct{ data, want string }{
		"bytes":   {strings.Repeat("#", 1<<20) + "\n", "1 MiB"},
		"dots":    {deep, "parts"},
		"header":  {"[" + strings.Repeat("a.", 200_000) + "a]\n", "parts"},
		"nesting": {"a = " + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000), "nested"},
		"inline":  {"a = " + strings.Repeat("{a=", 200_000) + "1" + strings.Repeat("}", 200_000), "nested"},
		"key":     {"[" + strings.Repeat("a", 500_000) + "]\n" + strings.Repeat("b=1\n", 1000), "a key of"},
		"quoted":  {`["` + strings.Repeat(`\u0041`, 100_000) + "\"]\n", "a key of"},
		"values":  {"a = [" + strings.Repeat("1,", 500_000) + "]\n", "more than"},
	} {
		_, err := config.Parse("f.toml", []byte(tt.data))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %.200v; want one problem about %q", name, err, tt.want)
		}
	}
}

func TestProblemsPrintBounded(t *testing.T) {
	_, err := config.Parse("f.toml", []byte(strings.Repeat("x", 3)+" = 1\n"+strings.Join(numbered(500), "\n")))
	if n := strings.Count(err.Error(), "\n"); n != 100 || !strings.Contains(err.Error(), "more") {
		t.Errorf("%d lines", n)
	}
	var ps config.Problems
	if !errors.As(err, &ps) || len(ps) < 500 {
		t.Errorf("%d problems", len(ps))
	}
}

func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = "k" + strconv.Itoa(i) + " = 1"
	}
	return lines
}

// Each kind of mistake that the messages know stands in testdata/bad.
func TestBadFilesCoverManyKinds(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.want")
	kinds := map[string]bool{}
	value := regexp.MustCompile(`"[^"]*"|[0-9][\w.:/-]*|\b[\w-]+(\.[\w-]+)+\.?|\[[^]]*\]`)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			parts := strings.SplitN(line, ": ", 3)
			kinds[value.ReplaceAllString(parts[len(parts)-1], "_")] = true
		}
	}
	if len(kinds) < 100 {
		t.Errorf("%d kinds of problems", len(kinds))
	}
	t.Logf("%d kinds of problems", len(kinds))
}

// A file that says little wrong must say it soon, whatever its size; so must
// one whose many wrong names would each have to be compared with many.
func TestLargeFilesAreQuick(t *testing.T) {
	var services, group, members, fronts strings.Builder
	group.WriteString("group.g.services = [")
	for i := range 2400 {
		n := strconv.Itoa(i)
		services.WriteString("[service.s" + n + "]\nfence.kind='path'\nfence.listen.a=':" + n + "'\nmax_rto='1s'\nx=1\ny=1\n")
	}
	for i := range 6000 {
		group.WriteString("'another-" + strconv.Itoa(10000+i) + "',")
		members.WriteString("member.m.peer_from.another-" + strconv.Itoa(10000+i) + " = '192.0.2.1:1'\n")
	}
	group.WriteString("]\n")
	for i := range 3000 {
		group.WriteString("[service.service-" + strconv.Itoa(10000+i) + "]\n")
		members.WriteString("[member.service-" + strconv.Itoa(10000+i) + "]\n")
	}
	for i := range 100 {
		fronts.WriteString("[frontend.f" + strconv.Itoa(i) + "]\n")
	}
	for i := range 2800 {
		n := strconv.Itoa(i)
		fronts.WriteString("[service.s" + n + "]\nscheme='frontend'\nfrontend.listen=[':443']\nfrontend.names=['s" + n + ".example']\n")
	}
	for name, text := range map[string]string{"services": services.String(), "group": group.String(), "members": members.String(), "frontends": fronts.String()} {
		start := cpuTime(t)
		if _, err := config.Parse("f.toml", []byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := cpuTime(t) - start; took > 10*time.Second {
			t.Errorf("%s: took %s of a core", name, took)
		}
	}
}

// cpuTime is what this process has used; unlike the time of day it does not
// grow with what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Whatever single line is dropped or doubled, the result is problems or a
// value that holds.
func TestEveryLineDroppedOrDoubled(t *testing.T) {
	passed := 0
	for _, file := range append([]string{"testdata/good/kinds.toml", "testdata/good/minimal.toml", "testdata/good/whole.toml", "testdata/good/two-site.toml", "testdata/good/frontend.toml"}, samples(t)...) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(data), "\n")
		for i := range lines {
			dropped := slices.Delete(slices.Clone(lines), i, i+1)
			doubled := slices.Insert(slices.Clone(lines), i, lines[i])
			for _, l := range [][]string{dropped, doubled} {
				if c, err := config.Parse("f.toml", []byte(strings.Join(l, "\n"))); err == nil {
					mustHold(t, c)
					passed++
				}
			}
		}
	}
	if passed < 50 {
		t.Errorf("only %d variants passed", passed)
	}
}
