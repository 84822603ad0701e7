// Package demo shows draasd at work on one machine: two sites and a witness
// as separate processes on loopback addresses, two small HTTP services behind
// their guards, a disaster, and rtotest measuring from outside what the users
// of the service saw of it.
//
// Every process is real: the demo starts its own executable again. The network
// between them is not: relays in the demo's process stand for the links
// between members and for the users' ways to the sites, so that a link can
// swallow or reset what it carries without root. draasd knows nothing of them
// but addresses in its failover.toml.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Disaster is what happens to the primary site.
type Disaster string

// The disasters.
const (
	// DisasterService kills the service's process; its site lives and can
	// hand over.
	DisasterService Disaster = "service"
	// DisasterHang stops the service's process: it accepts connections, as the
	// kernel does that for it, and never answers.
	DisasterHang Disaster = "hang"
	// DisasterSite kills every process of the primary site at once.
	DisasterSite Disaster = "site"
	// DisasterSilent drops every packet from and to the primary site, the
	// users' too; its processes live on.
	DisasterSilent Disaster = "silent"
	// DisasterDaemon kills the primary's draasd only: its guard must fence
	// the service, which lives.
	DisasterDaemon Disaster = "daemon"
	// DisasterFreeze stops the primary's draasd (SIGSTOP) and continues it
	// when the service has moved: it must stay passive.
	DisasterFreeze Disaster = "freeze"
	// DisasterCut severs the link between the two sites for Options.Cut while
	// the witness sees both: nothing may move and no request may fail.
	DisasterCut Disaster = "cut"
	// DisasterSwitchover is none: an operator moves the service, as for
	// maintenance. Behind a frontend no request may fail.
	DisasterSwitchover Disaster = "switchover"
	// DisasterEntry kills the frontend by which users enter, of the scheme
	// hybrid: the service stays, and the name leads to another frontend.
	DisasterEntry Disaster = "entry"
)

// Disasters lists the disasters.
func Disasters() []Disaster {
	return []Disaster{DisasterService, DisasterHang, DisasterSite, DisasterSilent, DisasterDaemon, DisasterFreeze, DisasterCut, DisasterSwitchover, DisasterEntry}
}

// moves reports whether the service has to move.
func (d Disaster) moves() bool { return d != DisasterCut && d != DisasterEntry }

// Options say what to show. The zero value of each field takes the default
// that is given here.
type Options struct {
	Scheme   string        // how users are moved, dns, frontend or hybrid: dns
	Disaster Disaster      // site
	Cut      time.Duration // how long DisasterCut lasts: 43 s
	Profile  string        // metro, fast, balanced or cautious: fast
	Runs     int           // 1, each on a fresh cluster
	JSON     string        // file to write the result to; empty: none

	// Bench runs service, site and silent in turn, BenchRuns times each (20),
	// and prints the figures beside the targets. Disaster and Runs are not
	// looked at then.
	Bench     bool
	BenchRuns int

	// Undisturbed is how long rtotest measures before the disaster: 2 s.
	Undisturbed time.Duration
	// Draasd is the executable that is started for every role; rtotest must
	// stand beside it. Default: the running executable.
	Draasd string
	// Dir keeps the cluster's files and logs under this existing directory.
	// Default: a temporary directory that is removed at the end.
	Dir string
	// Colour paints the live timeline.
	Colour bool
}

// errRTOTest says what is missing and what to do about it.
var errRTOTest = errors.New("rtotest, which measures, is missing: run make build")

