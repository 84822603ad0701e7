package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// behindFrontends has the lab's service led by frontends instead of DNS.
func (l *lab) behindFrontends(more string, names ...string) {
	l.t.Helper()
	l.everywhere(func(text string) string {
		before, rest, _ := strings.Cut(text, "[dns.demo]")
		_, service, _ := strings.Cut(rest, "[service.web]")
		var edges strings.Builder
		for _, name := range names {
			fmt.Fprintf(&edges, "[frontend.%s]\n", name)
		}
		head, tail, _ := strings.Cut(service, "[service.web.dns]")
		_, fence, _ := strings.Cut(tail, "[service.web.fence]")
		text = before + edges.String() + "[service.web]" + strings.Replace(head, `scheme = "dns"`, `scheme = "frontend"`, 1) +
			fmt.Sprintf("[service.web.frontend]\nmode = \"http\"\nlisten = [\"127.0.0.1:%d\"]\nserver.primary = [\"127.0.0.2:%d\"]\nserver.dr = [\"127.0.0.3:%d\"]\n%s\n",
				l.base+40, l.base+30, l.base+30, more) + "[service.web.fence]" + fence
		return strings.NewReplacer(fmt.Sprintf("dns = \"127.0.0.1:%d\"\n", l.base+2), "", fmt.Sprintf("dns = \"127.0.0.1:%d\"\n", l.base+12), "").Replace(text)
	})
}

// edge speaks to the members as a frontend does, with a certificate of its
// own, and says of itself what the test wants.
type edge struct {
	t       *testing.T
	name    string
	clients map[string]*api.Client

	mu sync.Mutex
	// says is what it says of itself; nil: what it was last told.
	says func(api.LedService) api.FollowReport
	led  map[string]api.LedService // by member
}

func (l *lab) newEdge(t *testing.T, name string, frontend bool) *edge {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	if _, err := Issue(IssueOptions{Member: draas.MemberID(name), CA: filepath.Join(l.dir, "ca"), Out: dir, For: time.Hour, Frontend: frontend}); err != nil {
		t.Fatal(err)
	}
	return l.edgeWith(t, name, config.TLS{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "member.crt"), Key: filepath.Join(dir, "member.key")})
}

func (l *lab) edgeWith(t *testing.T, name string, files config.TLS) *edge {
	t.Helper()
	e := &edge{t: t, name: name, clients: make(map[string]*api.Client), led: make(map[string]api.LedService)}
	for i, m := range []string{"primary", "dr", "witness"} {
		conf, err := connect.ClientTLS(files, draas.MemberID(m))
		if err != nil {
			t.Fatal(err)
		}
		e.clients[m] = api.TLS(fmt.Sprintf("127.0.0.1:%d", l.base+10*i+1), conf)
		t.Cleanup(e.clients[m].Close)
	}
	return e
}

// ask asks a member once.
func (e *edge) ask(member, tag string, wait time.Duration, evidence ...api.FollowEvidence) (*api.Led, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait+3*time.Second)
	defer cancel()
	e.mu.Lock()
	was, says := e.led[member], e.says
	e.mu.Unlock()
	r := api.FollowReport{Service: "web", Epoch: was.Epoch, Site: was.Active, State: "open"}
	if was.Moving {
		r.State = "wait"
	}
	if says != nil {
		r = says(was)
	}
	led, err := e.clients[member].Follow(ctx, api.Follow{Frontend: e.name, Tag: tag, WaitMS: wait.Milliseconds(),
		Services: []api.FollowReport{r}, Evidence: evidence})
	if err == nil && len(led.Services) == 1 {
		e.mu.Lock()
		e.led[member] = led.Services[0]
		e.mu.Unlock()
	}
	return led, err
}

// follow follows all members until the test ends.
func (e *edge) follow() {
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for m := range e.clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.ask(m, "", 0); err != nil {
					pause(ctx, 20*time.Millisecond)
				}
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	e.t.Cleanup(func() { stop(); all.Wait() })
}

func (e *edge) say(f func(api.LedService) api.FollowReport) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.says = f
}

func (e *edge) has(member string) api.LedService {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.led[member]
}

