package lab

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	repo  = "../.."
	guard = "draas-guard.service"
	run   = "draasd.service"
	boot  = "draas-fence-boot.service"
)

// What stands at each machine, as etc/failover.toml has it; the witness has an
// IPv6 address besides, for the users who stand beside it.
var addresses = map[string][]string{
	"primary": {"198.51.100.10", "198.51.100.20", "198.51.100.21", "2001:db8:1::20"},
	"dr":      {"203.0.113.10", "203.0.113.20", "203.0.113.21", "2001:db8:2::20"},
	"witness": {"192.0.2.30", "2001:db8:3::30"},
}

// Where users find the shop, and at which site that is.
var shopAddresses = map[string]string{
	"198.51.100.20:443": "primary", "[2001:db8:1::20]:443": "primary",
	"203.0.113.20:443": "dr", "[2001:db8:2::20]:443": "dr",
}

// systemctl stands in for the real one, as far as the guard uses it.
const systemctl = `#!/bin/sh
state=/run/stand-in/slapd
for unit; do :; done
[ "$unit" = slapd.service ] || { echo "Unit $unit could not be found." >&2; exit 4; }
case $1 in
start) echo active >$state ;;
stop|kill) echo inactive >$state ;;
is-active) cat $state; grep -qx active $state || exit 3 ;;
*) echo "systemctl $*: the stand-in cannot" >&2; exit 1 ;;
esac
`

// checkLDAP is the program that etc/failover.toml names.
const checkLDAP = `#!/bin/sh
echo "$DRAAS_SERVICE at $DRAAS_SITE, $DRAAS_ADDRESS: $*" >/run/draas/check-ldap
`

// The daemon and the guard run from etc/failover.toml under the units in
// etc/systemd/, installed as docs/quickstart.md says; and the site is lost.
// systemd itself is not there: the test does with the units what it would.
func TestShippedFiles(t *testing.T) {
	needTools(t)
	work := prepare(t)
	web := newShop(t)
	sw := newSwitch(t)
	members := make(map[string]*machine)
	for name, addrs := range addresses {
		m := newMachine(t, name)
		m.plug(sw, addrs...)
		install(m, work, web.caPEM)
		members[name] = m
	}
	primary, dr, witness := members["primary"], members["dr"], members["witness"]
	for _, u := range []string{guard, boot} {
		primary.run(work, "install", "-D", "-m", "644", "etc/systemd/draas-xdp.conf", "/etc/systemd/system/"+u+".d/xdp.conf")
	}
	if out := primary.run("/", "systemd-analyze", "verify", "/etc/systemd/system/"+guard, "/etc/systemd/system/"+run, "/etc/systemd/system/"+boot, "/etc/systemd/system/run-draas-bpf.mount"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	web.serve(primary, "198.51.100.20:443", "[2001:db8:1::20]:443", "127.0.0.1:8443")
	web.serve(dr, "203.0.113.20:443", "[2001:db8:2::20]:443", "127.0.0.1:8443")
	primary.accept("198.51.100.21:636")
	dr.accept("203.0.113.21:636")

	closedAtBoot(t, web, witness, primary, dr)
	services := startAll(t, members)
	users := &users{t: t, at: witness, shop: web}
	if sites := users.look(); len(sites) != 0 {
		t.Fatalf("the shop answers at %v, and nobody is active", sites)
	}
	for _, service := range []string{"shop", "ldap"} {
		activate(primary, service)
	}
	users.wait(10*time.Second, "primary")
	users.resolve("198.51.100.20", "2001:db8:1::20", "198.51.100.10:53", "203.0.113.10:53")
	slapd(t, primary, "active")
	slapd(t, dr, "inactive")

	// The site is lost with all that could close its fence, and nothing starts
	// it again; its web server lives.
	services["primary "+run].kill()
	services["primary "+guard].kill()
	killed := time.Now()
	users.wait(30*time.Second, "")
	t.Logf("the kernel closed the fence of the dead site within %v", time.Since(killed).Round(10*time.Millisecond))
	if body, err := web.ask(primary, "127.0.0.1:8443"); err != nil {
		t.Errorf("the web server of the dead site is to live: %q, %v", body, err)
	}
	users.wait(30*time.Second, "dr")
	t.Logf("dr serves after %v", time.Since(killed).Round(10*time.Millisecond))
	users.resolve("203.0.113.20", "2001:db8:2::20", "203.0.113.10:53")

	comeBack(t, primary, users)
	slapd(t, primary, "active") // no person has moved ldap
	// A probe of every 10 s may begin anywhere in them.
	wait(t, 15*time.Second, "dr looks at ldap by its command", func() bool {
		said, _ := os.ReadFile(dr.Path("/run/draas/check-ldap"))
		return string(said) == "ldap at primary, 198.51.100.21: dc=example,dc=org\n"
	})

	ends := []*service{services["dr "+run], services["dr "+guard], services["witness "+run]}
	for _, s := range ends {
		s.waitFor(15*time.Second, "WATCHDOG=1")
	}
	for _, s := range ends {
		s.stop()
	}
	users.wait(time.Second, "")
}

func needTools(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the shipped files are tested on machines made of namespaces: run the tests as root (in a container that may mount will do)")
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux",
		"mount": "mount", "useradd": "passwd", "systemd-analyze": "systemd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: apt-get install %s (%v)", tool, pkg, err)
		}
	}
}

