package matrix

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab"
)

// expectation is what has to come of a disaster.
type expectation string

const (
	moves     expectation = "moves"     // the service moves to where the cell says, and users follow
	stays     expectation = "stays"     // it must not move, and users are served again
	unnoticed expectation = "unnoticed" // it must not move, and no request may fail
	returns   expectation = "returns"   // users are served again, wherever
)

// The names of the arithmetic (draasd rto).
const (
	siteLost     = "site lost"
	serviceDead  = "service dead"
	targetLost   = "target lost"
	frontendLost = "frontend lost"
)

// cell is a disaster.
type cell struct {
	Name     string
	Headline bool // one of the six that are made often
	Fence    bool // only the fence keeps two sites from serving: made in the short run, too
	// InShort names the column of which it is made in the short run, too.
	InShort string
	Expect  expectation
	To      string // where it has to move; empty: dr
	Budget  string // the name of the arithmetic that bounds it; empty: none does
	// Watch is how long to look after the strike, at the least.
	Watch time.Duration
	// Needs reports whether the disaster can happen to a column; nil: always.
	Needs func(column) bool
	// Before makes ready what the disaster strikes; nil: nothing.
	Before func(context.Context, *world) error
	// Moment waits for that at which it strikes; nil: any will do.
	Moment func(context.Context, *world) error
	// Strike lets it happen, and returns when all of it has.
	Strike func(context.Context, *world) error
	// Heal undoes it; nil: there is nothing to undo. After undoes what Before did,
	// also when nothing could be struck.
	Heal, After func(*world) error
	// First says that it is undone before the rows are read back: it has cost
	// none, and stands between them and who reads.
	First bool
	// Warned says that the member that copies the cloud has to warn of it; Loss,
	// that what it has cost of the copy is compared with what the history tells.
	Warned, Loss bool
}

// watch is how long most disasters are watched that must not move anything:
// longer than a lease and a detection.
const watch = 4 * time.Second

func hasFrontends(c column) bool { return len(c.frontends()) > 0 }
func isDraas(c column) bool      { return c.Peer == nil }

// cells lists the disasters. down is how long the seed's network is down.
func cells(down time.Duration) []cell {
	return slices.Concat(headlines(), others(down))
}

func headlines() []cell {
	return []cell{{
		Name: "service killed", Headline: true, Expect: moves, Budget: serviceDead,
		Strike: func(_ context.Context, w *world) error { w.kill(counterOf(primary)); return nil },
		Heal:   func(w *world) error { w.revive(counterOf(primary)); return nil },
	}, {
		Name: "service hangs", Headline: true, Expect: moves, Budget: serviceDead,
		Strike: func(_ context.Context, w *world) error { w.procs[counterOf(primary)].Stop(); return nil },
		Heal:   func(w *world) error { w.procs[counterOf(primary)].Resume(); return nil },
	}, {
		Name: "service host off", Headline: true, Expect: moves, Budget: serviceDead,
		Strike: func(_ context.Context, w *world) error { return w.powerOff(serviceHost(primary)) },
		Heal:   func(w *world) error { return w.powerOn(serviceHost(primary)) },
	}, {
		Name: "frontend host off", Headline: true, Expect: stays, Watch: watch, Budget: frontendLost, Needs: hasFrontends, First: true,
		Before: func(ctx context.Context, w *world) error { return w.findFront(ctx) },
		Strike: func(_ context.Context, w *world) error { return w.powerOff(w.front) },
		Heal:   func(w *world) error { return w.powerOn(w.front) },
	}, {
		Name: "primary site off", Headline: true, Expect: moves, Budget: siteLost,
		Strike: func(_ context.Context, w *world) error { return w.powerOff(w.site(primary)...) },
		Heal:   func(w *world) error { return w.powerOn(w.site(primary)...) },
	}, {
		Name: "planned switchover", Headline: true, Expect: moves, Budget: serviceDead, Needs: isDraas,
		Strike: func(ctx context.Context, w *world) error {
			return w.ask(ctx, dr, failover.Request{Move: failover.MoveSwitchover})
		},
	}}
}

func counterOf(site string) string { return site + "-counter" }
func daemonOf(m string) string     { return m + "-daemon" }

// kill ends processes and keeps them from starting, until revive.
func (w *world) kill(names ...string) {
	each(w, names, func(p *lab.Process) { p.Hold(syscall.SIGKILL, time.Minute) })
}

