package keepalived

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write testdata/snippet.golden")

func sample(dir string) Config {
	return Config{
		Name: "shop",
		Addresses: []Address{
			{"lan0", netip.MustParsePrefix("10.7.0.100/32")},
			{"lan0", netip.MustParsePrefix("fd07::100/128")},
			{"lan1", netip.MustParsePrefix("10.8.0.100/24")},
		},
		Router: 51, Track: filepath.Join(dir, "shop"), Check: []string{"/usr/bin/draasd", "frontend", "vip", "shop", "--check"}, User: "nobody",
	}
}

func TestSnippet(t *testing.T) {
	got, err := Snippet(sample("/run/draas-vip"))
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/snippet.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("%v; run with -update if this is meant:\n%s", err, got)
	}
}

func TestSnippetRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*Config){
		"name":            func(c *Config) { c.Name = "a {" },
		"no addresses":    func(c *Config) { c.Addresses = nil },
		"router id 256":   func(c *Config) { c.Router = 256 },
		"router id 0":     func(c *Config) { c.Router = 0 },
		"adverts 15ms":    func(c *Config) { c.Advert = 15 * time.Millisecond },
		"adverts 1m":      func(c *Config) { c.Advert = time.Minute },
		`track file "r`:   func(c *Config) { c.Track = "run/x" },
		`track file "/`:   func(c *Config) { c.Track = "/run/$x" },
		"check [\"d":      func(c *Config) { c.Check = []string{"draasd"} },
		"check []":        func(c *Config) { c.Check = nil },
		"plain arg":       func(c *Config) { c.Check = append(c.Check, "a\" b") },
		"user":            func(c *Config) { c.User = "a b" },
		"on interface \"": func(c *Config) { c.Addresses[0].Interface = "lan 0" },
		"address \"fe80": func(c *Config) {
			c.Addresses[0].Prefix = netip.PrefixFrom(netip.MustParseAddr("fe80::1"), 64)
			c.Addresses[1].Prefix = c.Addresses[0].Prefix
		},
	} {
		c := sample("/run/draas-vip")
		spoil(&c)
		if got, err := Snippet(c); err == nil || !strings.Contains(err.Error(), want) || got != "" {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// keepalived itself finds no fault with what is written, alone and where the
// tracking is a group's.
func TestConfigTest(t *testing.T) {
	n := newHost(t)
	group := regexp.MustCompile(`(?s)    track_file \{.*track_script \{[^}]*\}\n`)
	for what, change := range map[string]func(*Config) func(string) string{
		"alone": func(*Config) func(string) string { return nil },
		"IPv6 only": func(c *Config) func(string) string {
			c.Addresses = c.Addresses[1:2]
			return nil
		},
		"slow": func(c *Config) func(string) string {
			c.Advert = 1250 * time.Millisecond
			return nil
		},
		"group": func(*Config) func(string) string {
			return func(s string) string {
				tracking := group.FindString(s)
				return strings.Replace(s, tracking, "", 1) + "vrrp_instance other {\n    interface lan1\n    virtual_router_id 52\n    priority 254\n    virtual_ipaddress {\n        10.8.0.101/32\n    }\n}\n" +
					"vrrp_sync_group all {\n    group {\n        draas_shop\n        other\n    }\n" + tracking + "}\n"
			}
		},
	} {
		dir := t.TempDir()
		c := sample(dir)
		c.Check, c.User = []string{"/bin/true"}, "root"
		rewrite := change(&c)
		s, err := Snippet(c)
		if err != nil {
			t.Fatal(err)
		}
		if rewrite != nil {
			s = rewrite(s)
		}
		conf, log := filepath.Join(dir, "keepalived.conf"), filepath.Join(dir, "log")
		if err := os.WriteFile(conf, []byte("global_defs {\n    enable_script_security\n}\n"+s), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := n.m.Run("/", "keepalived", "--config-test="+log, "--vrrp", "--use-file", conf)
		said, _ := os.ReadFile(log) // it is not there if nothing was said
		if err != nil || len(said) > 0 {
			t.Errorf("%s: %v: %s%s\n%s", what, err, out, said, s)
		}
	}
}

func TestTrackFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop")
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil { // of an earlier run
		t.Fatal(err)
	}
	says := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	f, err := OpenTrackFile(path)
	if err != nil {
		t.Fatal(err)
	}
	says("0\n")
	for _, lease := range []bool{true, true, false, true} {
		if err := f.Set(lease); err != nil {
			t.Fatal(err)
		}
		says(map[bool]string{true: "1\n", false: "0\n"}[lease])
	}
	// What is said already is not said again: keepalived would look each time.
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Set(true); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("written again: %v", err)
	}
	// What others did to it is put right.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(true); err != nil {
		t.Fatal(err)
	}
	says("1\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	says("0\n")
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if _, err := OpenTrackFile(filepath.Join(t.TempDir(), "none", "shop")); err == nil {
		t.Error("opened in a directory that is not there")
	}
	if err := os.MkdirAll(path+"d/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTrackFile(path + "d"); err == nil {
		t.Error("a directory was written over")
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), ".shopd.new")); err == nil {
		t.Error("what could not be written was left")
	}
}

// node is a host of its own with a real keepalived.
type node struct {
	t     *testing.T
	m     *lab.Machine
	dir   string
	track *TrackFile
	cmd   *exec.Cmd
	log   string
}