// Of another member's permit counts when this one was last in touch before it
// applied the renewal: it may have applied it late.
func TestPermitOfAnother(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) draas.Reading { return draas.Reading{Boot: d, Wall: d} }
	f := newFrontends(func() draas.Reading { return draas.Reading{} })
	f.restart(nil, nil)
	left := func(now time.Duration) time.Duration { return f.permits["web"].Left(at(now)) }
	f.another("web", 10*time.Second, time.Second)
	if left(10*time.Second) != 0 {
		t.Error("a permit from a member that was never in touch")
	}
	f.touched = at(10 * time.Second)
	if f.another("web", 10*time.Second, time.Second); left(10*time.Second) != 0 {
		t.Error("a renewal that was counted before counts again")
	}
	// Held up for five seconds, it applies what was renewed meanwhile.
	if f.another("web", 15*time.Second, time.Second); left(15*time.Second) != 0 {
		t.Errorf("%v left of a renewal that may be five seconds old", left(15*time.Second))
	}
	f.touched = at(15 * time.Second)
	if f.another("web", 15100*time.Millisecond, time.Second); left(15100*time.Millisecond) != 900*time.Millisecond {
		t.Errorf("%v left of a renewal applied 100 ms after the last touch", left(15100*time.Millisecond))
	}
	if f.another("web", 0, time.Second); left(15100*time.Millisecond) != 0 {
		t.Error("a permit is left after a snapshot was taken over")
	}
}

// What every member tells a frontend, and that a request waits there for news.
func TestFrontendIsTold(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.behindFrontends("", "edge1")
	e := l.newEdge(t, "edge1", true)
	l.startAll()
	l.await("a member is asked", 10*time.Second, func() bool { _, err := e.ask("witness", "", 0); return err == nil })
	e.follow()
	l.activate()
	for _, m := range []string{"primary", "dr", "witness"} {
		l.await(m+" knows of a permit", 5*time.Second, func() bool {
			led := e.has(m)
			return led.Epoch == 1 && led.Active == "primary" && !led.Moving && led.PermitNS > 0
		})
		if left := time.Duration(e.has(m).PermitNS); left > 4*time.Second*9/10 {
			t.Errorf("%s gives a permit of %v", m, left)
		}
	}
	led, err := e.ask("witness", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	moved := make(chan error, 1)
	go func() {
		next, err := e.ask("witness", led.Tag, 5*time.Second)
		if err == nil && (next.Tag == led.Tag || next.WaitedNS > int64(4*time.Second)) {
			err = fmt.Errorf("waited %v for the same: %+v", time.Duration(next.WaitedNS), next)
		}
		moved <- err
	}()
	l.request("primary", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}})
	if err := <-moved; err != nil {
		t.Error(err)
	}
	l.awaitPhase(failover.PhaseElsewhere, 10*time.Second)
	l.await("all members lead to dr", 5*time.Second, func() bool {
		for _, m := range []string{"primary", "dr", "witness"} {
			if led := e.has(m); led.Epoch != 2 || led.Active != "dr" {
				return false
			}
		}
		return true
	})
	// Members that are alone have no permits to give.
	for _, m := range []string{"daemon primary", "daemon dr"} {
		if err := l.stop(m); err != nil {
			t.Fatal(err)
		}
	}
	l.await("the permit has ended", 10*time.Second, func() bool { return e.has("witness").PermitNS == 0 })
}

// A frontend stands where users are: its certificate commands nothing.
func TestFrontendCertificateOnlyFollows(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.behindFrontends("", "edge1", "edge2")
	edge1, old := l.newEdge(t, "edge1", true), l.newEdge(t, "retired", true)
	plain := l.newEdge(t, "edge2", false)
	home := filepath.Join(l.dir, "dr", "tls")
	member := l.edgeWith(t, "edge1", config.TLS{CA: filepath.Join(home, "ca.crt"), Cert: filepath.Join(home, "member.crt"), Key: filepath.Join(home, "member.key")})
	l.startAll()
	l.await("a member is asked", 10*time.Second, func() bool { _, err := edge1.ask("witness", "", 0); return err == nil })
	for name, e := range map[string]*edge{"a frontend": edge1, "one that the file has no more": old, "one without the mark": plain} {
		if _, err := e.clients["witness"].Status(t.Context(), true); err == nil || !strings.Contains(err.Error(), "may follow, and nothing else") {
			t.Errorf("%s asks for status: %v", name, err)
		}
		r := api.Request{Service: "web", Site: "dr", Request: failover.Request{Move: failover.MoveActivate}}
		if _, err := e.clients["primary"].Request(t.Context(), r); err == nil || !strings.Contains(err.Error(), "may follow, and nothing else") {
			t.Errorf("%s asks for a move: %v", name, err)
		}
	}
	if _, err := old.ask("witness", "", 0); err == nil || !strings.Contains(err.Error(), "no [frontend.retired]") {
		t.Errorf("one that the file has no more follows: %v", err)
	}
	if _, err := member.ask("witness", "", 0); err == nil || !strings.Contains(err.Error(), "cannot speak for") {
		t.Errorf("a member speaks for a frontend: %v", err)
	}
	if _, err := member.clients["witness"].Status(t.Context(), true); err != nil {
		t.Errorf("a member asks for status: %v", err)
	}
	if _, err := plain.ask("witness", "", 0); err != nil {
		t.Errorf("a frontend with a plain certificate: %v", err)
	}
}

