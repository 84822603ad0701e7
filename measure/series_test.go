package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/rto"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func sec(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// down is a report of one client that was down once, and of one that was not.
func down(from, to float64, over bool) *Report {
	o := &Outcome{Counts: Counts{Errors: map[string]int{}}, Downtime: Millis(sec(to).Sub(sec(from))), Recovered: !over}
	f, g := sec(from), sec(to)
	o.FirstFailure, o.FirstGood = &f, &g
	o.Outages = []Outage{{From: f, To: g, Length: o.Downtime, Recovered: !over, Site: "dr"}}
	r := &Report{URL: "http://shop.example", Started: noon, Client: Fresh, Outcome: *o,
		Clients: map[Kind]*Outcome{Fresh: o, TTL: {Recovered: true, Counts: Counts{Errors: map[string]int{}}}}}
	return r
}

func move(to string, complete bool, turns ...any) Move {
	m := Move{Kind: "failover", From: "primary", To: "dr", Epoch: 4, Complete: complete}
	if to != "dr" {
		m.To, m.From = "primary", "dr"
	}
	parts := map[string]string{"suspected": "detect", "failed": "agree", "decided": "confirm", "released": "release", "activated": "fence", "redirected": "act"}
	for i := 0; i < len(turns); i += 2 {
		name := turns[i].(string)
		m.Turns = append(m.Turns, Turn{Name: name, Part: parts[name], At: sec(turns[i+1].(float64)), Shifted: true})
	}
	return m
}

func lengths(parts []Part) map[string]float64 {
	out := make(map[string]float64)
	for _, p := range parts {
		out[p.Name] = time.Duration(p.Length).Seconds()
	}
	return out
}

