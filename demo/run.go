package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/measure"
)

// demo runs disasters one after the other, each on a cluster of its own.
type demo struct {
	options Options
	rtotest string
	out     io.Writer
}

// logLines is how much of every log is shown when a run fails.
const logLines = 12

// one sets a stage, lets the disaster happen, and says what it cost. When it
// fails the last lines of every log are shown.
func (d *demo) one(ctx context.Context, disaster Disaster) (run RunResult, err error) {
	out := d.out
	if d.options.Bench {
		// A line per run is enough, unless it fails.
		var story bytes.Buffer
		out = &story
		defer func() {
			if err != nil || run.Check() != nil {
				_, _ = story.WriteTo(d.out)
			} else {
				fmt.Fprintf(d.out, "  RTO %s ms\n", ms(*run.RTO))
			}
		}()
	}
	line := newTimeline(out, d.options.Colour, time.Now())
	s, err := setStage(ctx, d.options, line)
	if err != nil {
		return run, err
	}
	// A panic too ends every process and removes the directory.
	defer func() {
		err = errors.Join(err, s.close())
	}()
	run = RunResult{Scheme: d.options.Scheme, Disaster: disaster}
	err = d.play(ctx, s, &run)
	s.hush() // the timeline has the same writer as what follows
	line.flushAll()
	if err == nil && run.Check() == nil {
		run.remarks(out)
		return run, nil
	}
	if ctx.Err() == nil {
		s.crew.showLogs(out, logLines)
	}
	return run, err
}

