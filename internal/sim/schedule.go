package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// Kind names what goes wrong, or what a person does.
type Kind string

// The kinds of fault.
const (
	Crash        Kind = "crash"         // the daemon of On is killed and started again after For
	CrashWrite   Kind = "crash-write"   // it is killed at its Nth next disk operation: after the write, before the sync
	CrashSay     Kind = "crash-say"     // it is killed when it has decided and carried out N of its outputs
	Freeze       Kind = "freeze"        // the daemon does not run for For; what is sent to it waits
	FreezeGuard  Kind = "freeze-guard"  // the guard does not run for For; its fence still closes
	RestartGuard Kind = "restart-guard" // the guard is killed and started again after For
	SlowGuard    Kind = "slow-guard"    // what the daemon tells the guard takes up to By, for For
	Power        Kind = "power"         // the machine is off for For, and boots
	Stop         Kind = "stop"          // the machine stands still for For and its boot clock with it; the wall clock is right afterwards
	Pause        Kind = "pause"         // as Stop, and the wall clock stands still too: beyond what is assumed, never drawn
	Drift        Kind = "drift"         // the clocks of On run at rate X from now on
	Step         Kind = "step"          // the wall clock of On steps by By
	Cut          Kind = "cut"           // nothing goes between On and To for For
	OneWay       Kind = "one-way"       // nothing goes from On to To for For
	Isolate      Kind = "isolate"       // nothing goes to or from On for For
	Loss         Kind = "loss"          // the part X of what goes from On to To is lost, for For
	Slow         Kind = "slow"          // what goes from On to To takes up to By longer, for For: it is overtaken
	Double       Kind = "double"        // the part X of what goes from On to To arrives twice, up to By later, for For
	Service      Kind = "service"       // the service's process at On is dead for For
	Flap         Kind = "flap"          // it dies and lives again every By, for For
	Blind        Kind = "blind"         // the monitor of On cannot look at anything for For
	Mirage       Kind = "mirage"        // the monitor of On sees every service elsewhere failed for For
	Effect       Kind = "effect"        // the effects of On meet What (an effecttest.Fault) for For
	SlowEffect   Kind = "slow-effect"   // a step's attempt at On takes up to By, for For
	DiskFull     Kind = "disk-full"     // N more bytes fit on the disk of On, for For
	ReadOnly     Kind = "read-only"     // nothing can be written on the disk of On for For
	SyncError    Kind = "sync-error"    // the next sync of On fails
	Rollback     Kind = "rollback"      // the data directory of On, as it is now, is put back after By; the daemon dies then and starts after For
	Wipe         Kind = "wipe"          // the disk of On is lost, and replaced after For
	Clone        Kind = "clone"         // a copy of On's machine runs beside it for For; its daemon starts again after By; N: On was off while it was copied
	Edge         Kind = "edge"          // the frontends at On are dead for For, or the Nth; or they come and go every By
	Upgrade      Kind = "upgrade"       // the daemon of On is stopped, and a newer one started after For
	Operator     Kind = "operator"      // an operator at On asks for What of Service to site To
)

// Fault is one thing that happens at a time. Which fields count is said at
// its kind.
type Fault struct {
	At time.Duration
	// When waits, from At on, until a service enters that phase.
	When    failover.Phase
	Kind    Kind
	On, To  draas.MemberID
	Service draas.ServiceID
	For, By time.Duration
	X       float64
	N       int
	What    string
}

// Schedule is a run as data: the seed says what the cluster is and what
// chance does, the faults what happens to it. It ends with a calm in which
// nothing is wrong any more.
type Schedule struct {
	Seed uint64
	// Trouble is when all faults end.
	Trouble time.Duration
	Faults  []Fault
}

// faultJSON has durations as people write them.
type faultJSON struct {
	At      string          `json:"at"`
	When    failover.Phase  `json:"when,omitempty"`
	Kind    Kind            `json:"kind"`
	On      draas.MemberID  `json:"on,omitempty"`
	To      draas.MemberID  `json:"to,omitempty"`
	Service draas.ServiceID `json:"service,omitempty"`
	For     string          `json:"for,omitempty"`
	By      string          `json:"by,omitempty"`
	X       float64         `json:"x,omitempty"`
	N       int             `json:"n,omitempty"`
	What    string          `json:"what,omitempty"`
}

