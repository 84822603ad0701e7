package vip

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

func reading(boot time.Duration) draas.Reading {
	return draas.Reading{Boot: boot, Wall: boot + 24*time.Hour}
}

// voter is the half of one of three members, long after its start.
func voter(id uint64) *Grants {
	g := NewGrants(reading(0), drift)
	g.Use(simTerms)
	g.Stand(Standing{Self: id, Electorate: Electorate{Voters: []uint64{1, 2, 3}}, Applied: 9, Contact: time.Minute}, reading(time.Minute))
	return g
}

func want(frontend string, session, seq uint64) Ask {
	return Ask{VIP: "web", Frontend: frontend, Session: session, Seq: seq, Want: true}
}

func TestGrantsOne(t *testing.T) {
	g, now := voter(1), reading(time.Minute)
	first := g.Ask(want("a", 1, 1), now)
	if !first.Granted || first.Lease != simLease || first.Member != 1 || first.Applied != 9 {
		t.Fatalf("first: %+v", first)
	}
	steps := []struct {
		name   string
		ask    Ask
		at     time.Duration
		grant  bool
		holder string
	}{
		{"the same question", want("a", 1, 1), 0, true, ""},
		{"overtaken", want("a", 1, 0), 0, false, ""},
		{"another", want("b", 2, 1), 0, false, "a"},
		{"the same name, started anew", want("a", 3, 1), 0, false, "a"},
		{"again", want("a", 1, 2), 100 * time.Millisecond, true, ""},
		{"another, just before the end", want("b", 2, 2), 429 * time.Millisecond, false, "a"},
		{"another, at the end", want("b", 2, 3), 430 * time.Millisecond, true, ""},
		{"who had it", want("a", 1, 3), 440 * time.Millisecond, false, "b"},
		{"no holder of the file", want("z", 1, 3), 2 * time.Second, false, ""},
		{"no such address", Ask{VIP: "other", Frontend: "a", Session: 1, Seq: 9, Want: true}, 2 * time.Second, false, ""},
	}
	for _, s := range steps {
		got := g.Ask(s.ask, now.Add(s.at))
		if got.Granted != s.grant || got.Holder != s.holder {
			t.Errorf("%s: %+v", s.name, got)
		}
		if got.Granted == (got.Reason != "" || got.Left > 0) {
			t.Errorf("%s: neither granted nor told why not or how long: %+v", s.name, got)
		}
	}
}

func TestGivesBack(t *testing.T) {
	g, now := voter(1), reading(time.Minute)
	g.Ask(want("a", 1, 5), now)
	back := Ask{VIP: "web", Frontend: "a", Session: 1, Seq: 4}
	for _, other := range []Ask{back, {VIP: "web", Frontend: "b", Session: 1, Seq: 9}, {VIP: "web", Frontend: "a", Session: 2, Seq: 9}} {
		g.Ask(other, now)
		if g.Holder("web", now) != "a" {
			t.Fatalf("%+v took back what was granted later, or to another", other)
		}
	}
	// A question of an earlier run of a in between makes no difference.
	g.Ask(want("a", 9, 1), now)
	g.Ask(back, now)
	if g.Holder("web", now) != "a" {
		t.Error("what was granted later was taken back")
	}
	news := g.News()
	back.Seq = 6
	g.Ask(back, now)
	if g.Holder("web", now) != "" {
		t.Error("not given back")
	}
	select {
	case <-news:
	default:
		t.Error("nobody is told that it is free")
	}
	if got := g.Ask(want("b", 2, 10), now); !got.Granted {
		t.Errorf("after it was given back: %+v", got)
	}
}

