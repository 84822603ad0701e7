package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/hybrid"
)

// The sample's hybrid: one step for both halves, and the ways in of the log.
func TestHybridOfTheFile(t *testing.T) {
	t.Parallel()
	c, err := connect.Load("../etc/hybrid.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := policyOf(c)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	sp := p.Services["shop"]
	ways := sp.Ways["shop"]
	if len(sp.Ways) != 1 || len(ways) != 2 || ways[0].Site != "primary" || !slices.Equal(ways[0].Frontends, []string{"east-edge"}) ||
		ways[1].Site != "dr" || !slices.Equal(ways[1].Frontends, []string{"west-edge"}) {
		t.Errorf("ways %+v", sp.Ways)
	}
	if len(sp.Steps) != 1 || sp.Steps[0].Name != "hybrid" || sp.Steps[0].Effect != "hybrid" {
		t.Errorf("steps %+v", sp.Steps)
	}
	names := namesIn(c, "public")
	if len(names) != 1 || names[0].Targets["dr"].Addresses[0].String() != "203.0.113.80" || names[0].Targets["dr"].CNAME != "" {
		t.Errorf("names %+v", names)
	}

	self, _ := c.Member("dr")
	w := &wiring{cfg: c, self: self, policy: p, units: unitsOf(&p)}
	effects, err := effectsOf(w, means{acts: newActing(), followers: func(draas.ServiceID) ([]frontend.Follower, <-chan struct{}) { return nil, nil },
		applied: (&Daemon{}).waitFor})
	if err != nil {
		t.Fatal(err)
	}
	composed, ok := effects["shop"]["hybrid"].(*hybrid.Effect)
	if !ok || len(effects["shop"]) != 1 {
		t.Fatalf("effects %+v", effects)
	}
	w.effects, w.observe = effects, observeOf(c, w.units)
	for _, path := range w.paths("shop") {
		want := map[string]time.Duration{"hybrid/dns": c.DNS["public"].Every(), "hybrid/frontend": observeFrontends}[path.name]
		if path.every != want || want == 0 || path.timeout != sp.Steps[0].Timeout {
			t.Errorf("path %s: looked at each %s for %s, want %s", path.name, path.every, path.timeout, want)
		}
	}
	// A half that hangs has its time to be looked at, to be done, and to be
	// looked at again, within one attempt at the step.
	for _, h := range composed.Halves() {
		if 3*h.Patience > sp.Steps[0].Timeout {
			t.Errorf("three times %s of %s do not fit in %s", h.Patience, h.Name, sp.Steps[0].Timeout)
		}
	}
}

// Parts of a group and further zones have names of their own.
func TestHybridSteps(t *testing.T) {
	t.Parallel()
	c := &config.Config{DNS: map[string]config.Zone{"a": {ID: "a", Provider: config.ProviderEmbedded}, "b": {ID: "b", Provider: config.ProviderRFC2136, Update: config.Update{Lag: time.Second}}},
		Frontends: []config.Frontend{{ID: "east", Site: "primary"}, {ID: "west", Site: "dr"}, {ID: "third", Site: "other"}}}
	part := config.Service{ID: "shop", Group: "office", Scheme: config.SchemeHybrid, Addresses: addressesAt("primary", "dr", "other"),
		DNS: config.ServiceDNS{Zone: "a", Also: []string{"b"}}, Frontend: config.ServiceFrontend{Use: []string{"east", "west", "third"}}}
	mail := config.Service{ID: "mail", Group: "office", Scheme: config.SchemeDNS, DNS: config.ServiceDNS{Zone: "a", Also: []string{"b"}}}
	wiki := config.Service{ID: "wiki", Group: "office", Scheme: config.SchemeFrontend}
	c.Services = []config.Service{mail, part, wiki}
	u := &config.Unit{ID: "office", Group: true, Parts: c.Services}
	var got []string
	for _, s := range steps(c, u) {
		got = append(got, fmt.Sprint(s.Name, " ", s.Timeout))
	}
	if want := []string{"dns:mail 5s", "dns:mail@b 21s", "hybrid:shop 1m3s", "frontend:wiki 5s"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	observed := observeOf(c, map[draas.ServiceID][]draas.ServiceID{"office": {"mail", "shop", "wiki"}})["office"]
	for _, step := range []string{"dns:mail", "dns:mail@b", "hybrid:shop/dns", "hybrid:shop/dns@b", "hybrid:shop/frontend", "frontend:wiki"} {
		if observed[step] == 0 {
			t.Errorf("%s is never looked at: %v", step, observed)
		}
	}
	if len(observed) != 6 {
		t.Errorf("observed %v", observed)
	}
	// The unit can be at two of the part's sites: users enter at no third one.
	ways := waysOf(c, u, []draas.SiteID{"dr", "primary"})
	if w := ways["shop"]; len(ways) != 1 || len(w) != 2 || w[0].Site != "dr" || w[1].Site != "primary" || w[1].Frontends[0] != "east" {
		t.Errorf("ways %+v", ways)
	}
}

// What is made of a hybrid's name follows the log: to where users enter, under
// the turn, whatever the move was to.
func TestEntering(t *testing.T) {
	t.Parallel()
	receiver := effecttest.NewReceiver()
	at := &entrances{}
	e := &entering{Effect: effecttest.NewFake(receiver), leads: at.leads}
	op := runbook.Op{Service: "web", Token: runbook.Token{Epoch: 3}, To: "dr", Step: "hybrid"}
	decide := func(epoch draas.Epoch, site draas.SiteID, turn uint64) {
		at.decided(failover.State{
			Policy: failover.Policy{Services: map[draas.ServiceID]failover.ServicePolicy{"web": {}}},
			Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "dr", Epoch: epoch,
				Entries: map[draas.ServiceID]failover.Entry{"web": {Site: site, Turn: turn}}}}})
	}
	expect := func(what string, answer runbook.Answer, do error) {
		t.Helper()
		if got, evidence, err := e.Done(t.Context(), op); got != answer || (err != nil) != (answer == runbook.Unknown) || err == nil && evidence == "" {
			t.Errorf("%s: %v %q %v, want %v", what, got, evidence, err, answer)
		}
		if err := e.Do(t.Context(), op); !errors.Is(err, do) || (err == nil) != (do == nil) {
			t.Errorf("%s: do: %v, want %v", what, err, do)
		}
	}
	if answer, _, err := e.Done(t.Context(), op); answer != runbook.Unknown || err == nil {
		t.Errorf("before anything is applied: %v %v", answer, err)
	}
	if err := e.Do(t.Context(), op); err == nil || errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("before anything is applied: %v", err)
	}
	decide(2, "primary", 0)
	if err := e.Do(t.Context(), op); err == nil || errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("before the activation is applied: %v", err)
	}
	decide(3, "primary", 0)
	expect("users enter elsewhere", runbook.No, nil)
	expect("and are led there", runbook.Yes, nil)
	decide(3, "dr", 1)
	expect("another turn", runbook.No, nil)
	if site, token := receiver.Active("web"); site != "dr" || token != (runbook.Token{Epoch: 3, Turn: 1}) {
		t.Errorf("it leads to %s at %v", site, token)
	}
	// An epoch is given up with all its turns.
	if err := e.Release(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	decide(3, "primary", 2)
	expect("given up", runbook.No, runbook.ErrReleased)
	decide(4, "primary", 0)
	expect("a later epoch", runbook.No, draas.ErrStaleEpoch)
	op.Token.Epoch = 4
	if err := e.Do(t.Context(), op); err != nil {
		t.Errorf("the later epoch itself: %v", err)
	}
	at.restart()
	if answer, _, _ := e.Done(t.Context(), op); answer != runbook.Unknown {
		t.Errorf("in another run: %v", answer)
	}
}

