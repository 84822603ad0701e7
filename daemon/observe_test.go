package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns"
)

// ownServers has the name of the cluster's service on several name servers of
// its operator's, each a provider of its own for the same zone.
func (l *lab) ownServers(more string, servers ...*nameserver.Server) {
	l.t.Helper()
	ids := []string{"demo", "backup"}[:len(servers)]
	l.everywhere(func(text string) string {
		before, rest, _ := strings.Cut(text, "[dns.demo]")
		_, after, _ := strings.Cut(rest, "[service.web]")
		var zones strings.Builder
		for i, s := range servers {
			fmt.Fprintf(&zones, "[dns.%s]\nprovider = \"rfc2136\"\nzone = %q\nprimary = %q\ndomain = \"elsewhere\"\nkey_file = \"%s.key\"\n%s\n\n",
				ids[i], s.Zone, s.Address, ids[i], more)
		}
		text = strings.Replace(before+zones.String()+"[service.web]"+after, "web.draas.test.", "web."+servers[0].Zone, 1)
		if len(servers) == 1 {
			return text
		}
		return strings.Replace(text, "[service.web.dns]\n", fmt.Sprintf("[service.web.dns]\nalso = [%s]\n", strings.Join(quoted(ids[1:]), ", ")), 1)
	})
	for i, s := range servers {
		for _, site := range []string{"primary", "dr"} {
			if err := os.WriteFile(filepath.Join(l.dir, site, ids[i]+".key"), []byte(s.Key.File()), 0o600); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return out
}

// set changes an address as somebody else would who has the key.
func set(t *testing.T, s *nameserver.Server, name, ip string) {
	t.Helper()
	rr, err := mdns.NewRR(name + " 5 A " + ip)
	if err != nil {
		t.Fatal(err)
	}
	m := new(mdns.Msg)
	m.SetUpdate(s.Zone)
	m.RemoveRRset([]mdns.RR{rr})
	m.Insert([]mdns.RR{rr})
	m.SetTsig(s.Key.Name, mdns.CanonicalName(s.Key.Algorithm), 300, time.Now().Unix())
	c := mdns.Client{Net: "tcp", Timeout: 2 * time.Second, TsigSecret: map[string]string{s.Key.Name: s.Key.Secret}}
	if a, _, err := c.Exchange(m, s.Address); err != nil || a.Rcode != mdns.RcodeSuccess {
		t.Fatalf("change %s at %s: %v, %v", name, s.Address, a, err)
	}
}

// Two providers disagree while one is away: users are moved at the other, what
// is known is reported, and the one that comes back is put right.
func TestTwoProviders(t *testing.T) {
	t.Parallel()
	names := nameserver.Options{Names: []string{"web.example.org."}}
	one, two := nameserver.Start(t, nameserver.BIND, names), nameserver.Start(t, nameserver.Knot, names)
	l := newLabOf(t, "cautious")
	l.ownServers("", one, two)
	l.startAll()
	l.activate()
	leads := func(s *nameserver.Server, to string) bool {
		return strings.Contains(s.Lookup("web.example.org.", mdns.TypeA), to)
	}
	if !leads(one, "127.0.0.2") || !leads(two, "127.0.0.2") {
		t.Fatalf("both should lead to primary: %s, %s", one.Lookup("web.example.org.", mdns.TypeA), two.Lookup("web.example.org.", mdns.TypeA))
	}
	one.Kill()
	l.request("witness", api.Request{Request: failover.Request{Move: failover.MoveSwitchover}, Site: "dr"})
	l.await("the other provider leads to dr", 10*time.Second, func() bool { return leads(two, "127.0.0.3") })
	l.await("the journal tells of both", 10*time.Second, func() bool {
		sv := l.service("dr")
		return sv.Phase == failover.PhaseRedirecting && sv.Move.Journal["dns@backup"].WasDone && !sv.Move.Journal["dns"].WasDone
	})
	one.Restart()
	l.awaitPhase(failover.PhaseElsewhere, 40*time.Second)
	if !leads(one, "127.0.0.3") || !leads(two, "127.0.0.3") {
		t.Errorf("both should lead to dr: %s, %s", one.Lookup("web.example.org.", mdns.TypeA), two.Lookup("web.example.org.", mdns.TypeA))
	}
}

// userPath is what a member says of one of the ways to the service.
func (l *lab) userPath(member, step string) api.UserPath {
	l.t.Helper()
	for _, r := range l.status(member).Reported {
		for _, u := range r.Users {
			if r.Member == draas.MemberID(member) && u.Step == step {
				return u
			}
		}
	}
	return api.UserPath{}
}

// What somebody else changes in between is put right, and not for ever: who
// does it again and again is told of.
func TestTamperedNameIsPutRight(t *testing.T) {
	t.Parallel()
	server := nameserver.Start(t, nameserver.BIND, nameserver.Options{Names: []string{"web.example.org."}})
	l := newLabOf(t, "cautious")
	l.ownServers("observe = \"200ms\"", server)
	l.startAll()
	l.activate()
	address := func() string { return server.Lookup("web.example.org.", mdns.TypeA) }
	for n := 1; n <= maxRepairs; n++ {
		set(t, server, "web.example.org.", "192.0.2.66")
		l.await(fmt.Sprintf("repair %d", n), 20*time.Second, func() bool {
			u := l.userPath("primary", "dns")
			return u.Repairs == n && u.AsDecided == "yes" && strings.Contains(address(), "127.0.0.2")
		})
	}
	set(t, server, "web.example.org.", "192.0.2.66")
	l.await("it is told of", 20*time.Second, func() bool {
		return slices.ContainsFunc(l.status("primary").Warnings, func(w string) bool {
			return strings.Contains(w, "web: users are not led to primary as decided (dns)") && strings.Contains(w, "192.0.2.66") &&
				strings.Contains(w, "put right 3 times within an hour and changed again")
		})
	})
	if got := address(); !strings.Contains(got, "192.0.2.66") {
		t.Errorf("it is fought: %s", got)
	}
	server.Kill()
	l.await("that it cannot be seen is told", 30*time.Second, func() bool { return l.userPath("primary", "dns").AsDecided == "unknown" })
}

// A name that moves too often stays, until a person has seen it.
func TestBrakeHoldsAName(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.everywhere(func(text string) string {
		return strings.Replace(text, "moves_per_hour = 100000 ", "moves_per_hour = 1 ", 1)
	})
	l.startAll()
	l.activate()
	epoch := l.epochAt
	l.await("both answer at epoch 1", 10*time.Second, func() bool { return epoch("primary") == "1" && epoch("dr") == "1" })
	for _, part := range []string{"service primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	l.await("the hold is told", 20*time.Second, func() bool {
		return slices.ContainsFunc(l.status("dr").Warnings, func(w string) bool {
			return strings.Contains(w, "web: its name in the zone of [dns.demo] is not moved to dr: moved 1 times within an hour, 1 are let through: held for ")
		})
	})
	if got := epoch("dr"); got != "1" {
		t.Errorf("dr answers at epoch %s", got)
	}
	if a := l.request("dr", api.Request{Request: failover.Request{Ask: failover.AskAcknowledge}}); !a.Accepted {
		t.Fatalf("not acknowledged: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseElsewhere, 20*time.Second)
	for _, site := range []string{"primary", "dr"} {
		if got := epoch(site); got != "2" {
			t.Errorf("%s answers at epoch %s after a person has acknowledged it", site, got)
		}
	}
	for _, w := range l.status("dr").Warnings {
		if strings.Contains(w, "held for") {
			t.Errorf("still told: %s", w)
		}
	}
}

// epochAt is the epoch that the site's own server answers the service at.
func (l *lab) epochAt(site string) string {
	l.t.Helper()
	c, err := Load(l.file(site))
	if err != nil {
		l.t.Fatal(err)
	}
	m, _ := c.Member(draas.MemberID(site))
	q := new(mdns.Msg)
	q.SetQuestion("_draas.web.draas.test.", mdns.TypeTXT)
	a, err := mdns.Exchange(q, m.DNS)
	if err != nil || len(a.Answer) != 1 {
		return ""
	}
	d, err := dns.ParseEpochText(strings.Join(a.Answer[0].(*mdns.TXT).Txt, ""))
	if err != nil {
		return err.Error()
	}
	return d.Token.Epoch.String()
}
