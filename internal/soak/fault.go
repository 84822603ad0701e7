package soak

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds. Killed is killed by SIGKILL, stopped by SIGSTOP.
const (
	KillDaemon  Kind = "kill-daemon"
	KillGuard   Kind = "kill-guard"
	KillService Kind = "kill-service"
	StopDaemon  Kind = "stop-daemon"
	StopGuard   Kind = "stop-guard"
	KillBoth    Kind = "kill-both" // daemon and guard
	StopBoth    Kind = "stop-both"
	Abandon     Kind = "abandon"   // a site is isolated, and its daemon and guard killed: only the fence itself is left
	Strand      Kind = "strand"    // the same, and they are stopped
	StopHost    Kind = "stop-host" // every process of the machine
	HostOff     Kind = "host-off"  // every process killed, the link down, the rules gone; another boot afterwards
	Cut         Kind = "cut"       // nothing passes between two sites
	CutOneWay   Kind = "cut-one-way"
	CutPort     Kind = "cut-port"
	Isolate     Kind = "isolate" // nothing passes between a site and all others
	Deaf        Kind = "deaf"    // nothing reaches a site
	Mute        Kind = "mute"    // nothing leaves a site
	Loss        Kind = "loss"    // a part of the packets between two sites is lost
	DiskFull    Kind = "disk-full"
	DiskRO      Kind = "disk-read-only"
	CorruptLog  Kind = "corrupt-log"
	LoseDisk    Kind = "lose-disk"
	Leave       Kind = "leave"       // a member is let go in order, and comes back
	Flush       Kind = "flush"       // a site's nftables rules are flushed, where an XDP program stands behind them
	Maintenance Kind = "maintenance" // a member is ended in order, for long
	Switchover  Kind = "switchover"  // an operator's wish; the following too
	Failover    Kind = "failover"
	Failback    Kind = "failback"
	Pause       Kind = "pause"  // of automatic moves, and its end
	Reload      Kind = "reload" // another failover.toml everywhere, and SIGHUP
	Rotate      Kind = "rotate" // another certificate of a member, and SIGHUP
)

// Fault is one fault of a round.
type Fault struct {
	At      time.Duration // after the round's start
	For     time.Duration // until it is taken back; 0: it passes by itself
	Kind    Kind
	Member  string // whose; the sender's, of a one-way cut; of an operator's wish: who is asked
	Other   string // the other end of a cut
	Service string // which one is killed or moved
	Site    string // where to move it; empty: draasd chooses
	Port    uint16 // that is cut
	Percent int    // of packets that are lost
	File    int    // which failover.toml
	Days    int    // how long the certificate is good
}

func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", f.Kind, f.Member)
	if f.Other != "" {
		fmt.Fprintf(&b, " - %s", f.Other)
	}
	for _, s := range []string{f.Service, f.Site} {
		if s != "" {
			fmt.Fprintf(&b, " %s", s)
		}
	}
	if f.Port != 0 {
		fmt.Fprintf(&b, " port %d", f.Port)
	}
	if f.Percent != 0 {
		fmt.Fprintf(&b, " %d %%", f.Percent)
	}
	if f.Kind == Reload {
		fmt.Fprintf(&b, " of file %d", f.File)
	}
	if f.Days != 0 {
		fmt.Fprintf(&b, " for %d days", f.Days)
	}
	if f.For > 0 {
		fmt.Fprintf(&b, " for %v", f.For)
	}
	return b.String()
}

// trouble is how long faults begin in a round; the longest of them lasts
// maintenanceMax.
const (
	trouble        = 20 * time.Second
	maintenanceMax = 12 * time.Second
)

// gaps are the mean times between two faults, one of which is drawn for each
// round: alone a fault runs its course, together they meet.
var gaps = []time.Duration{400 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second}

// spare says whose daemon and guard live through the whole run, so that what
// they might leak adds up: they are stopped and cut off like the others.
func spare(seed uint64) string {
	return members[rand.New(rand.NewPCG(seed, 0)).IntN(len(members))]
}

// opening are the faults of the first round: each way to lose a site, alone and
// for long enough to run its course. The control leaves dr active, and each of
// these sends the services to the other site.
func opening(seed uint64) []Fault {
	const lasts, every = 8 * time.Second, 13 * time.Second
	kinds := [][]Kind{{Abandon, Strand}, {HostOff, Isolate}}
	spared := spare(seed)
	var faults []Fault
	for i, site := range []string{dr, primary, dr, primary} {
		// The first of two kinds ends processes: whoever is spared gets the other.
		which := i % 2
		if spared == dr {
			which = 1 - which
		}
		faults = append(faults, Fault{At: time.Duration(i) * every, For: lasts, Kind: kinds[i/2][which], Member: site})
	}
	return faults
}