func (w *world) revive(names ...string) {
	each(w, names, func(p *lab.Process) { p.Release() })
}

// each does something to several processes at once.
func each(w *world, names []string, do func(*lab.Process)) {
	done := make(chan struct{}, len(names))
	for _, n := range names {
		go func() { do(w.procs[n]); done <- struct{}{} }()
	}
	for range names {
		<-done
	}
}

// on are the processes of a machine.
func (w *world) on(machine string) []string {
	var all []string
	for _, n := range w.names {
		if w.where[n] == machine {
			all = append(all, n)
		}
	}
	return all
}

// powerOff has packets of the machines dropped, all at once, then has nothing
// run in them, and takes what a machine forgets without power.
func (w *world) powerOff(machines ...string) error {
	errs := []error{w.net.reach(false, machines...)}
	var all []string
	for _, m := range machines {
		all = append(all, w.on(m)...)
	}
	w.kill(all...)
	for _, m := range machines {
		if c := w.clouds[m]; c != nil {
			c.Kill()
		}
		script := "nft flush ruleset"
		if w.Pair && (m == edge1 || m == edge2) {
			script += fmt.Sprintf("\nip addr del %s/24 dev eth0 2>/dev/null || true", address(edge, hostVIP))
		}
		_, err := w.net.machines[m].Run("/", "sh", "-euc", script)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// powerOn boots the machines. As the units are ordered the fences that the
// kernel holds are closed before the network is up (draas-fence-boot.service).
func (w *world) powerOn(machines ...string) error {
	var errs []error
	for _, m := range machines {
		if _, guarded := w.procs[m+"-guard"]; guarded {
			_, err := w.net.machines[m].Run("/", w.o.Draasd, "guard", "--close", "-c", w.file(m))
			errs = append(errs, err)
		}
	}
	errs = append(errs, w.net.reach(true, machines...))
	for _, m := range machines {
		errs = append(errs, w.boot(m))
		w.revive(w.on(m)...)
	}
	return errors.Join(errs...)
}

// site are a site's machines: the member's, the service's, its cloud's, and
// those of its own frontends.
func (w *world) site(name string) []string {
	all := append([]string{name, serviceHost(name)}, w.cloudOf(name)...)
	for _, f := range w.frontends() {
		if f.place == name {
			all = append(all, f.name)
		}
	}
	return all
}

// others are the disasters that are made less often.
func others(down time.Duration) []cell {
	return slices.Concat(ofService(), ofProcesses(), ofNetwork(), ofSeveral(), ofSeed(down), ofSync())
}

func ofService() []cell {
	ill := func(s syscall.Signal) func(context.Context, *world) error {
		return func(_ context.Context, w *world) error { return w.signal(counterOf(primary), s) }
	}
	again := func(w *world) error {
		w.kill(counterOf(primary))
		w.revive(counterOf(primary))
		return nil
	}
	return []cell{
		{Name: "service answers errors", Expect: moves, Budget: serviceDead, Strike: ill(syscall.SIGUSR1), Heal: again},
		{Name: "service slow", Expect: moves, Budget: serviceDead, Strike: ill(syscall.SIGUSR2), Heal: again},
		{
			Name: "service flapping", Expect: returns, Budget: "", Watch: watch,
			Strike: func(ctx context.Context, w *world) error {
				p := w.procs[counterOf(primary)]
				for range flaps {
					p.Stop()
					pause(ctx, flapHangs)
					p.Resume()
					pause(ctx, flapWell)
				}
				return nil
			},
		},
	}
}

// A flapping service hangs and answers by turns.
const (
	flaps     = 3
	flapHangs = 1200 * time.Millisecond
	flapWell  = 600 * time.Millisecond
)

func (w *world) signal(name string, s syscall.Signal) error {
	pid, _, _ := w.procs[name].Present()
	if pid == 0 {
		return fmt.Errorf("%s does not run", name)
	}
	return syscall.Kill(pid, s)
}

func ofProcesses() []cell {
	return []cell{{
		Name: "daemon killed", Expect: moves, Budget: siteLost, Needs: isDraas,
		Strike: func(_ context.Context, w *world) error { w.kill(daemonOf(primary)); return nil },
		Heal:   func(w *world) error { w.revive(daemonOf(primary)); return nil },
	}, {
		Name: "frontend killed", Expect: stays, Watch: watch, Budget: frontendLost, Needs: hasFrontends, First: true,
		Before: func(ctx context.Context, w *world) error { return w.findFront(ctx) },
		Strike: func(_ context.Context, w *world) error { w.kill(w.front + "-frontend"); return nil },
		Heal:   func(w *world) error { w.revive(w.front + "-frontend"); return nil },
	}, {
		Name: "frontends cut from each other", Expect: unnoticed, Watch: watch, Needs: func(c column) bool { return c.Pair },
		Strike: func(_ context.Context, w *world) error { return w.net.isolate(true, edge1, edge2) },
		Heal:   func(w *world) error { return w.net.isolate(false, edge1, edge2) },
	}, {
		Name: "witness off", Expect: unnoticed, Watch: watch, Needs: isDraas,
		Strike: func(_ context.Context, w *world) error { return w.powerOff(witness) },
		Heal:   func(w *world) error { return w.powerOn(witness) },
	}}
}

// severed is a disaster of cuts alone.
func severed(c cell, these ...cut) cell {
	c.Needs = isDraas
	c.Strike = func(_ context.Context, w *world) error { return w.net.sever(these...) }
	c.Heal = func(w *world) error { return w.net.join(these...) }
	return c
}

func ofNetwork() []cell {
	return []cell{
		severed(cell{Name: "link between the sites cut", Expect: unnoticed, Watch: watch}, cut{From: primary, To: dr}, cut{From: dr, To: primary}),
		severed(cell{Name: "primary cut from everyone", Fence: true, Expect: moves, Budget: siteLost}, cut{From: primary}, cut{To: primary}),
		severed(cell{Name: "nothing leaves the primary", Expect: moves, Budget: siteLost}, cut{From: primary}),
		severed(cell{Name: "DNS server down", Expect: stays, Watch: watch}, cut{To: primary, Port: dnsPort}),
	}
}

// meanwhile is when a second disaster follows the first.
const meanwhile = 30 * time.Millisecond

func ofSeveral() []cell {
	return []cell{{
		// The one that could hand over dies with its task undone.
		Name: "service killed, then its daemon", Expect: moves, Budget: siteLost, Needs: isDraas,
		Strike: func(ctx context.Context, w *world) error {
			w.kill(counterOf(primary))
			pause(ctx, meanwhile)
			w.kill(daemonOf(primary))
			return nil
		},
		Heal: func(w *world) error { w.revive(counterOf(primary), daemonOf(primary)); return nil },
	}, {
		// The site that is to take over is lost as the other hands over.
		Name: "target lost during a switchover", Budget: targetLost, Expect: returns, Needs: isDraas,
		Strike: func(ctx context.Context, w *world) error {
			if err := w.ask(ctx, dr, failover.Request{Move: failover.MoveSwitchover}); err != nil {
				return err
			}
			return w.powerOff(w.site(dr)...)
		},
		Heal: func(w *world) error { return w.powerOn(w.site(dr)...) },
	}, {
		Name: "failback under load", Expect: moves, To: primary, Budget: serviceDead, Needs: isDraas,
		Before: func(ctx context.Context, w *world) error {
			return errors.Join(w.ask(ctx, dr, failover.Request{Move: failover.MoveSwitchover}), w.well(ctx, dr))
		},
		Strike: func(ctx context.Context, w *world) error {
			return w.ask(ctx, "", failover.Request{Move: failover.MoveFailback})
		},
	}}
}

// ofSeed are the disasters of the project that this one grew from: its network
// down for two minutes, and its cloud's power off.
func ofSeed(down time.Duration) []cell {
	all := []cut{{From: primary}, {To: primary}}
	return []cell{{
		Name: fmt.Sprintf("network down for %v, then back", down), Expect: moves, Budget: siteLost, Needs: isDraas, Watch: watch,
		Strike: func(ctx context.Context, w *world) error {
			if err := w.net.sever(all...); err != nil {
				return err
			}
			pause(ctx, down)
			return w.net.join(all...)
		},
	}, {
		Name: "cloud's power off", Expect: moves, Budget: siteLost,
		Strike: func(_ context.Context, w *world) error { return w.powerOff(w.rack()...) },
		Heal:   func(w *world) error { return w.powerOn(w.rack()...) },
	}}
}

// rack are the machines at the primary that are the cloud's of the project that
// this one grew from: all but frontends.
func (w *world) rack() []string {
	return append([]string{primary, serviceHost(primary)}, w.cloudOf(primary)...)
}
