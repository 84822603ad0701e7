package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// profiled is the default cluster with the timings of a profile.
func profiled(pr config.Profile) *Params {
	p := Default()
	p.Heartbeat, p.Election = pr.Heartbeat, pr.Election
	p.Probe, p.Rise, p.Fall = pr.Interval, pr.Rise, pr.Fall
	s := serviceOf(pr.Lease, pr.Renew, pr.Interval)
	s.Confirm, s.Hold, s.Flaps, s.Steady = pr.Confirm, pr.Hold, pr.Flaps, pr.Steady
	p.Policy.Services["shop"] = s
	p.Policy.Retarget = s.Lease.Wait() + time.Second
	return &p
}

// sight is what users who can reach every site get.
type sight struct {
	without time.Duration // the longest time without service
	moves   int
	at      draas.SiteID // when the partition has lasted its time
	after   draas.SiteID // when it is over
}

func partition(t *testing.T, p *Params, faults ...Fault) sight {
	t.Helper()
	const begin, length = 15 * time.Second, time.Minute
	var worst sight
	for seed := range uint64(2) {
		var s sight
		var gone time.Duration
		for i := range faults {
			faults[i].At, faults[i].For = begin, length
		}
		r, err := Scenario{Seed: seed + 1, Params: p, Faults: faults, Length: begin + length + 30*time.Second,
			Expect: []Expect{{What: "looked at", From: begin, Always: func(w *World) bool {
				switch at := w.Serving("shop"); {
				case at == "" && gone == 0:
					gone = w.Now()
				case at != "" && gone != 0:
					s.without, gone = max(s.without, w.Now()-gone), 0
				}
				if w.Now() < begin+length {
					s.at = w.Serving("shop")
				}
				s.after, s.moves = w.Serving("shop"), w.Moves()
				return true
			}}}}.Run()
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Violations) > 0 {
			t.Fatalf("%s\n%s", strings.Join(r.Violations, "\n"), r.Story)
		}
		if s.at == "" {
			s.without = length
		}
		if s.without > worst.without || seed == 0 {
			worst = s
		}
	}
	return worst
}

// TestPartitions is the table of docs/safety.md: what users see of each
// partition that lasts a minute, by profile. Run it with -v for the figures.
func TestPartitions(t *testing.T) {
	one := func(k Kind, on, to draas.MemberID) Fault { return Fault{Kind: k, On: on, To: to} }
	isolated := []Fault{one(Isolate, "primary", ""), one(Isolate, "dr", "")}
	for _, tc := range []struct {
		name   string
		faults []Fault
		at     draas.SiteID // who serves in the end of it
		moves  int
		gap    bool // users are without service for a while
	}{
		{"link between the sites", []Fault{one(Cut, "primary", "dr")}, "primary", 0, false},
		{"link of the active site to the witness", []Fault{one(Cut, "primary", "witness")}, "primary", 0, false},
		{"from the active site to the witness", []Fault{one(OneWay, "primary", "witness")}, "primary", 0, false},
		{"from the witness to the active site", []Fault{one(OneWay, "witness", "primary")}, "primary", 0, false},
		{"from the active to the other site", []Fault{one(OneWay, "primary", "dr")}, "primary", 0, false},
		{"from the other to the active site", []Fault{one(OneWay, "dr", "primary")}, "primary", 0, false},
		{"link of the other site to the witness", []Fault{one(Cut, "dr", "witness")}, "primary", 0, false},
		{"witness from both", []Fault{one(Isolate, "witness", "")}, "primary", 0, false},
		{"other site from both", []Fault{one(Isolate, "dr", "")}, "primary", 0, false},
		{"active site from both", []Fault{one(Isolate, "primary", "")}, "dr", 1, true},
		{"everybody from everybody", isolated, "", 0, true},
		{"nothing leaves the active site", []Fault{one(OneWay, "primary", "dr"), one(OneWay, "primary", "witness")}, "dr", 1, true},
		{"nothing reaches the active site", []Fault{one(OneWay, "dr", "primary"), one(OneWay, "witness", "primary")}, "dr", 1, true},
	} {
		row := tc.name
		for _, profile := range config.Profiles() {
			name, p := profile.Name, profiled(profile)
			s := partition(t, p, append([]Fault(nil), tc.faults...)...)
			row += fmt.Sprintf(" | %.1f s", s.without.Seconds())
			if s.at != tc.at || s.at != "" && s.moves != tc.moves || (s.without > 0) != tc.gap {
				t.Errorf("%s, %s: served by %q, %d moves, %v without service; want %q, %d moves", tc.name, name, s.at, s.moves, s.without, tc.at, tc.moves)
			}
			// When nobody could serve, either site may be the first to be back.
			if s.after != tc.at && (tc.at != "" || s.after == "" || s.after == "both") {
				t.Errorf("%s, %s: afterwards served by %q", tc.name, name, s.after)
			}
			lease := p.Policy.Services["shop"].Lease
			// The slower of detection and lease, twice an election, and what a
			// few entries take.
			bound := max(lease.Wait(), time.Duration(p.Fall+2)*p.Probe*11/10+p.Policy.Services["shop"].Confirm) + 2*p.Election + time.Second
			if tc.at != "" && s.without > bound {
				t.Errorf("%s, %s: %v without service, more than %v", tc.name, name, s.without, bound)
			}
		}
		t.Log("| " + row + " |")
	}
}
