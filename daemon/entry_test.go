package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// hybrid has the lab's service behind a frontend at each site, under one name.
func (l *lab) hybrid() {
	l.t.Helper()
	l.everywhere(func(text string) string {
		text = strings.Replace(text, `scheme = "dns"`, `scheme = "hybrid"`, 1)
		text = strings.Replace(text, "[service.web]", "[frontend.east]\nsite = \"primary\"\ndomain = \"lan-a\"\n[frontend.west]\nsite = \"dr\"\ndomain = \"lan-b\"\n\n[service.web]", 1)
		text = strings.Replace(text, "ttl = \"1s\"\n", "ttl = \"1s\"\nenter.primary = [\"192.0.2.80\"]\nenter.dr = [\"203.0.113.80\"]\n", 1)
		return strings.Replace(text, "[service.web.fence]", fmt.Sprintf("[service.web.frontend]\nmode = \"http\"\nlisten = [\"127.0.0.1:%d\"]\nserver.primary = [\"127.0.0.2:%d\"]\nserver.dr = [\"127.0.0.3:%d\"]\n\n[service.web.fence]",
			l.base+40, l.base+30, l.base+30), 1)
	})
}

// until follows all members until it is stopped.
func (e *edge) until() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for m := range e.clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.ask(m, "", 0); err != nil {
					pause(ctx, 20*time.Millisecond)
				}
				pause(ctx, 10*time.Millisecond)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	e.t.Cleanup(stop)
	return stop
}

// named is what a site's own server says of the service: where its name leads,
// and the text of the epoch's record.
func (l *lab) named(site string) string {
	l.t.Helper()
	c, err := Load(l.file(site))
	if err != nil {
		l.t.Fatal(err)
	}
	m, _ := c.Member(draas.MemberID(site))
	var out []string
	for name, qtype := range map[string]uint16{"web.draas.test.": mdns.TypeA, "_draas.web.draas.test.": mdns.TypeTXT} {
		q := new(mdns.Msg)
		q.SetQuestion(name, qtype)
		a, err := mdns.Exchange(q, m.DNS)
		if err != nil || len(a.Answer) != 1 {
			return ""
		}
		switch rr := a.Answer[0].(type) {
		case *mdns.A:
			out = append(out, rr.A.String())
		case *mdns.TXT:
			out = append(out, strings.Join(rr.Txt, ""))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// A frontend is lost: the name leads to those of the other site at once, under
// a later turn, and stays there when it is back. A person takes it home, and the
// history tells all of it. The service itself does not move.
func TestNameFollowsTheFrontends(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.hybrid()
	east, west := l.newEdge(t, "east", true), l.newEdge(t, "west", true)
	l.startAll()
	for _, m := range []string{"primary", "dr", "witness"} {
		l.await(m+" is asked", 10*time.Second, func() bool { _, err := east.ask(m, "", 0); return err == nil })
	}
	lose := east.until()
	west.until()
	l.activateWithin(20 * time.Second)
	both := func(what, want string, within time.Duration) {
		t.Helper()
		for _, site := range []string{"primary", "dr"} {
			l.await(fmt.Sprintf("%s: %s answers %s, not %s", what, site, want, l.named(site)), within, func() bool { return l.named(site) == want })
		}
	}
	both("activated", "192.0.2.80, epoch=1 site=primary", 5*time.Second)
	l.await("all hear the frontends", 10*time.Second, func() bool {
		for _, r := range l.status("witness").Reported {
			for _, f := range r.Frontends {
				if f.HeardMS < 0 {
					return false
				}
			}
		}
		return true
	})
	lose()
	both("the frontend is lost", "203.0.113.80, epoch=1 site=dr turn=1", 30*time.Second)
	east.until()
	l.await("the entry is shown", 10*time.Second, func() bool {
		sv := l.service("dr")
		return len(sv.Entries) == 1 && sv.Entries[0].Site == "dr" && sv.Entries[0].Turn == 1 && sv.Active == "primary" && sv.Epoch == 1
	})
	var a *api.Answer
	l.await("a person takes it home", 20*time.Second, func() bool {
		a = l.request("witness", api.Request{Site: "primary", Request: failover.Request{Ask: failover.AskEnter, Operator: "ann", Reason: "mended"}})
		return a.Accepted
	})
	if a.Record.Kind != failover.RecordEntry {
		t.Errorf("answered by %+v", a.Record)
	}
	both("a person asked", "192.0.2.80, epoch=1 site=primary turn=2", 10*time.Second)
	l.await("it is as decided", 10*time.Second, func() bool { return l.userPath("primary", "hybrid/dns").AsDecided == "yes" })
	if a := l.request("dr", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}}); !a.Accepted {
		t.Fatalf("switchover refused: %+v", a.Record)
	}
	both("moved", "203.0.113.80, epoch=2 site=dr", 30*time.Second)
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	history, err := l.client("dr").History(t.Context(), "web", 100)
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for _, r := range history {
		switch r.Kind {
		case failover.RecordEntry:
			entries = append(entries, r.Text)
		case failover.RecordFinding:
			t.Errorf("nothing was found: %s", r.Text)
		}
	}
	slices.Sort(entries)
	want := []string{"users of web enter at dr, epoch 1 turn 1: no frontend at primary is heard",
		"users of web enter at primary, epoch 1 turn 2: ann asked for it: mended"}
	if !slices.Equal(entries, want) {
		t.Errorf("the history has %q", entries)
	}
}