// play is the run on its stage.
func (d *demo) play(ctx context.Context, s *stage, run *RunResult) error {
	s.line.add(time.Now(), plain, "starting: 127.%d.1.0 is the primary site, 127.%d.2.0 the DR site, 127.%d.3.0 the witness",
		s.net.net, s.net.net, s.net.net)
	switch d.options.Scheme {
	case schemeFrontend:
		s.line.add(time.Now(), plain, "users reach the frontend at %s, whichever site is active", s.net.edgeAt())
	case schemeHybrid:
		s.line.add(time.Now(), plain, "a frontend stands at each site, %s at %s and %s at %s; the name leads to those of one", edge, primary, edgeDR, dr)
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.activate(ctx); err != nil {
		return err
	}
	m, err := d.measureUsers(s)
	if err != nil {
		return err
	}
	if err := wait(ctx, d.options.Undisturbed, s.crew.fault); err != nil {
		return err
	}
	stop := watchStalls()
	err = d.strike(ctx, s, m, run)
	run.stalls = stop()
	if ctx.Err() != nil {
		return err
	}
	// What the users saw is worth telling whatever went wrong.
	if end := stopReport(ctx, m.process); end != nil {
		return errors.Join(err, end)
	}
	s.users.end()
	if d.options.fronted() {
		err = errors.Join(err, s.countEdges(ctx, run))
	}
	report, unread := m.read()
	if unread != nil {
		return errors.Join(err, unread)
	}
	run.take(report)
	return err
}

// measurement is rtotest at work.
type measurement struct {
	process *child
	stdout  *bytes.Buffer // read when the process has ended
	mark    string        // appears at the fault
}

// measureUsers starts rtotest: users who ask both sites' DNS and follow it,
// and probes of each gate that go around the links, so that two active sites
// would be seen though no user reaches one of them.
func (d *demo) measureUsers(s *stage) (*measurement, error) {
	m := &measurement{stdout: &bytes.Buffer{}, mark: filepath.Join(s.dir, "fault")}
	argv := []string{d.rtotest, "--json", "--timeout", d.options.limit().String(), "--client", "fresh,ttl,keepalive", "--fault-file", m.mark}
	for _, site := range sites() {
		if d.options.Scheme != schemeFrontend {
			argv = append(argv, "--resolver", s.net.nsAt(site))
		}
		argv = append(argv, "--site", fmt.Sprintf("%s=http://%s/", site, s.net.gateOf(site)))
	}
	var err error
	s.line.add(time.Now(), plain, "rtotest asks %s 100 times a second for each kind of client", s.net.url(d.options.Scheme))
	m.process, err = s.crew.start(process{name: "rtotest", argv: append(argv, s.net.url(d.options.Scheme)), stdout: m.stdout,
		stderr: &lineWriter{line: func(text string) { s.users.hear(text, time.Now()) }}})
	return m, err
}

// fault marks the instant of the disaster, for rtotest and for the timeline.
func (m *measurement) fault(s *stage, at time.Time, format string, args ...any) error {
	s.line.mark(at)
	s.line.add(at, loud, format, args...)
	made := m.mark + ".new"
	if err := os.WriteFile(made, nil, 0o600); err != nil {
		return fmt.Errorf("mark fault: %w", err)
	}
	if err := os.Chtimes(made, at, at); err != nil {
		return fmt.Errorf("mark fault: %w", err)
	}
	if err := os.Rename(made, m.mark); err != nil {
		return fmt.Errorf("mark fault: %w", err)
	}
	return nil
}

func (m *measurement) read() (*measure.Report, error) {
	var r measure.Report
	if err := json.Unmarshal(m.stdout.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("read report of rtotest: %w", err)
	}
	return &r, nil
}

// moveLimit bounds the wait for a move: several times the slowest profile's
// worst case.
func moveLimit(profile string) time.Duration {
	switch profile {
	case "cautious":
		return 90 * time.Second
	case "balanced":
		return 45 * time.Second
	}
	return 20 * time.Second
}

// minCut is how long a cut must last for the members to see it.
func minCut(profile string) time.Duration {
	switch profile {
	case "cautious":
		return 12 * time.Second
	case "balanced":
		return 5 * time.Second
	}
	return 2 * time.Second
}

// requestLimit is how long rtotest lets a request take.
const requestLimit = time.Second

// strike lets the disaster happen and waits until it is over.
func (d *demo) strike(ctx context.Context, s *stage, m *measurement, run *RunResult) error {
	before, err := s.watch.await(ctx, "the service is active", activateLimit, active, s.crew.fault)
	if err != nil {
		return err
	}
	if run.Disaster == DisasterCut {
		return d.cut(ctx, s, m, run, find(before).Epoch)
	}
	if run.Disaster == DisasterEntry {
		return d.entry(ctx, s, m, run, find(before).Epoch)
	}
	frozen, err := inject(ctx, s, m, run.Disaster)
	if err != nil {
		return err
	}
	after, err := s.watch.await(ctx, "the service has moved", moveLimit(d.options.Profile), moved, s.crew.fault)
	if err != nil {
		return fmt.Errorf("recovery missed: %w", err)
	}
	sv := find(after)
	run.Epoch, run.FailedOver = sv.Epoch, true
	run.move = sv.Last
	if err := s.settle(ctx); err != nil {
		return err
	}
	if frozen == nil {
		return nil
	}
	if err := thaw(ctx, s, frozen, sv.Epoch); err != nil {
		return err
	}
	return s.settle(ctx)
}

// settleLimit bounds the wait for users to be served lastingly: what they saw
// until then is told all the same.
const settleLimit = 20 * time.Second

// settle watches the users after the cluster has come to rest: first for the
// time that a request may take, then until they have been served for a while.
func (s *stage) settle(ctx context.Context) error {
	if err := wait(ctx, requestLimit, s.crew.fault); err != nil {
		return err
	}
	for deadline := time.Now().Add(settleLimit); !s.users.served(time.Now()); {
		if time.Now().After(deadline) {
			return nil
		}
		if err := wait(ctx, 50*time.Millisecond, s.crew.fault); err != nil {
			return err
		}
	}
	return nil
}

// entry kills the frontend by which users enter, and waits until their name
// leads to the other.
func (d *demo) entry(ctx context.Context, s *stage, m *measurement, run *RunResult, epoch draas.Epoch) error {
	if _, err := inject(ctx, s, m, run.Disaster); err != nil {
		return err
	}
	after, err := s.watch.await(ctx, "users enter elsewhere", moveLimit(d.options.Profile), enteredElsewhere, s.crew.fault)
	if err != nil {
		return fmt.Errorf("recovery missed: %w", err)
	}
	sv := find(after)
	run.Epoch, run.FailedOver = sv.Epoch, sv.Epoch != epoch || sv.Active != primary.Site()
	return s.settle(ctx)
}

// cut severs the link between the sites for a while: nothing may move.
func (d *demo) cut(ctx context.Context, s *stage, m *measurement, run *RunResult, epoch draas.Epoch) error {
	if err := m.fault(s, time.Now(), "CUT: the link between %s and %s drops everything for %v; the witness sees both",
		primary, dr, d.options.Cut); err != nil {
		return err
	}
	s.links.between(primary, dr, drop)
	err := wait(ctx, d.options.Cut, s.crew.fault)
	s.links.between(primary, dr, pass)
	s.line.add(time.Now(), loud, "the link passes again")
	if err != nil {
		return err
	}
	if _, err := s.watch.await(ctx, "the sites see each other again", activateLimit, reunited, s.crew.fault); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	after, err := s.watch.await(ctx, "the service is known", activateLimit, func(s *api.Status) string {
		if find(s).ID == "" {
			return "no status"
		}
		return ""
	}, s.crew.fault)
	if err != nil {
		return err
	}
	sv := find(after)
	run.Epoch, run.FailedOver = sv.Epoch, sv.Epoch != epoch || sv.Active != primary.Site()
	run.CutObserved = measure.Millis(s.watch.observedCut())
	return nil
}

// wait waits, unless a process ends that should not.
func wait(ctx context.Context, d time.Duration, fault func() error) error {
	end := time.NewTimer(d)
	defer end.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-end.C:
			return nil
		case <-look.C:
			if err := fault(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
