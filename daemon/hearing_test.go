package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// hybridEars are a member's ears, with a clock that the test steps, for a hybrid
// with the frontends east and west, and a service of the scheme frontend that
// has one of its own.
func hybridEars(now *draas.Reading) *frontends {
	hybrid := config.Service{ID: "web", Scheme: config.SchemeHybrid, Frontend: config.ServiceFrontend{Use: []string{"east", "west"}},
		Addresses: addressesAt("primary", "dr")}
	hybrid.Timing.Renew = 400 * time.Millisecond
	other := config.Service{ID: "mail", Scheme: config.SchemeFrontend, Frontend: config.ServiceFrontend{Use: []string{"old"}}}
	other.Timing.Renew = time.Second
	f := newFrontends(func() draas.Reading { return *now })
	f.use(&wiring{
		cfg: &config.Config{
			Frontends: []config.Frontend{{ID: "east", Site: "primary"}, {ID: "old"}, {ID: "west", Site: "dr"}},
			Services:  []config.Service{other, hybrid},
		},
		units: map[draas.ServiceID][]draas.ServiceID{"web": {"web"}, "mail": {"mail"}},
	})
	f.restart(nil, func() {})
	return f
}

func asks(t *testing.T, f *frontends, name, state, reason string, services ...draas.ServiceID) draas.Reading {
	t.Helper()
	ask := api.Follow{Frontend: name}
	for _, id := range services {
		ask.Services = append(ask.Services, api.FollowReport{Service: id, Epoch: 3, Site: "primary", State: state, Reason: reason})
	}
	at := f.clock()
	if err := f.hear(ask, at); err != nil {
		t.Fatal(err)
	}
	return at
}

// news is what is new of one frontend; nothing is Unknown.
func newsOf(t *testing.T, f *frontends, name string) failover.Observation {
	t.Helper()
	all, gone := f.listen(f.clock())
	if len(gone) > 0 {
		t.Errorf("not listened to any more: %v", gone)
	}
	for _, o := range all {
		if o.Frontend == name {
			return o
		}
		if o.Frontend == "old" {
			t.Errorf("a frontend that no hybrid is entered by is judged: %+v", o)
		}
	}
	return failover.Observation{}
}

func TestHearing(t *testing.T) {
	t.Parallel()
	now := draas.Reading{Boot: time.Hour, Wall: time.Hour}
	f := hybridEars(&now)
	if all, _ := f.listen(now.Add(time.Hour)); all != nil {
		t.Errorf("judged before anybody is answered: %v", all)
	}
	f.publish(failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "primary", Epoch: 3}}})
	pass := func(d time.Duration) { now = now.Add(d) }
	expect := func(what, name string, verdict draas.Verdict, class string) {
		t.Helper()
		if o := newsOf(t, f, name); o.Verdict != verdict || o.Class != class || (o.Verdict == draas.Failed) != (o.Detail != "") {
			t.Errorf("%s: %+v, want %s %s", what, o, verdict, class)
		}
	}
	asks(t, f, "east", "open", "", "web")
	expect("heard", "east", draas.Healthy, "")
	expect("heard before", "east", draas.Unknown, "")
	// Three waits of 400 ms: 1.2 s.
	pass(1199 * time.Millisecond)
	expect("not heard for a while", "east", draas.Unknown, "")
	pass(time.Millisecond)
	expect("not heard for too long", "east", draas.Failed, classSilent)
	expect("said before", "east", draas.Unknown, "")
	asks(t, f, "east", "wait", "moving", "web")
	expect("heard again, waiting", "east", draas.Healthy, "")
	asks(t, f, "east", "shut", "lapsed", "web")
	expect("told of no permit", "east", draas.Unknown, "")

	// Never heard: only when it had the time to be.
	pass(5*time.Second - 1200*time.Millisecond)
	asks(t, f, "east", "open", "", "web")
	expect("never heard, after 5 s", "west", draas.Failed, classSilent)
	asks(t, f, "west", "open", "", "web")
	expect("heard at last", "west", draas.Healthy, "")

	// A proxy that does not do as it is told, or that serves another file.
	for _, unable := range []func(){
		func() { asks(t, f, "west", "wait", "driving", "web") },
		func() { asks(t, f, "west", "open", "", "mail") },
	} {
		for range 5 {
			unable()
			expect("unable for a while", "west", draas.Unknown, "")
			pass(time.Second)
		}
		unable()
		expect("unable for too long", "west", draas.Failed, classUnable)
		asks(t, f, "west", "open", "", "web")
		expect("able again", "west", draas.Healthy, "")
	}
}