// TestJoin: the first outage is divided by the move that ended it, whatever
// other moves there were.
func TestJoin(t *testing.T) {
	before := move("primary", true, "decided", -9.0, "activated", -8.0, "verified", -7.0)
	lost := move("dr", true, "suspected", 1.1, "failed", 1.2, "decided", 1.5, "activated", 3.5, "redirected", 3.6, "verified", 9.0)
	open := move("primary", false, "decided", 2.0)
	later := move("primary", true, "decided", 40.0, "activated", 41.0, "verified", 42.0)
	for name, c := range map[string]struct {
		moves []Move
		want  map[string]float64
	}{
		"lost site":        {[]Move{before, lost, later}, map[string]float64{"detect": 1.1, "agree": 0.1, "confirm": 0.3, "fence": 2, "act": 0.1, "propagate": 2.6}},
		"another unended":  {[]Move{open, lost}, map[string]float64{"detect": 1.1, "agree": 0.1, "confirm": 0.3, "fence": 2, "act": 0.1, "propagate": 2.6}},
		"only an unended":  {[]Move{before, open}, map[string]float64{"confirm": 2, "propagate": 4.2}},
		"none":             {nil, map[string]float64{}},
		"none in its time": {[]Move{before, later}, map[string]float64{}},
	} {
		r := down(0, 6.2, false)
		r.Join(&Daemon{Service: "shop", Moves: c.moves})
		if got := lengths(r.Parts); !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(r.Parts, r.Clients[Fresh].Parts) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if r.Clients[TTL].Parts != nil {
			t.Errorf("%s: parts of no downtime", name)
		}
	}
	r := down(0, 6.2, false)
	r.Join(&Daemon{Service: "shop", Moves: []Move{lost}, Members: []MemberClock{{Member: "dr", Known: true, Offset: Millis(12 * time.Millisecond), Error: Millis(400 * time.Microsecond)},
		{Member: "witness", Problem: "connection refused"}}})
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"downtime       6.2s (0 failed), of which", "    fence           2.00 s  until the old permit", "    propagate       2.60 s", "dr +12.0 ms +-400µs",
		"witness not known: connection refused", "failover from primary to dr, epoch 4", "activated    12:00:03.500"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

// TestSum: runs that prove nothing are in no figure, those that were not over
// are in all of them, and both are counted.
func TestSum(t *testing.T) {
	var runs []*Report
	for i := range 5 {
		runs = append(runs, down(0, float64(i+1), false))
	}
	over, void := down(0, 0.5, true), down(0, 60, false)
	void.Void, void.VoidReason = true, "--inject: exit code 1"
	over.Writes, void.Writes = &Writes{Known: true, Lost: 3, RPO: Millis(time.Second)}, &Writes{Unread: "no"}
	runs = append(runs, over, void)
	s := &Series{Wanted: 8, Runs: runs, Summary: Sum(runs), Problem: "interrupted"}
	m := s.Summary
	if m.Runs != 7 || m.Recovered != 5 || m.NotEnded != 1 || m.Void != 1 || m.LossKnown != 1 || m.LossUnknown != 1 || m.Lost != 3 || m.WorstRPO != Millis(time.Second) {
		t.Errorf("%+v", m)
	}
	q := m.Clients[Fresh].Quantiles
	if len(m.Clients[Fresh].Downtimes) != 6 || q[0].Value.String() != "3s" || q[0].Upper.Recovered || q[0].Upper.bound() != "not over" || q[1].Value != nil || q[2].NeedUpper != 299 {
		t.Errorf("%+v", q)
	}
	if m.Clients[TTL].Quantiles[0].Value.Downtime != 0 {
		t.Errorf("a client that was never down: %v", m.Clients[TTL].Quantiles[0].Value)
	}
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 of 8 runs: 5 recovered, 1 did not, 1 void", "ENDED EARLY: interrupted", "VOID: --inject: exit code 1", "p50            3s, between 1s and not over",
		"p90            not from 6 runs, needs 10", "a bound from above needs 299 runs", "lost writes: 3 in 1 runs, RPO at worst 1.00 s; not known of 1 runs", "NOT OVER"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	data, err := json.Marshal(s)
	var back Series
	if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(back.Summary, m) || len(back.Runs) != 7 {
		t.Errorf("%v, %s", err, data)
	}
}

// TestSeriesCheck: what was exceeded outweighs what proves nothing, and fewer
// runs than were wanted prove nothing.
func TestSeriesCheck(t *testing.T) {
	void := down(0, 1, false)
	void.Void = true
	unread := down(0, 1, false)
	unread.Writes = &Writes{Unread: "no"}
	none := time.Duration(0)
	for name, c := range map[string]struct {
		runs   []*Report
		wanted int
		rpo    *time.Duration
		want   error
		run    string
	}{
		"met":            {[]*Report{down(0, 1, false), down(0, 2, false)}, 2, &none, nil, ""},
		"too long":       {[]*Report{void, down(0, 3, false)}, 2, nil, ErrExceeded, "run 2"},
		"not over":       {[]*Report{down(0, 1, true)}, 1, nil, ErrExceeded, "run 1"},
		"void":           {[]*Report{down(0, 1, false), void}, 2, nil, ErrVoid, "run 2"},
		"too few":        {[]*Report{down(0, 1, false)}, 2, nil, ErrVoid, "1 of 2 runs"},
		"none":           {nil, 1, nil, ErrVoid, "0 of 1 runs"},
		"loss not known": {[]*Report{unread}, 1, &none, ErrVoid, "run 1"},
	} {
		s := &Series{Wanted: c.wanted, Runs: c.runs}
		if err := s.Check(2*time.Second, c.rpo); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.run) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStaleTails: users are followed from the fault to where the service went,
// those that never look again too; where it did not move there is no tail.
func TestStaleTails(t *testing.T) {
	const primary, dr = 1, 2
	row := func(moves int, site rto.Site) rto.Stream {
		var s rto.Stream
		for i := range 20 {
			a := rto.Sample{At: time.Duration(i) * time.Second, Sent: time.Duration(i) * time.Second, Done: time.Duration(i)*time.Second + 1, Site: primary, Addr: 1}
			switch {
			case i >= moves:
				a.Addr, a.Site = 2, site
			case i >= 5:
				a.Class, a.Site = rto.Refused, rto.NoSite
			}
			s.Samples = append(s.Samples, a)
		}
		return s
	}
	timeline := &rto.Timeline{Streams: []rto.Stream{row(8, dr), row(99, dr)}}
	tails, ok := staleTail(timeline, []Kind{TTL, Pinned}, 5*time.Second)
	if !ok || !reflect.DeepEqual(tails[0], []Stale{{0, 1, 1}, {Millis(3 * time.Second), 0, 1}}) || !reflect.DeepEqual(tails[1], []Stale{{0, 1, 1}}) {
		t.Errorf("%v, %v", tails, ok)
	}
	for name, streams := range map[string][]rto.Stream{"the same site": {row(8, primary)}, "the same address": {row(99, dr)}} {
		if tails, ok := staleTail(&rto.Timeline{Streams: streams}, []Kind{TTL}, 5*time.Second); ok {
			t.Errorf("%s: %v", name, tails)
		}
	}
	unnamed := row(8, rto.NoSite)
	if tails, ok := staleTail(&rto.Timeline{Streams: []rto.Stream{unnamed}}, []Kind{TTL}, 5*time.Second); !ok || len(tails[0]) != 2 {
		t.Errorf("answers that do not say whose they are: %v", tails)
	}
}