func TestGrantsNothing(t *testing.T) {
	voters := Electorate{Voters: []uint64{1, 2, 3}}
	at := reading(time.Minute)
	for name, s := range map[string]Standing{
		"no vote":      {Electorate: voters, Contact: at.Boot},
		"nobody known": {Self: 1, Contact: at.Boot},
		"never heard":  {Self: 1, Electorate: voters},
		"cut off":      {Self: 1, Electorate: voters, Contact: at.Boot - contactMax - 1},
	} {
		g := NewGrants(reading(0), drift)
		g.Use(simTerms)
		g.Stand(s, at)
		if got := g.Ask(want("a", 1, 1), at); got.Granted || got.Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	g := NewGrants(reading(0), drift)
	g.Use(simTerms)
	s := Standing{Self: 1, Electorate: voters, Contact: time.Second}
	g.Stand(s, reading(time.Second))
	if got := g.Ask(want("a", 1, 1), reading(3299*time.Millisecond)); got.Granted || got.Left != time.Millisecond {
		t.Errorf("just started: %+v", got)
	}
	if got := g.Ask(want("a", 1, 2), reading(3300*time.Millisecond)); !got.Granted {
		t.Errorf("started long enough ago: %+v", got)
	}
	// Who has it keeps it when the voters change; nobody else gets it for long.
	s.Electorate, s.Contact = Electorate{Voters: []uint64{1, 2, 3, 4}}, 3400*time.Millisecond
	g.Stand(s, reading(3400*time.Millisecond))
	if got := g.Ask(want("a", 1, 3), reading(3500*time.Millisecond)); !got.Granted {
		t.Errorf("who has it, after a change of the voters: %+v", got)
	}
	s.Contact = 10 * time.Second
	g.Stand(s, reading(10*time.Second))
	if got := g.Ask(want("b", 1, 1), reading(10*time.Second)); got.Granted {
		t.Errorf("soon after a change of the voters: %+v", got)
	}
}

func answer(member uint64, granted bool, holder string) Answer {
	a := Answer{Member: member, Granted: granted, Holder: holder, Electorate: Electorate{Voters: []uint64{1, 2, 3}}, Applied: 5}
	if granted {
		a.Lease = simLease
	} else {
		a.Left = simLease
	}
	return a
}

func newClaim() *Claim {
	return NewClaim(ClaimConfig{VIP: "web", Frontend: "a", Session: 1, Drift: drift, Margin: 20 * time.Millisecond, Patience: 200 * time.Millisecond})
}

func TestClaimCountsMajority(t *testing.T) {
	c, now := newClaim(), reading(time.Minute)
	if !c.Until().Passed(now) {
		t.Fatal("it begins with something")
	}
	c.Took(c.Ask(true), now.Add(-50*time.Millisecond), answer(1, true, ""), now)
	if !c.Until().Passed(now) {
		t.Fatal("one of three is enough")
	}
	c.Took(c.Ask(true), now.Add(-10*time.Millisecond), answer(2, true, ""), now)
	// 300 ms x 0.9 - 20 ms, from before the question to the first.
	if got, want := c.Until(), draas.DeadlineAt(now, 200*time.Millisecond); got != want {
		t.Fatalf("until %v, want %v", got, want)
	}
	c.Took(c.Ask(true), now, answer(3, true, ""), now)
	if got, want := c.Until(), draas.DeadlineAt(now, 240*time.Millisecond); got != want {
		t.Fatalf("until %v, want %v", got, want)
	}
	// Where the voters change, a majority of both is needed.
	joint := answer(3, true, "")
	joint.Electorate, joint.Applied = Electorate{Voters: []uint64{1, 2, 3}, Outgoing: []uint64{7, 8, 3}}, 6
	c.Took(c.Ask(true), now, joint, now)
	if !c.Until().Passed(now) {
		t.Error("a majority of those of before is not asked for")
	}
	c.Took(c.Ask(true), now, answer(1, true, ""), now)
	if !c.Until().Passed(now) {
		t.Error("an older list of voters counts again")
	}
	c.Drop()
	if !c.Until().Passed(now) {
		t.Error("it counts what it has dropped")
	}
}

func TestClaimVoids(t *testing.T) {
	c, now := newClaim(), reading(time.Minute)
	asked := c.Ask(true)
	late := c.Ask(true)
	c.Drop()
	c.Took(asked, now, answer(1, true, ""), now)
	c.Took(late, now, answer(2, true, ""), now)
	if !c.Until().Passed(now) {
		t.Error("answers to what was asked before it dropped count")
	}
	long := answer(1, true, "")
	long.Lease = MaxLease + 1
	c.Took(c.Ask(true), now, long, now)
	c.Took(c.Ask(true), now, answer(2, true, ""), now)
	if !c.Until().Passed(now) {
		t.Error("a lease that nobody may grant counts")
	}
	back := c.Ask(false)
	c.Took(back, now, answer(3, true, ""), now)
	if !c.Until().Passed(now) {
		t.Error("the answer to a question that wanted nothing counts")
	}
}

func TestClaimStuck(t *testing.T) {
	c, now := newClaim(), reading(time.Minute)
	if c.Stuck(now) {
		t.Error("who has nothing is in nobody's way")
	}
	c.Took(c.Ask(true), now, answer(1, true, ""), now)
	if c.Stuck(now) {
		t.Error("the first grant is not given time")
	}
	c.Took(c.Ask(true), now, answer(2, false, "b"), now)
	if c.Stuck(now) {
		t.Error("a majority is possible still")
	}
	c.Took(c.Ask(true), now, answer(3, false, "b"), now)
	if c.Stuck(now) {
		t.Error("b may have given it up since")
	}
	if later := now.Add(40 * time.Millisecond); !c.Stuck(later) || c.Holder(later) != "b" {
		t.Errorf("b has two of three: stuck %v, holder %q", c.Stuck(later), c.Holder(later))
	}
	c = newClaim()
	for at := now; at.Sub(now) < 400*time.Millisecond; at = at.Add(50 * time.Millisecond) {
		c.Took(c.Ask(true), at, answer(1, true, ""), at)
		if got := c.Stuck(at); got != (at.Sub(now) >= 200*time.Millisecond) {
			t.Errorf("one grant of three for %v: stuck %v", at.Sub(now), got)
		}
	}
}

func TestClaimLeavesAlone(t *testing.T) {
	c, now := newClaim(), reading(time.Minute)
	c.Took(c.Ask(true), now, answer(1, false, "b"), now)
	if c.Leave(3, now) {
		t.Error("one of three is no majority")
	}
	c.Took(c.Ask(false), now, answer(2, false, "b"), now)
	if !c.Leave(3, now) || c.Leave(1, now) || c.Leave(2, now) {
		t.Error("b has a majority: the third grant is b's to take, and the two are to be waited for")
	}
	later := now.Add(time.Second)
	if !c.Leave(3, later) || !c.can([]uint64{1, 2, 3}, later) {
		t.Error("what a member said is relied on while a question waits there, and is no hindrance when it may be over")
	}
	if c.Leave(3, now.Add(2*time.Second)) {
		t.Error("relied on for ever")
	}
}