// round draws the faults of a round, numbered from 1, in the order of their
// beginning. It depends on nothing but its arguments.
func round(seed uint64, n int) []Fault {
	if n == 1 {
		return opening(seed)
	}
	d := &draw{Rand: rand.New(rand.NewPCG(seed, uint64(n))), spared: spare(seed), disk: make(map[string]time.Duration)}
	gap := gaps[d.IntN(len(gaps))]
	// All is well as a round begins: that is when people make planned moves, and
	// the first faults meet them under way.
	faults := []Fault{{At: d.between(0, time.Second), Kind: Switchover, Member: d.of(members), Service: d.of(fenced)}}
	for at := d.between(0, gap); at < trouble; at += d.between(gap/4, 2*gap-gap/4) {
		faults = append(faults, d.fault(at))
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// draw makes faults out of random numbers.
type draw struct {
	*rand.Rand
	spared string
	disk   map[string]time.Duration // until when a member's disk has a fault
	forgot bool                     // a member has been robbed of its log in this round
}

// between is uniform, in whole milliseconds: a schedule is to be read.
func (d *draw) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)+1)).Truncate(time.Millisecond)
}

func (d *draw) of(names []string) string { return names[d.IntN(len(names))] }

// but is one of the names other than not.
func (d *draw) but(names []string, not string) string {
	return d.of(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == not }))
}

// weights say how often each kind comes.
var weights = []struct {
	kind   Kind
	weight int
}{
	{KillDaemon, 8}, {KillGuard, 6}, {KillService, 6}, {StopDaemon, 6}, {StopGuard, 5}, {KillBoth, 4}, {StopBoth, 4}, {Abandon, 4}, {Strand, 4}, {StopHost, 5}, {HostOff, 6},
	{Cut, 5}, {CutOneWay, 5}, {CutPort, 5}, {Isolate, 5}, {Deaf, 3}, {Mute, 3}, {Loss, 6},
	{DiskFull, 4}, {DiskRO, 4}, {CorruptLog, 4}, {LoseDisk, 3}, {Leave, 3}, {Flush, 4}, {Maintenance, 3},
	{Switchover, 8}, {Failover, 4}, {Failback, 5}, {Pause, 4}, {Reload, 4}, {Rotate, 4},
}

func (d *draw) kind() Kind {
	sum := 0
	for _, w := range weights {
		sum += w.weight
	}
	n := d.IntN(sum)
	for _, w := range weights {
		if n -= w.weight; n < 0 {
			return w.kind
		}
	}
	panic("unreachable: n is below the sum")
}

func (d *draw) fault(at time.Duration) Fault {
	f := Fault{At: at.Truncate(time.Millisecond), Kind: d.kind(), Member: d.of(members)}
	switch f.Kind {
	case KillDaemon, HostOff, StopDaemon, StopHost:
		if f.Kind == KillDaemon || f.Kind == HostOff {
			f.Member = d.but(members, d.spared)
		}
		f.For = d.between(100*time.Millisecond, 8*time.Second)
	case KillBoth, StopBoth, Abandon, Strand:
		f.Member = d.of(sites)
		if f.Kind == KillBoth || f.Kind == Abandon {
			f.Member = d.but(sites, d.spared)
		}
		f.For = d.between(time.Second, 9*time.Second)
	case KillGuard:
		f.Member = d.but(sites, d.spared)
		f.For = d.between(50*time.Millisecond, 6*time.Second)
	case StopGuard:
		f.Member = d.of(sites)
		f.For = d.between(100*time.Millisecond, 6*time.Second)
	case Flush:
		f.Member = d.of(sites)
	case KillService:
		f.Member, f.Service = d.of(sites), d.of(fenced)
		f.For = d.between(300*time.Millisecond, 8*time.Second)
	case Cut, CutOneWay, CutPort, Loss:
		f.Other = d.but(places, f.Member)
		f.For = d.between(200*time.Millisecond, 10*time.Second)
		if f.Kind == CutPort {
			f.Port = ports[d.IntN(len(ports))]
		}
		if f.Kind == Loss {
			f.Percent = 10 + d.IntN(61)
		}
	case Isolate, Deaf, Mute:
		f.For = d.between(200*time.Millisecond, 10*time.Second)
	case DiskFull, DiskRO, CorruptLog, LoseDisk, Leave:
		f.Member = d.but(members, d.spared)
		f.For = d.between(500*time.Millisecond, 5*time.Second)
		forgets := f.Kind != DiskFull && f.Kind != DiskRO
		if d.disk[f.Member] > at || forgets && d.forgot {
			return d.fault(at) // one fault of a disk at a time, and two logs of three are more than a cluster can lose
		}
		d.forgot = d.forgot || forgets
		d.disk[f.Member] = at + f.For + diskRest
	case Maintenance:
		f.Member = d.but(members, d.spared)
		if d.spared != witness && d.IntN(2) == 0 {
			f.Member = witness
		}
		f.For = d.between(4*time.Second, maintenanceMax)
	case Switchover, Failover:
		f.Service, f.Site = d.of(fenced), d.of(append([]string{""}, sites...))
	case Failback:
		f.Service = d.of(fenced)
	case Pause:
		f.Service, f.For = d.of(fenced), d.between(time.Second, 8*time.Second)
	case Reload:
		f.File = d.IntN(len(files))
	case Rotate:
		f.Days = 400 + d.IntN(300)
	}
	return f
}

// diskRest is how long a disk's fault may take to be made and taken back,
// besides its duration.
const diskRest = 10 * time.Second