// A frontend that leaves in the middle of a request has most likely died: that
// is seen at once, unless it asks again.
func TestFrontendLeaves(t *testing.T) {
	t.Parallel()
	now := draas.Reading{Boot: time.Hour, Wall: time.Hour}
	f := hybridEars(&now)
	f.publish(failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "primary", Epoch: 3}}})
	first := asks(t, f, "east", "open", "", "web")
	if o := newsOf(t, f, "east"); o.Verdict != draas.Healthy {
		t.Fatalf("%+v", o)
	}
	now = now.Add(10 * time.Millisecond)
	asks(t, f, "east", "open", "", "web")
	f.ended("east", first) // of two requests the older
	now = now.Add(300 * time.Millisecond)
	if o := newsOf(t, f, "east"); o.Verdict != draas.Unknown {
		t.Errorf("one that has asked again has left: %+v", o)
	}

	// The request itself, as the server has it.
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if _, err := f.follow(ctx, "dr", api.Follow{Frontend: "east", Tag: f.tag, WaitMS: 400, Services: []api.FollowReport{{Service: "web", State: "open"}}}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	now = now.Add(endedGrace - 1)
	if o := newsOf(t, f, "east"); o.Verdict != draas.Unknown || !f.hears("east", now) {
		t.Errorf("it may ask again: %+v", o)
	}
	now = now.Add(1)
	if o := newsOf(t, f, "east"); o.Verdict != draas.Failed || o.Class != classEnded {
		t.Errorf("it has left: %+v", o)
	}
	if all := f.of("web", now); all[0].Heard || f.hears("east", now) {
		t.Errorf("its last word counts: %+v", all[0])
	}
	asks(t, f, "east", "open", "", "web")
	if o := newsOf(t, f, "east"); o.Verdict != draas.Healthy {
		t.Errorf("it is back: %+v", o)
	}
}

// How long a word counts: with a hybrid as long as it takes to judge it, so
// that a move does not wait for frontends that are known to be lost.
func TestFreshness(t *testing.T) {
	t.Parallel()
	now := draas.Reading{Boot: time.Hour, Wall: time.Hour}
	f := hybridEars(&now)
	f.publish(failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "primary", Epoch: 3}}})
	asks(t, f, "east", "open", "", "web")
	asks(t, f, "old", "open", "", "mail")
	now = now.Add(1200 * time.Millisecond)
	if f.hears("east", now) || !f.hears("old", now) {
		t.Error("east counts for 1.2 s, old for 3 s")
	}
	now = now.Add(1800 * time.Millisecond)
	if f.hears("old", now) {
		t.Error("old counts for 3 s")
	}
}

// A frontend of an earlier file is not judged any more, and another run begins
// anew.
func TestHearingFollowsTheFile(t *testing.T) {
	t.Parallel()
	now := draas.Reading{Boot: time.Hour, Wall: time.Hour}
	f := hybridEars(&now)
	s := failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"web": {Active: "primary", Epoch: 3}}}
	f.publish(s)
	asks(t, f, "east", "open", "", "web")
	asks(t, f, "west", "open", "", "web")
	if all, _ := f.listen(now); len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	w := *f.w
	c := *w.cfg
	c.Services = slices.Clone(c.Services)
	c.Services[1].Frontend.Use = []string{"east"}
	w.cfg = &c
	f.use(&w)
	if all, gone := f.listen(now); len(all) > 0 || !slices.Equal(gone, []string{"west"}) {
		t.Errorf("news %v, gone %v", all, gone)
	}
	if _, gone := f.listen(now); len(gone) > 0 {
		t.Errorf("gone twice: %v", gone)
	}
	// One that was nobody's entrance has served nobody's hybrid: that is no fault.
	for range 3 {
		asks(t, f, "old", "open", "", "mail")
		now = now.Add(time.Second)
	}
	asks(t, f, "old", "open", "", "mail")
	other := c
	other.Services = slices.Clone(c.Services)
	other.Services[1].Frontend.Use = []string{"east", "old"}
	other.Frontends = []config.Frontend{{ID: "east", Site: "primary"}, {ID: "old", Site: "dr"}}
	v := w
	v.cfg = &other
	f.use(&v)
	if o := latestOf(f, "old"); o.Verdict != draas.Healthy {
		t.Errorf("new as an entrance: %+v", o)
	}
	f.use(&w)
	asks(t, f, "east", "open", "", "web")
	f.restart(nil, func() {})
	f.publish(s)
	if all, _ := f.listen(now); len(all) > 0 {
		t.Errorf("after a restart, which ended all requests: %+v", all)
	}
	asks(t, f, "east", "open", "", "web")
	if all, _ := f.listen(now); len(all) != 1 || all[0].Verdict != draas.Healthy {
		t.Errorf("heard after a restart: %+v", all)
	}
}

func addressesAt(sites ...draas.SiteID) map[draas.SiteID][]netip.Addr {
	all := make(map[draas.SiteID][]netip.Addr)
	for i, site := range sites {
		all[site] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
	}
	return all
}

// latestOf is what is new of one frontend, whoever else there is.
func latestOf(f *frontends, name string) failover.Observation {
	all, _ := f.listen(f.clock())
	if i := slices.IndexFunc(all, func(o failover.Observation) bool { return o.Frontend == name }); i >= 0 {
		return all[i]
	}
	return failover.Observation{}
}
