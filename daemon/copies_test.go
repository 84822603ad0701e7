package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/nameserver"
)

// A real secondary takes the zone from the one site and, when that is lost,
// from the other.
func TestSecondaryFollowsBothSites(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key, at := nameserver.NewKey("transfer.", "hmac-sha512"), nameserver.Address(t)
	l.everywhere(func(text string) string {
		return strings.Replace(text, "provider = \"embedded\"\n",
			fmt.Sprintf("provider = \"embedded\"\nsecondaries = [%q]\nkey_file = \"dns.key\"\nrevision = 3\n", at), 1)
	})
	for _, site := range []string{"primary", "dr"} {
		if err := os.WriteFile(filepath.Join(l.dir, site, "dns.key"), []byte(key.File()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.startAll()
	l.await("cluster ready", 10*time.Second, l.ready)
	if a := l.request("primary", api.Request{Site: "primary", Request: failover.Request{Move: failover.MoveActivate}}); !a.Accepted {
		t.Fatalf("activate refused: %+v", a.Record)
	}
	secondary := nameserver.Start(t, nameserver.Knot, nameserver.Options{Zone: "draas.test.", Address: at, Transfer: key,
		Primary: l.dnsAt("primary"), Primaries: []string{l.dnsAt("dr")}})
	l.awaitPhase(failover.PhaseNormal, 20*time.Second)
	leads := func(to string) func() bool {
		return func() bool { return strings.Contains(secondary.Lookup("web.draas.test.", mdns.TypeA), to) }
	}
	l.await("the secondary leads to primary", 10*time.Second, leads("127.0.0.2"))
	for _, part := range []string{"daemon primary", "guard primary", "service primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitPhase(failover.PhaseElsewhere, 20*time.Second)
	// The move is done when the secondary follows.
	if !leads("127.0.0.3")() {
		t.Errorf("the secondary leads to %s", secondary.Lookup("web.draas.test.", mdns.TypeA))
	}
	if why := l.status("dr").Services[0].Last; !strings.Contains(why.Journal["dns"].Evidence, "secondary "+at) {
		t.Errorf("the journal does not tell of the secondary: %s", why.Journal["dns"].Evidence)
	}
	secondary.Kill()
	l.edit("dr", func(text string) string { return strings.Replace(text, "revision = 3", "revision = 4", 1) })
	l.edit("witness", func(text string) string { return strings.Replace(text, "revision = 3", "revision = 4", 1) })
	l.reload("dr")
	l.reload("witness")
	l.await("a secondary that is away is told of", 20*time.Second, func() bool {
		return strings.Contains(strings.Join(l.status("dr").Warnings, "\n"), "secondary "+at+" of draas.test. cannot be told of changes by dr")
	})
}

// dnsAt is where the site's own server listens.
func (l *lab) dnsAt(site string) string {
	l.t.Helper()
	text, err := os.ReadFile(l.file(site))
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := config.Parse(l.file(site), text)
	if err != nil {
		l.t.Fatal(err)
	}
	m, _ := c.Member(draas.MemberID(site))
	return m.DNS
}