// prepare makes a directory with what docs/quickstart.md installs from: the
// program, the files and a new cluster.
func prepare(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(work, "bin/draasd"), "./cmd/draasd")
	build.Dir = repo
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build draasd: %v: %s", err, out)
	}
	if err := os.CopyFS(filepath.Join(work, "etc/systemd"), os.DirFS(filepath.Join(repo, "etc/systemd"))); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(repo, "etc/failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "failover.toml"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	init := exec.Command("bin/draasd", "init", "acme", "--profile", "balanced")
	init.Dir = work
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("draasd init: %v: %s", err, out)
	}
	return work
}

// install does step 3 of the quickstart, word for word, and puts what the file
// names beside.
func install(m *machine, work string, webCA []byte) {
	m.t.Helper()
	quickstart, err := os.ReadFile(filepath.Join(repo, "docs/quickstart.md"))
	if err != nil {
		m.t.Fatal(err)
	}
	var steps string
	for i, block := range strings.Split(string(quickstart), "```") {
		if i%2 == 1 && strings.Contains(block, "useradd --system") {
			steps = strings.TrimPrefix(block, "sh\n")
		}
	}
	if !strings.Contains(steps, "acme/primary") {
		m.t.Fatal("docs/quickstart.md has no step any more that installs acme/primary: teach this test the new one")
	}
	m.run(work, "sh", "-euc", strings.ReplaceAll(steps, "acme/primary", "acme/"+m.name))

	shipped, err := os.ReadFile(filepath.Join(repo, "etc/failover.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	installed, err := os.ReadFile(m.Path("/etc/draas/failover.toml"))
	if err != nil || !bytes.Equal(installed, shipped) {
		m.t.Fatalf("the file that is installed is not the one that is shipped (%v)", err)
	}
	m.write("/etc/draas/tls/web-ca.crt", 0o644, webCA)
	m.write("/usr/lib/draas/check-ldap", 0o755, []byte(checkLDAP))
	m.write("/usr/bin/systemctl", 0o755, []byte(systemctl))
	m.write("/run/stand-in/slapd", 0o644, []byte("active\n"))
	m.run("/", "chown", "-R", "draas:draas", "/run/stand-in")
}

// startAll looks before starting, as the quickstart has it, and then starts
// the units in their order: both at the sites, the daemon alone at the witness.
func startAll(t *testing.T, members map[string]*machine) map[string]*service {
	t.Helper()
	services := make(map[string]*service)
	for name, m := range members {
		look, err := m.unit(run).command(m, "", "/usr/bin/draasd", "check", "--here", "-c", "/etc/draas/failover.toml")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := look.CombinedOutput(); err != nil {
			t.Errorf("%s: draasd check --here: %v: %s", name, err, out)
		}
		if name != "witness" {
			services[name+" "+guard] = m.start(guard)
		}
	}
	for _, s := range services {
		s.waitFor(10*time.Second, "READY=1")
		slapd(t, s.m, "inactive") // the guard starts closed
	}
	for name, m := range members {
		services[name+" "+run] = m.start(run)
	}
	for _, s := range services {
		s.waitFor(10*time.Second, "READY=1")
	}
	return services
}

// closedAtBoot plays the unit that comes before the network: the shop runs and
// no guard does, and nobody gets in.
func closedAtBoot(t *testing.T, web *shop, user *machine, sites ...*machine) {
	t.Helper()
	reachable := func() (n int) {
		for address := range shopAddresses {
			if _, err := web.ask(user, address); err == nil {
				n++
			}
		}
		return n
	}
	if n := reachable(); n != len(shopAddresses) {
		t.Fatalf("%d of %d addresses answer with no fence at all", n, len(shopAddresses))
	}
	for _, m := range sites {
		m.play(boot)
	}
	if n := reachable(); n != 0 {
		t.Fatalf("%d addresses answer, closed at boot", n)
	}
}

// comeBack starts the units of the lost site again, over what was left of them,
// and looks for long enough to hear both watchdogs that no user gets in.
func comeBack(t *testing.T, m *machine, u *users) {
	t.Helper()
	g := m.start(guard)
	g.waitFor(10*time.Second, "READY=1")
	d := m.start(run)
	d.waitFor(10*time.Second, "READY=1")
	wait(t, 15*time.Second, "watchdogs at "+m.name, func() bool {
		u.look() // fails the test if two answer
		return g.has("WATCHDOG=1") && d.has("WATCHDOG=1")
	})
	u.wait(time.Second, "dr")
}

// activate says where the service is, as soon as the members have a leader to
// tell it to: a daemon is ready before that.
func activate(m *machine, service string) {
	m.t.Helper()
	var out []byte
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		out, err = m.Command("/", "draasd", "activate", service, m.name).CombinedOutput()
		if err == nil {
			return
		}
	}
	m.t.Fatalf("draasd activate %s: %v: %s", service, err, out)
}

func slapd(t *testing.T, m *machine, want string) {
	t.Helper()
	wait(t, 5*time.Second, "slapd.service at "+m.name+" is "+want, func() bool {
		state, err := os.ReadFile(m.Path("/run/stand-in/slapd"))
		return err == nil && string(state) == want+"\n"
	})
}

// users ask for the shop at all its addresses, again and again.
type users struct {
	t    *testing.T
	at   *machine
	shop *shop
}

// look says which sites answered, each at how many of its addresses. That two
// answer at a time is what must not happen.
func (u *users) look() map[string]int {
	u.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	sites := make(map[string]int)
	for address, site := range shopAddresses {
		wg.Go(func() {
			body, err := u.shop.ask(u.at, address)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				return
			}
			if !strings.Contains(body, `"site": "`+site+`"`) {
				u.t.Errorf("%s says %s", address, body)
			}
			sites[site]++
		})
	}
	wg.Wait()
	if len(sites) > 1 {
		u.t.Errorf("two sites answer at a time: %v", sites)
	}
	return sites
}

// wait looks until the shop answers at one site, at both its addresses, and
// not at the other; or nowhere.
func (u *users) wait(limit time.Duration, site string) {
	u.t.Helper()
	want := map[string]int{}
	if site != "" {
		want[site] = 2
	}
	wait(u.t, limit, "the shop answers at "+site, func() bool { return maps.Equal(u.look(), want) })
}

// resolve asks name servers, by UDP and TCP, for both addresses.
func (u *users) resolve(v4, v6 string, servers ...string) {
	u.t.Helper()
	for _, server := range servers {
		for _, network := range []string{"udp", "tcp"} {
			for qtype, want := range map[uint16]string{dns.TypeA: v4, dns.TypeAAAA: v6} {
				got, err := lookup(u.at, network, server, qtype)
				if err != nil || !slices.Equal(got, []string{want}) {
					u.t.Errorf("%s %s: %s has %v (%v), want %s", network, server, shopName, got, err, want)
				}
			}
		}
	}
}