func (o Options) complete() (Options, error) {
	if o.Scheme == "" {
		o.Scheme = schemeDNS
	}
	if o.Disaster == "" {
		o.Disaster = DisasterSite
	}
	if o.Cut == 0 {
		o.Cut = 43 * time.Second
	}
	if o.Profile == "" {
		o.Profile = "fast"
	}
	if o.Runs == 0 {
		o.Runs = 1
	}
	if o.BenchRuns == 0 {
		o.BenchRuns = 20
	}
	if o.Undisturbed == 0 {
		o.Undisturbed = 2 * time.Second
	}
	var errs []error
	if !slices.Contains([]string{schemeDNS, schemeFrontend, schemeHybrid}, o.Scheme) {
		errs = append(errs, fmt.Errorf("scheme %q cannot be shown: dns, frontend or hybrid", o.Scheme))
	}
	if o.Disaster == DisasterEntry && o.Scheme != schemeHybrid && !o.Bench {
		errs = append(errs, fmt.Errorf("disaster %q is of the scheme %s, whose users can enter elsewhere", o.Disaster, schemeHybrid))
	}
	if !slices.Contains(Disasters(), o.Disaster) {
		errs = append(errs, fmt.Errorf("%q is no disaster (one of %v)", o.Disaster, Disasters()))
	}
	if !slices.Contains([]string{"metro", "fast", "balanced", "cautious"}, o.Profile) {
		errs = append(errs, fmt.Errorf("%q is no profile (metro, fast, balanced or cautious)", o.Profile))
	}
	if o.Runs < 0 || o.BenchRuns < 0 || o.Cut < 0 || o.Undisturbed < 0 {
		errs = append(errs, errors.New("runs, cut and the undisturbed time must be positive"))
	}
	if o.Disaster == DisasterCut && o.Cut < minCut(o.Profile) {
		errs = append(errs, fmt.Errorf("cut %v is too short for the members to notice: at least %v with profile %s",
			o.Cut, minCut(o.Profile), o.Profile))
	}
	return o, errors.Join(errs...)
}

// Result is what the runs showed.
type Result struct {
	Runs []RunResult `json:"runs"`
}

// Run shows what the options say, writing the live timeline and the table to
// out. It returns an error when a run proved something wrong (two sites
// active, an answer of a fenced site, no recovery, a cut that moved the
// service) or nothing at all (void), beside the result of all runs. All
// processes that it started have ended when it returns.
func Run(ctx context.Context, o Options, out io.Writer) (*Result, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if o.Draasd == "" {
		if o.Draasd, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find own executable: %w", err)
		}
	}
	rtotest, err := findRTOTest(o.Draasd)
	if err != nil {
		return nil, err
	}
	plan := slices.Repeat([]Disaster{o.Disaster}, o.Runs)
	if o.Bench {
		plan = nil
		for _, t := range targets() {
			plan = append(plan, slices.Repeat([]Disaster{t.disaster}, o.BenchRuns)...)
		}
	}
	if o.JSON != "" {
		// Better refused now than after the runs.
		if err := (&Result{}).writeFile(o.JSON); err != nil {
			return nil, err
		}
	}
	d := &demo{options: o, rtotest: rtotest, out: out}
	result, err := d.all(ctx, plan)
	result.show(out, o.Bench, len(plan))
	if o.JSON != "" {
		err = errors.Join(err, result.writeFile(o.JSON))
	}
	return result, err
}

// all runs the disasters one after the other, whatever becomes of each.
func (d *demo) all(ctx context.Context, plan []Disaster) (*Result, error) {
	result := &Result{}
	var first error
	failed := 0
	for i, disaster := range plan {
		if len(plan) > 1 {
			fmt.Fprintf(d.out, "run %d of %d: %s\n", i+1, len(plan), disaster)
		}
		run, err := d.one(ctx, disaster)
		if ctx.Err() != nil {
			return result, context.Cause(ctx)
		}
		if err == nil {
			err = run.Check()
		}
		if run.measured {
			result.Runs = append(result.Runs, run)
		}
		if err == nil {
			continue
		}
		failed++
		if first == nil {
			first = err
		}
		if len(plan) > 1 {
			fmt.Fprintf(d.out, "run %d: %v\n", i+1, err)
		}
	}
	switch {
	case first == nil:
		return result, nil
	case len(plan) == 1:
		return result, fmt.Errorf("%s: %w", plan[0], first)
	}
	return result, fmt.Errorf("%d of %d runs failed, the first: %w", failed, len(plan), first)
}

// show writes the tables.
func (r *Result) show(out io.Writer, bench bool, planned int) {
	if len(r.Runs) == 0 {
		return
	}
	fmt.Fprintln(out)
	r.writeTable(out)
	if bench {
		fmt.Fprintln(out)
		writeBench(out, r.Runs, planned)
	}
}

// The members. The sites' names are also their members'.
const (
	primary draas.MemberID = "primary"
	dr      draas.MemberID = "dr"
	witness draas.MemberID = "witness"
)

// service is the one that is demonstrated.
const service draas.ServiceID = "web"

func members() []draas.MemberID { return []draas.MemberID{primary, dr, witness} }

func sites() []draas.MemberID { return []draas.MemberID{primary, dr} }