type scheduleJSON struct {
	Seed    uint64      `json:"seed"`
	Trouble string      `json:"trouble"`
	Faults  []faultJSON `json:"faults"`
}

func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// JSON writes a schedule so that ParseSchedule reads it again.
func (s Schedule) JSON() ([]byte, error) {
	j := scheduleJSON{Seed: s.Seed, Trouble: s.Trouble.String(), Faults: []faultJSON{}}
	for _, f := range s.Faults {
		j.Faults = append(j.Faults, faultJSON{f.At.String(), f.When, f.Kind, f.On, f.To, f.Service, span(f.For), span(f.By), f.X, f.N, f.What})
	}
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schedule: %w", err)
	}
	return append(data, '\n'), nil
}

// ParseSchedule reads what JSON wrote.
func ParseSchedule(data []byte) (Schedule, error) {
	var j scheduleJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return Schedule{}, fmt.Errorf("read schedule: %w", err)
	}
	bad := error(nil)
	parse := func(s string) time.Duration {
		if s == "" {
			return 0
		}
		d, err := time.ParseDuration(s)
		if err != nil && bad == nil {
			bad = fmt.Errorf("read schedule: %w", err)
		}
		return d
	}
	s := Schedule{Seed: j.Seed, Trouble: parse(j.Trouble)}
	for _, f := range j.Faults {
		if !slices.Contains(allKinds, f.Kind) {
			return Schedule{}, fmt.Errorf("read schedule: there is no fault %q", f.Kind)
		}
		s.Faults = append(s.Faults, Fault{At: parse(f.At), When: f.When, Kind: f.Kind, On: f.On, To: f.To, Service: f.Service,
			For: parse(f.For), By: parse(f.By), X: f.X, N: f.N, What: f.What})
	}
	return s, bad
}

// String is the fault as one line of a story.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	for _, part := range []struct {
		name string
		text string
	}{
		{"on", string(f.On)}, {"to", string(f.To)}, {"of", string(f.Service)}, {"what", f.What},
		{"by", span(f.By)}, {"for", span(f.For)}, {"when", string(f.When)},
	} {
		if part.text != "" {
			fmt.Fprintf(&b, " %s %s", part.name, part.text)
		}
	}
	if f.X != 0 {
		fmt.Fprintf(&b, " x %.3f", f.X)
	}
	if f.N != 0 {
		fmt.Fprintf(&b, " n %d", f.N)
	}
	return b.String()
}

// Literal is the schedule's faults as Go source, for a scenario.
func (s Schedule) Literal() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sim.Schedule{Seed: %d, Trouble: %d, Faults: []sim.Fault{\n", s.Seed, int64(s.Trouble))
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "\t{At: %d, Kind: %q", int64(f.At), f.Kind)
		for _, part := range []struct{ name, text string }{
			{"When", string(f.When)}, {"On", string(f.On)}, {"To", string(f.To)}, {"Service", string(f.Service)}, {"What", f.What},
		} {
			if part.text != "" {
				fmt.Fprintf(&b, ", %s: %q", part.name, part.text)
			}
		}
		for _, part := range []struct {
			name string
			n    int64
		}{{"For", int64(f.For)}, {"By", int64(f.By)}, {"N", int64(f.N)}} {
			if part.n != 0 {
				fmt.Fprintf(&b, ", %s: %d", part.name, part.n)
			}
		}
		if f.X != 0 {
			fmt.Fprintf(&b, ", X: %g", f.X)
		}
		fmt.Fprintf(&b, "}, // %s\n", f.At)
	}
	b.WriteString("}}\n")
	return b.String()
}

// moveOf reads an operator's wish.
func moveOf(what string) (failover.MoveKind, bool) {
	switch k := failover.MoveKind(what); k {
	case failover.MoveActivate, failover.MoveFailover, failover.MoveSwitchover, failover.MoveFailback:
		return k, true
	}
	return "", false
}