// The name server is away: the frontends lead users to the new site, the move is
// complete and says what is missing, and the name is put right when the server
// is back. The history tells it.
func TestMovesWithoutTheNameServer(t *testing.T) {
	t.Parallel()
	primary, secondary := nameserver.StartPair(t, nameserver.BIND, nameserver.Knot, nameserver.Options{Names: []string{"web.example.org."}})
	l := newLabOf(t, "balanced")
	l.ownServer(primary, secondary)
	l.hybrid()
	l.everywhere(func(text string) string {
		return strings.Replace(text, "domain = \"elsewhere\"\n", "domain = \"elsewhere\"\nobserve = \"500ms\"\n", 1)
	})
	east, west := l.newEdge(t, "east", true), l.newEdge(t, "west", true)
	l.startAll()
	for _, m := range []string{"primary", "dr", "witness"} {
		l.await(m+" is asked", 10*time.Second, func() bool { _, err := east.ask(m, "", 0); return err == nil })
	}
	east.until()
	west.until()
	l.activateWithin(20 * time.Second)
	if got := primary.Lookup("web.example.org.", mdns.TypeA); !strings.Contains(got, "192.0.2.80") {
		t.Fatalf("the name leads to %s, not to the frontend", got)
	}
	primary.Kill()
	if a := l.request("witness", api.Request{Request: failover.Request{Move: failover.MoveSwitchover}, Site: "dr"}); !a.Accepted {
		t.Fatalf("refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseElsewhere, 40*time.Second)
	evidence := l.service("dr").Last.Journal["hybrid"].Evidence
	if !strings.HasPrefix(evidence, "without dns: ") || !strings.Contains(evidence, "west: epoch=2 site=dr open") {
		t.Errorf("the journal has %q", evidence)
	}
	why, err := l.client("dr").Why(t.Context(), "web")
	if err != nil || len(why.Decisions) == 0 || why.Decisions[0].Kind != failover.RecordDone {
		t.Errorf("nobody is told why: %+v, %v", why, err)
	}
	l.await("it is seen that the name does not lead there", 10*time.Second, func() bool {
		return l.userPath("dr", "hybrid/dns").AsDecided != "yes" && l.userPath("dr", "hybrid/frontend").AsDecided == "yes"
	})
	primary.Restart()
	l.await("the name is put right", 40*time.Second, func() bool { return l.userPath("dr", "hybrid/dns").AsDecided == "yes" })
	for _, s := range []*nameserver.Server{primary, secondary} {
		if got := s.Lookup("web.example.org.", mdns.TypeA); !strings.Contains(got, "203.0.113.80") {
			t.Errorf("%s answers %s", s.Kind, got)
		}
		if got := s.Lookup(dns.EpochName("web.example.org."), mdns.TypeTXT); !strings.Contains(got, "epoch=2 ") {
			t.Errorf("%s is at %s", s.Kind, got)
		}
	}
	l.await("the history tells it", 10*time.Second, func() bool {
		history, err := l.client("dr").History(t.Context(), "web", 100)
		return err == nil && slices.ContainsFunc(history, func(r failover.Record) bool {
			return r.Kind == failover.RecordFinding && strings.Contains(r.Text, "hybrid/dns")
		})
	})
}

// A service that DNS moves gets frontends while it runs, and loses them again:
// its name leads to the new places at one entry of the log, and no permit is
// lost over it.
func TestFromDNSToHybridAndBack(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	leads := func(what, want string) {
		t.Helper()
		for _, site := range []string{"primary", "dr"} {
			l.await(fmt.Sprintf("%s: %s answers %s, not %s", what, site, want, l.named(site)), 10*time.Second, func() bool { return l.named(site) == want })
		}
	}
	leads("at first", "127.0.0.2, epoch=1 site=primary")
	plain := make(map[string]string)
	for _, m := range []string{"primary", "dr", "witness"} {
		l.edit(m, func(text string) string { plain[m] = text; return text + "\n" })
	}
	reload := func() {
		t.Helper()
		for _, m := range []string{"primary", "dr", "witness"} {
			if r := l.reload(m); len(r.Refused) > 0 {
				t.Fatalf("%s refuses: %v", m, r.Refused)
			}
		}
	}
	stop := l.served("primary")
	l.hybrid()
	reload()
	east, west := l.newEdge(t, "east", true), l.newEdge(t, "west", true)
	for _, m := range []string{"primary", "dr", "witness"} {
		l.await(m+" is asked", 10*time.Second, func() bool { _, err := east.ask(m, "", 0); return err == nil })
	}
	east.until()
	west.until()
	leads("with frontends", "192.0.2.80, epoch=1 site=primary")
	l.await("both halves are as decided", 20*time.Second, func() bool {
		return l.userPath("primary", "hybrid/dns").AsDecided == "yes" && l.userPath("primary", "hybrid/frontend").AsDecided == "yes"
	})
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d requests failed", failed, asked)
	}
	if a := l.request("dr", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}}); !a.Accepted {
		t.Fatalf("switchover refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	leads("moved", "203.0.113.80, epoch=2 site=dr")
	for m, text := range plain {
		l.edit(m, func(string) string { return text })
	}
	reload()
	leads("without frontends again", "127.0.0.3, epoch=2 site=dr")
	l.await("the name is as decided", 20*time.Second, func() bool { return l.userPath("dr", "dns").AsDecided == "yes" })
}