// A planned move lets the frontends finish what is under way before the old
// site's fence is closed, and no longer than the file says.
func TestPlannedMoveWaitsForFrontends(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.behindFrontends("hold = \"30s\"\ndrain = \"15s\"", "edge1", "edge2")
	l.everywhere(func(text string) string {
		return strings.Replace(text, "automatic = true\n", "automatic = true\nlease = \"20s\"\n", 1)
	})
	e := l.newEdge(t, "edge1", true)
	l.startAll()
	l.await("a member is asked", 10*time.Second, func() bool { _, err := e.ask("witness", "", 0); return err == nil })
	e.follow()
	l.activate()
	busy := func(led api.LedService) api.FollowReport {
		r := api.FollowReport{Service: "web", Epoch: led.Epoch, Site: led.Active, State: "open", Flights: 3}
		if led.Moving {
			r.State = "wait"
		}
		return r
	}
	idle := func(led api.LedService) api.FollowReport {
		r := busy(led)
		r.Flights = 0
		return r
	}
	e.say(busy)
	l.request("primary", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}})
	l.await("the frontend knows of the move", 5*time.Second, func() bool { return e.has("primary").Moving })
	if got := l.answer("primary"); got != "primary" {
		t.Errorf("the old site answers %q while requests are under way", got)
	}
	if sv := l.service("witness"); sv.Phase != failover.PhaseFencing {
		t.Errorf("%s while requests are under way", sv.Phase)
	}
	e.say(idle)
	l.awaitPhase(failover.PhaseElsewhere, 10*time.Second) // the drain would last for longer
}

// A drain ends when the file says so, whatever is under way, and a close that
// was let through once is not held back again.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	now := draas.Reading{Boot: time.Hour, Wall: time.Hour}
	f := newFrontends(func() draas.Reading { return now })
	f.restart(nil, func() {})
	cfg := &config.Config{Frontends: []config.Frontend{{ID: "edge1"}}, Services: []config.Service{{ID: "web", Scheme: config.SchemeFrontend,
		Frontend: config.ServiceFrontend{Use: []string{"edge1"}, Drain: time.Second}}}}
	f.use(&wiring{cfg: cfg, units: map[draas.ServiceID][]draas.ServiceID{"web": {"web"}}})
	s := failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "primary", Epoch: 3, Revoked: true,
		Move: &failover.Move{Kind: failover.MoveSwitchover, From: "primary", To: "dr", Epoch: 4}}}}
	f.publish(s)
	closes := func() int {
		return len(f.hold(failover.Commands{Close: []failover.Close{{Service: "web", Epoch: 3}}}, s, now).Close)
	}
	says := func(epoch draas.Epoch, state string, flights int64) {
		t.Helper()
		ask := api.Follow{Frontend: "edge1", Services: []api.FollowReport{{Service: "web", Epoch: epoch, Site: "primary", State: state, Flights: flights}}}
		if err := f.hear(ask, now); err != nil {
			t.Fatal(err)
		}
	}
	if closes() != 1 {
		t.Error("a frontend that was never heard holds a close back")
	}
	f.drains = make(map[draas.ServiceID]*drain)
	says(3, "open", 0)
	if closes() != 0 {
		t.Error("closed before the frontend knows of the move")
	}
	says(3, "wait", 2)
	now = now.Add(999 * time.Millisecond)
	says(3, "wait", 2)
	if closes() != 0 {
		t.Error("closed with requests under way")
	}
	now = now.Add(time.Millisecond)
	for range 2 {
		if says(3, "wait", 2); closes() != 1 {
			t.Error("held back for longer than the file says")
		}
	}
	s.Services["web"].Move.Kind = failover.MoveFailover
	f.drains = make(map[draas.ServiceID]*drain)
	if closes() != 1 {
		t.Error("an unplanned move waits for requests under way")
	}
}
