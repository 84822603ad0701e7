package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/nameserver"
)

// ownServer has the names of the cluster's services on a name server of its
// operator's, in place of the members' own.
func (l *lab) ownServer(primary, secondary *nameserver.Server) {
	l.t.Helper()
	l.everywhere(func(text string) string {
		before, rest, _ := strings.Cut(text, "[dns.demo]")
		_, after, _ := strings.Cut(rest, "[service.web]")
		zone := fmt.Sprintf("[dns.demo]\nprovider = \"rfc2136\"\nzone = %q\nprimary = %q\ndomain = \"elsewhere\"\nkey_file = \"dns.key\"\nsecondaries = [%q]\n\n",
			primary.Zone, primary.Address, secondary.Address)
		return strings.Replace(before+zone+"[service.web]"+after, "web.draas.test.", "web."+primary.Zone, 1)
	})
	for _, site := range []string{"primary", "dr"} {
		if err := os.WriteFile(filepath.Join(l.dir, site, "dns.key"), []byte(primary.Key.File()), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// The users of a service are moved on a real BIND, whose secondary is a real
// Knot; when the site is lost, by the other site.
func TestMovesOnOwnNameServer(t *testing.T) {
	t.Parallel()
	primary, secondary := nameserver.StartPair(t, nameserver.BIND, nameserver.Knot, nameserver.Options{Names: []string{"web.example.org."}})
	l := newLabOf(t, "balanced")
	l.ownServer(primary, secondary)
	l.startAll()
	l.activate()
	leads := func(to string, epoch int) {
		t.Helper()
		for _, s := range []*nameserver.Server{primary, secondary} {
			if got := s.Lookup("web.example.org.", mdns.TypeA); !strings.Contains(got, to) {
				t.Errorf("%s answers %s, want %s", s.Kind, got, to)
			}
			if got := s.Lookup("_draas.web.example.org.", mdns.TypeTXT); !strings.Contains(got, fmt.Sprintf("epoch=%d ", epoch)) {
				t.Errorf("%s is at %s, want epoch %d", s.Kind, got, epoch)
			}
		}
	}
	leads("127.0.0.2", 1)
	for _, part := range []string{"daemon primary", "guard primary", "service primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	l.await("dr serves", 40*time.Second, func() bool {
		sv := l.service("dr")
		return sv != nil && sv.Phase == failover.PhaseElsewhere
	})
	leads("127.0.0.3", 2)
	why := l.status("dr").Services[0].Last
	if why == nil || why.Journal["dns"].Evidence == "" || !strings.Contains(why.Journal["dns"].Evidence, secondary.Address) {
		t.Errorf("the journal does not tell what was seen: %+v", why)
	}
}

// While the name server is away the move waits in its phase, and ends when it
// is back: nothing is taken for done.
func TestMoveWaitsForTheNameServer(t *testing.T) {
	t.Parallel()
	primary, secondary := nameserver.StartPair(t, nameserver.BIND, nameserver.Knot, nameserver.Options{Names: []string{"web.example.org."}})
	l := newLabOf(t, "cautious")
	l.ownServer(primary, secondary)
	l.startAll()
	l.activate()
	primary.Kill()
	l.request("witness", api.Request{Request: failover.Request{Move: failover.MoveSwitchover}, Site: "dr"})
	l.await("dr serves already", 10*time.Second, func() bool { return l.answer("dr") == "dr" })
	if sv := l.service("dr"); sv.Phase != failover.PhaseRedirecting {
		t.Errorf("phase %s while the name server is away", sv.Phase)
	}
	primary.Restart()
	l.awaitPhase(failover.PhaseElsewhere, 40*time.Second)
	if got := primary.Lookup("web.example.org.", mdns.TypeA); !strings.Contains(got, "127.0.0.3") {
		t.Errorf("it answers %s", got)
	}
}

// The key is looked at before it is needed.
func TestCheckReadsTheKey(t *testing.T) {
	l := newLab(t)
	l.ownServer(&nameserver.Server{Address: "127.0.0.9:53", Options: nameserver.Options{Zone: "example.org.", Key: nameserver.NewKey("draas.", "hmac-sha256")}},
		&nameserver.Server{Address: "127.0.0.10:53"})
	if report, err := Check(l.file("dr"), true); err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	if err := os.Chmod(filepath.Join(l.dir, "dr", "dns.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(l.file("dr"), true); err == nil || !strings.Contains(err.Error(), "dns.demo: dns update effect: read key: ") {
		t.Errorf("a key that all can read: %v", err)
	}
	if _, err := Check(l.file("witness"), true); err != nil {
		t.Errorf("a witness needs no key: %v", err)
	}
}

// What a provider promises fits into the steps of a plan.
func TestStepsAreAsLongAsPromised(t *testing.T) {
	l := newLab(t)
	key := nameserver.NewKey("draas.", "hmac-sha256")
	l.ownServer(&nameserver.Server{Address: "127.0.0.9:53", Options: nameserver.Options{Zone: "example.org.", Key: key}}, &nameserver.Server{Address: "127.0.0.10:53"})
	was := "5s"
	l.edit("dr", func(text string) string {
		return strings.Replace(text, "secondaries = ", "secondary_lag = \"5s\"\nsecondaries = ", 1)
	})
	for _, lag := range []string{"10ms", "10m", "5s"} {
		l.edit("dr", func(text string) string {
			return strings.Replace(text, "secondary_lag = \""+was+"\"", "secondary_lag = \""+lag+"\"", 1)
		})
		was = lag
		text, err := os.ReadFile(l.file("dr"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse("failover.toml", text)
		if err != nil {
			t.Fatal(err)
		}
		w := &wiring{cfg: c.At(filepath.Join(l.dir, "dr")), policy: policyOf(c)}
		w.units = unitsOf(&w.policy)
		effects, err := effectsOf(w, means{})
		if err != nil {
			t.Fatal(err)
		}
		step := w.policy.Services["web"].Steps[0]
		if worst := effects["web"][step.Effect].Promise().Worst; worst > step.Timeout || worst < c.DNS["demo"].Update.Lag {
			t.Errorf("with a lag of %s: %v is promised, %v is given", lag, worst, step.Timeout)
		}
	}
}
