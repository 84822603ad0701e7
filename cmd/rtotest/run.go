package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

// Exit codes.
const (
	exitMet      = 0 // measured; with --max-rto, it was met
	exitExceeded = 1 // --max-rto was exceeded, or two sites were active
	exitUsage    = 2 // nothing was measured, or it could not be written
	exitVoid     = 3 // with --max-rto: the run proves nothing
)

// options are the command line.
type options struct {
	config    measure.Config
	faultFile string
	maxRTO    time.Duration
	json      bool
}

// errHelp says that help was asked for and given.
var errHelp = errors.New("help")

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

	report, err := o.measure(ctx, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "rtotest: %v\n", err)
		return exitUsage
	}
	if err := o.write(report, stdout); err != nil {
		fmt.Fprintf(stderr, "rtotest: %v\n", err)
		return exitUsage
	}
	return o.judge(report, stderr)
}

// measure runs the measurement, with the fault's marks and the live display.
func (o *options) measure(ctx context.Context, stderr io.Writer) (*measure.Report, error) {
	var marking sync.WaitGroup
	defer marking.Wait()

	shown := newDisplay(stderr)
	fault := make(chan time.Time, 1)
	mark := func(at time.Time) {
		select {
		case fault <- at:
			shown.line(at.UTC().Format(measure.Clock) + " fault marked")
		default: // only the first counts
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	watching, stop := context.WithCancel(context.Background())
	defer stop()
	marking.Go(func() { watchSignal(watching, signals, mark) })
	if o.faultFile != "" {
		marking.Go(func() { watchFile(watching, o.faultFile, mark) })
	}
	o.config.Fault = fault
	o.config.Observe = shown.event
	report, err := measure.Run(ctx, o.config)
	shown.end()
	return report, err
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

// write writes the report: one JSON object, or text.
func (o *options) write(r *measure.Report, w io.Writer) error {
	if !o.json {
		return r.WriteText(w)
	}
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// judge turns the report into the exit code.
func (o *options) judge(r *measure.Report, stderr io.Writer) int {
	if o.maxRTO == 0 {
		return exitMet
	}
	err := r.Check(o.maxRTO)
	if err == nil {
		return exitMet
	}
	fmt.Fprintf(stderr, "rtotest: %v\n", err)
	if errors.Is(err, measure.ErrVoid) {
		return exitVoid
	}
	return exitExceeded
}

const usage = `rtotest [flags] URL

Asks URL on a fixed schedule, as users would, and reports the downtime that
they saw. Ends after --duration or at Ctrl-C. SIGUSR1 marks the fault.

Exit code: 0 measured (with --max-rto: met), 1 exceeded, never recovered, two
sites active or a succeeded site answering, 2 usage, 3 void.

`

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	c := &o.config
	f := flag.NewFlagSet("rtotest", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Float64Var(&c.Rate, "rate", 100, "requests per second of each client and site")
	f.DurationVar(&c.Timeout, "timeout", time.Second, "time for one request, its lookup included")
	f.DurationVar(&c.Duration, "duration", 0, "how long to ask (0: until interrupted)")
	f.DurationVar(&c.Settle, "settle", time.Second, "time without failure after which service is back")
	f.DurationVar(&o.maxRTO, "max-rto", 0, "longest downtime allowed; sets the exit code")
	f.BoolVar(&o.json, "json", false, "write the report as one JSON object")
	f.StringVar(&o.faultFile, "fault-file", "", "the fault is when the file `PATH` was modified, once it appears")
	f.Func("resolver", "DNS server `HOST:PORT` to ask in place of the system's (repeatable)", func(s string) error {
		c.Resolvers = append(c.Resolvers, s)
		return nil
	})
	f.Func("client", "`KIND` of client: fresh, ttl, keepalive, pinned (comma list or repeatable; the first is judged; default fresh)", func(s string) error {
		for k := range strings.SplitSeq(s, ",") {
			c.Clients = append(c.Clients, measure.Kind(k))
		}
		return nil
	})
	f.Func("site", "`NAME=URL` of one site, asked directly to see whether it is active (repeatable)", func(s string) error {
		name, at, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want NAME=URL")
		}
		c.Sites = append(c.Sites, measure.SiteURL{Name: draas.SiteID(name), URL: at})
		return nil
	})
	f.Func("expect-site", "`NAME[,NAME..]`: order in which sites should be active, for answers without epochs", func(s string) error {
		for n := range strings.SplitSeq(s, ",") {
			c.ExpectSites = append(c.ExpectSites, draas.SiteID(n))
		}
		return nil
	})
	f.Func("expect-body", "a good answer's body matches `REGEXP`", func(s string) (err error) {
		c.ExpectBody, err = regexp.Compile(s)
		return err
	})
	f.Func("ca", "trust the certificates in `FILE` for https", func(path string) (err error) {
		c.TLS, err = readCA(path)
		return err
	})
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stderr)
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
		return nil, errHelp
	}
	if err != nil {
		return nil, err
	}
	return o, o.check(f)
}

// check refuses what flags alone cannot: measure checks the rest.
func (o *options) check(f *flag.FlagSet) error {
	if f.NArg() != 1 {
		return fmt.Errorf("want one URL after the flags, have %d arguments", f.NArg())
	}
	o.config.URL = f.Arg(0)
	if o.config.Rate <= 0 || o.config.Timeout <= 0 || o.config.Settle <= 0 {
		return errors.New("--rate, --timeout and --settle must be more than zero")
	}
	if o.maxRTO < 0 {
		return errors.New("--max-rto must be more than zero")
	}
	if o.faultFile != "" {
		if _, err := os.Stat(o.faultFile); err == nil {
			return fmt.Errorf("--fault-file %s exists already: it must appear at the fault", o.faultFile)
		}
	}
	return nil
}

// readCA reads a file of PEM certificates.
func readCA(path string) (*tls.Config, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return &tls.Config{RootCAs: roots}, nil
}
