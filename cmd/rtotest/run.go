package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/measure/page"
)

// Exit codes.
const (
	exitMet      = 0 // measured; what was to be met was met
	exitExceeded = 1 // --max-rto or --max-rpo was exceeded, or two sites were active
	exitUsage    = 2 // nothing was measured, or it could not be written
	exitVoid     = 3 // with --max-rto or --max-rpo: the run proves nothing; or a series is not whole
)

// program is one invocation.
type program struct {
	*options
	shown   *display
	sheets  *sheets
	daemons *daemons // nil when none is asked
}

// run is the whole program: it measures until it is done or interrupted,
// writes the report to stdout and changes to stderr, and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, errHelp) {
		return exitMet
	}
	if err != nil {
		fmt.Fprintf(stderr, "rtotest: %v\nrtotest: see rtotest --help\n", err)
		return exitUsage
	}
	// The first signal ends the run and reports; a second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	p := &program{options: o, shown: newDisplay(stderr)}
	found, err := p.measure(ctx)
	if found.report != nil || found.series != nil {
		// What could be measured is told, whatever could not be written.
		err = errors.Join(err, p.write(found, stdout))
	}
	if err != nil {
		fmt.Fprintf(stderr, "rtotest: %v\n", err)
		return exitUsage
	}
	return p.judge(found, stderr)
}

// finding is what a measurement came to: one report, or a series of them.
type finding struct {
	report *measure.Report
	series *measure.Series // nil without --runs
}

// measure opens what is written on the way and measures.
func (p *program) measure(ctx context.Context) (f finding, err error) {
	members, err := p.daemon.dial()
	if err != nil {
		return f, err
	}
	if members != nil {
		p.daemons = &daemons{service: serviceID(p.daemon.service), members: members, line: p.shown.line}
		defer p.daemons.close()
		if err := p.daemons.start(ctx); err != nil {
			return f, err
		}
	}
	if err := p.writable(); err != nil {
		return f, err
	}
	if p.sheets, err = newSheets(p.csv, p.series.runs > 0); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.sheets.close()) }()
	if p.series.runs > 0 {
		f.series, err = p.repeat(ctx)
		return f, err
	}
	f.report, err = p.once(ctx)
	return f, err
}

// once measures one disaster that somebody else makes.
func (p *program) once(ctx context.Context) (*measure.Report, error) {
	var marking sync.WaitGroup
	defer marking.Wait()
	fault := make(chan time.Time, 1)
	mark := func(at time.Time) {
		select {
		case fault <- at:
			p.shown.line(at.UTC().Format(measure.Clock) + " fault marked")
		default: // only the first counts
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	watching, stop := context.WithCancel(context.Background())
	defer stop()
	marking.Go(func() { watchSignal(watching, signals, mark) })
	if p.faultFile != "" {
		marking.Go(func() { watchFile(watching, p.faultFile, mark) })
	}
	c := p.config
	c.Fault = fault
	c.Observe = func(e measure.Event) {
		p.shown.event(e)
		p.sheets.probe(1, e)
	}
	report, err := measure.Run(ctx, c)
	p.shown.end()
	if err != nil {
		return nil, err
	}
	p.join(ctx, report)
	report.Tool = p.tool()
	return report, nil
}

// join asks the daemons what they did in a run.
func (p *program) join(ctx context.Context, r *measure.Report) {
	if p.daemons != nil {
		end := r.Started.Add(time.Duration(r.Duration))
		r.Join(p.daemons.report(context.WithoutCancel(ctx), r.Started, end))
	}
}

// watchSignal marks the fault at a signal, which comes when it is made.
func watchSignal(ctx context.Context, signals <-chan os.Signal, mark func(time.Time)) {
	for {
		select {
		case <-signals:
			mark(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// watchFile marks the fault at the modification time of the file once it
// appears.
func watchFile(ctx context.Context, path string, mark func(time.Time)) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if info, err := os.Stat(path); err == nil {
			mark(info.ModTime())
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tool says what measured. The command is told as it was given, which is all
// that is needed to measure again.
func (p *program) tool() *measure.Tool {
	t := &measure.Tool{Version: "unknown", Command: append([]string{"rtotest"}, p.args...)}
	if info, ok := debug.ReadBuildInfo(); ok {
		t.Version, t.Go = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				t.Version += " " + s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return t
}

// write writes the report: one JSON object or text, and the page.
func (p *program) write(f finding, w io.Writer) error {
	var drawn error
	if p.html != "" {
		drawn = p.writePage(f)
	}
	return errors.Join(p.writeReport(f, w), drawn)
}

func (p *program) writeReport(f finding, w io.Writer) error {
	var whole interface{ WriteText(io.Writer) error } = f.report
	if f.series != nil {
		whole = f.series
	}
	if !p.json {
		return whole.WriteText(w)
	}
	if err := json.NewEncoder(w).Encode(whole); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// writable finds out before all else whether the page can be written.
func (p *program) writable() error {
	if p.html == "" {
		return nil
	}
	f, err := os.OpenFile(p.html, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return f.Close()
}

func (p *program) writePage(f finding) error {
	out, err := os.Create(p.html)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	s := f.series
	if s == nil {
		s = &measure.Series{Runs: []*measure.Report{f.report}, Summary: measure.Sum([]*measure.Report{f.report}), Tool: f.report.Tool, Wanted: 1}
	}
	if err := errors.Join(page.Write(out, s), out.Close()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// judge turns the report into the exit code.
func (p *program) judge(f finding, stderr io.Writer) int {
	var err error
	switch limits := p.maxRTO > 0 || p.maxRPO != nil; {
	case f.series != nil && limits:
		err = f.series.Check(p.maxRTO, p.maxRPO)
	case f.series != nil:
		err = f.series.Whole()
	case limits:
		err = f.report.Judge(p.maxRTO, p.maxRPO)
	}
	if err == nil {
		return exitMet
	}
	fmt.Fprintf(stderr, "rtotest: %v\n", err)
	if errors.Is(err, measure.ErrVoid) {
		return exitVoid
	}
	return exitExceeded
}