func (n *node) shell(line string) string {
	n.t.Helper()
	out, err := n.m.Run("/", "sh", "-ec", line)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// has reports whether all the addresses are there, or none is.
func (n *node) has(all bool) bool {
	list := n.shell("ip -br address")
	for _, a := range []string{"10.7.0.100/", "fd07::100/", "10.8.0.100/"} {
		if strings.Contains(list, a) != all {
			return false
		}
	}
	return true
}

// await polls for all of the addresses, or none, and returns how long it took.
func (n *node) await(what string, all bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !n.has(all) {
		select {
		case <-deadline.C:
			said, _ := os.ReadFile(n.log) // for the message
			n.t.Fatalf("not within 10 s: %s\n%s\n%s", what, n.shell("ip -br address"), said)
		case <-tick.C:
		}
	}
	return time.Since(start)
}

// newHost makes a machine with two interfaces.
func newHost(t *testing.T) *node {
	t.Helper()
	m, err := lab.New("node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{t: t, m: m, dir: t.TempDir()}
	n.shell(`for i in 0 1; do
		ip link add lan$i type veth peer name peer$i
		ip link set lan$i up; ip link set peer$i up
		ip address add 10.$((7+i)).0.1/24 dev lan$i
	done
	while ip -br link show type veth | grep -q DOWN; do :; done`)
	return n
}

// newNode starts keepalived with the snippet. The check succeeds while the file
// "alive" is there and empty, and does not end while there is something in it.
func newNode(t *testing.T) *node {
	t.Helper()
	n := newHost(t)
	n.log = filepath.Join(n.dir, "log")
	alive := filepath.Join(n.dir, "alive")
	check := filepath.Join(n.dir, "check")
	conf := filepath.Join(n.dir, "keepalived.conf")
	cfg := sample(n.dir)
	cfg.Check, cfg.User = []string{check, alive}, "root"
	snippet, err := Snippet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for path, what := range map[string]string{
		alive: "", conf: "global_defs {\n    enable_script_security\n}\n" + snippet,
	} {
		if err := os.WriteFile(path, []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(check, []byte("#!/bin/sh\n[ -e \"$1\" ] || exit 1; [ ! -s \"$1\" ] || exec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// keepalived trusts no script in a directory that others may write to, as
	// /tmp is: it is seen elsewhere, by the machine only.
	n.shell(fmt.Sprintf("mkdir /run/lab && mount --bind %s /run/lab", n.dir))
	n.shell(fmt.Sprintf("sed -i s:%s/:/run/lab/:g %s", n.dir, conf))
	if n.track, err = OpenTrackFile(cfg.Track); err != nil {
		t.Fatal(err)
	}
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	log, err := os.Create(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd = n.m.Command("/", "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--no-syslog",
		"--use-file", "/run/lab/keepalived.conf", "--pid", "/run/lab/pid", "--vrrp_pid", "/run/lab/vrrp.pid")
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = n.cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = n.cmd.Wait()                       // however it ends
		_ = log.Close()                        // nothing more comes
	})
}

func (n *node) set(lease bool) {
	n.t.Helper()
	if err := n.track.Set(lease); err != nil {
		n.t.Fatal(err)
	}
}

// A real keepalived sets and removes all addresses as the file says, is in fault
// without the file, and when the frontend does not answer.
func TestFollows(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	// keepalived has read its file and run the check when it says so.
	n.set(true)
	n.await("the addresses, for the first time", true)
	for range 3 {
		n.set(false)
		gone := n.await("no addresses", false)
		n.set(true)
		there := n.await("the addresses", true)
		t.Logf("gone after %v, there after %v", gone, there)
		if there > time.Second {
			t.Errorf("there after %v", there)
		}
	}
	if err := os.Remove(n.track.path); err != nil {
		t.Fatal(err)
	}
	n.await("no addresses, without a file", false)
	n.set(true)
	n.await("the addresses, with the file", true)
	if err := os.WriteFile(n.track.path, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.await("no addresses, with nonsense in the file", false)
	n.set(true)
	n.await("the addresses, with the file put right", true)
	if err := os.Remove(filepath.Join(n.dir, "alive")); err != nil {
		t.Fatal(err)
	}
	// The frontend was killed: nobody writes the file.
	if took := n.await("no addresses, without a frontend", false); took > Worst+500*time.Millisecond {
		t.Errorf("addresses for %v without a frontend", took)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "alive"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.await("the addresses, with a frontend", true)
	// It stands still: the check does not end.
	if err := os.WriteFile(filepath.Join(n.dir, "alive"), []byte("still\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if took := n.await("no addresses, with a frontend that stands still", false); took > Worst+500*time.Millisecond {
		t.Errorf("addresses for %v with a frontend that stands still", took)
	}
	said, err := os.ReadFile(n.log)
	if err != nil || strings.Contains(string(said), "WARNING") || strings.Contains(strings.ToLower(string(said)), "unknown keyword") {
		t.Errorf("%v, keepalived says:\n%s", err, said)
	}
}

// What keepalived starts with is what the file says; without a lease it has no
// addresses at any time.
func TestStartsWithout(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	deadline := time.Now().Add(1500 * time.Millisecond)
	for time.Now().Before(deadline) {
		if !n.has(false) {
			t.Fatal("addresses without a lease")
		}
	}
}
