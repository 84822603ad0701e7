package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/measure"
)

// options are the command line.
type options struct {
	config    measure.Config
	write     measure.WriteConfig
	faultFile string
	maxRTO    time.Duration
	maxRPO    *time.Duration
	json      bool
	csv, html string
	series    seriesOptions
	daemon    daemonOptions
	args      []string // as given
}

// seriesOptions say how a disaster is made and made good again.
type seriesOptions struct {
	runs            int // 0: one, made by somebody else
	inject, restore string
	timeout         time.Duration // of inject and of restore
}

// daemonOptions say which daemons to ask.
type daemonOptions struct {
	file, socket string
	api          []string
	service      string
	tls          config.TLS
}

const usage = `rtotest [flags] URL

Asks URL on a fixed schedule, as users would, and reports the downtime that
they saw. Ends after --duration or at Ctrl-C. SIGUSR1 marks the fault.

With -c or --api it asks draasd what it did meanwhile, and says what the
downtime was spent on. With --runs it makes the disaster itself, again and
again. With --write-url it counts acknowledged writes that are lost.

Exit code: 0 measured (with --max-rto and --max-rpo: met), 1 exceeded, never
recovered, two sites active or a succeeded site answering, 2 usage, or a
report could not be written, 3 void: nothing is proved, what was lost is not
known; also without limits when there are fewer runs than were wanted.

`

// errHelp says that help was asked for and given.
var errHelp = errors.New("help")

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{args: args}
	f := flag.NewFlagSet("rtotest", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	o.bindClients(f)
	o.bindDaemon(f)
	o.bindRuns(f)
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

func (o *options) bindClients(f *flag.FlagSet) {
	c := &o.config
	f.Float64Var(&c.Rate, "rate", 100, "requests per second of each client and site")
	f.DurationVar(&c.Timeout, "timeout", time.Second, "time for one request, its lookup included")
	f.DurationVar(&c.Duration, "duration", 0, "how long to ask (0: until interrupted); with --runs how long to wait for the users to be served, before a disaster and after it (0: 2m)")
	f.DurationVar(&c.Settle, "settle", time.Second, "time without failure after which service is back")
	f.StringVar(&o.faultFile, "fault-file", "", "the fault is when the file `PATH` was modified, once it appears")
	f.IntVar(&c.Users, "users", 1, "users of each kind of client, who take turns, each with a cache and a connection of its own")
	f.Func("resolver", "DNS server `HOST:PORT` to ask in place of the system's (repeatable)", func(s string) error {
		c.Resolvers = append(c.Resolvers, s)
		return nil
	})
	f.Func("client", "`KIND` of client: fresh, ttl, keepalive, browser, jvm, pinned, or all (comma list or repeatable; the first is judged; default fresh)", func(s string) error {
		for k := range strings.SplitSeq(s, ",") {
			if k != "all" {
				c.Clients = append(c.Clients, measure.Kind(k))
				continue
			}
			for _, k := range measure.Kinds() { // those that are not there yet
				if !slices.Contains(c.Clients, k) {
					c.Clients = append(c.Clients, k)
				}
			}
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
	f.StringVar(&o.write.URL, "write-url", "", "send numbered writes to `URL` as well, and count those acknowledged and lost")
	f.StringVar(&o.write.ReadURL, "read-url", "", "`URL` to read the writes back from; default --write-url")
	f.Float64Var(&o.write.Rate, "write-rate", 20, "writes per second, one after the other")
}

func (o *options) bindDaemon(f *flag.FlagSet) {
	d := &o.daemon
	f.StringVar(&d.file, "c", "", "ask draasd by the failover.toml `FILE`: every member that has an api address in it, with the file's certificates")
	f.StringVar(&d.socket, "socket", "", "ask the draasd at this control socket `PATH`")
	f.Func("api", "ask draasd at `ADDR`: MEMBER=HOST:PORT; with -c also a member's name or its address in the file (comma list or repeatable)", func(s string) error {
		d.api = append(d.api, strings.Split(s, ",")...)
		return nil
	})
	f.StringVar(&d.tls.CA, "tls-ca", "", "`FILE` of the cluster's CA, for --api without -c")
	f.StringVar(&d.tls.Cert, "tls-cert", "", "`FILE` of a certificate of the cluster's CA, for --api without -c")
	f.StringVar(&d.tls.Key, "tls-key", "", "`FILE` of its key")
	f.StringVar(&d.service, "service", "", "`NAME` of the service at the URL; needed when draasd has several")
}

func (o *options) bindRuns(f *flag.FlagSet) {
	s := &o.series
	f.IntVar(&s.runs, "runs", 0, "make the disaster by --inject `N` times and say how the downtime spreads")
	f.StringVar(&s.inject, "inject", "", "`COMMAND` (sh -c) that makes the disaster; DRAAS_RUN is the run's number")
	f.StringVar(&s.restore, "restore", "", "`COMMAND` (sh -c) that makes it good again, run after every --inject, also after Ctrl-C")
	f.DurationVar(&s.timeout, "inject-timeout", time.Minute, "longest that --inject or --restore may take; then it is killed")
	f.DurationVar(&o.maxRTO, "max-rto", 0, "longest downtime allowed; sets the exit code")
	f.Func("max-rpo", "longest `DURATION` of lost writes allowed, 0 for none; sets the exit code", func(s string) error {
		d, err := time.ParseDuration(s)
		if err == nil && d < 0 {
			err = errors.New("less than nothing")
		}
		o.maxRPO = &d
		return err
	})
	f.BoolVar(&o.json, "json", false, "write the report as one JSON object")
	f.StringVar(&o.csv, "csv", "", "write a line for every request to `FILE`, and with --runs a line for every run to FILE with -runs in its name")
	f.StringVar(&o.html, "html", "", "write the report as a page, drawn, to `FILE`")
}

// check refuses what flags alone cannot: measure checks the rest.
func (o *options) check(f *flag.FlagSet) error {
	if f.NArg() != 1 {
		return fmt.Errorf("want one URL after the flags, have %d arguments", f.NArg())
	}
	o.config.URL = f.Arg(0)
	if len(o.config.Clients) == 0 {
		o.config.Clients = []measure.Kind{measure.Fresh}
	}
	if o.config.Rate <= 0 || o.config.Timeout <= 0 || o.config.Settle <= 0 || o.config.Users <= 0 {
		return errors.New("--rate, --timeout, --settle and --users must be more than zero")
	}
	if o.maxRTO < 0 {
		return errors.New("--max-rto must be more than zero")
	}
	if o.faultFile != "" {
		if _, err := os.Stat(o.faultFile); err == nil {
			return fmt.Errorf("--fault-file %s exists already: it must appear at the fault", o.faultFile)
		}
	}
	set := make(map[string]bool)
	f.Visit(func(g *flag.Flag) { set[g.Name] = true })
	if err := o.checkRuns(set); err != nil {
		return err
	}
	if err := o.checkWrites(set); err != nil {
		return err
	}
	return o.checkDaemon(set)
}

func (o *options) checkWrites(set map[string]bool) error {
	if o.write.URL != "" {
		o.config.Write = &o.write
		return nil
	}
	for _, name := range []string{"read-url", "write-rate", "max-rpo"} {
		if set[name] {
			return fmt.Errorf("--%s means nothing without --write-url", name)
		}
	}
	return nil
}

func (o *options) checkRuns(set map[string]bool) error {
	s := o.series
	switch {
	case !set["runs"]:
		for _, name := range []string{"inject", "restore", "inject-timeout"} {
			if set[name] {
				return fmt.Errorf("--%s means nothing without --runs N", name)
			}
		}
	case s.runs < 1 || s.runs > 100_000:
		return fmt.Errorf("--runs %d is not within 1 to 100000", s.runs)
	case s.inject == "":
		return errors.New("--runs needs --inject COMMAND, which makes the disaster")
	case s.runs > 1 && s.restore == "":
		return errors.New("--runs more than 1 needs --restore COMMAND, which makes the disaster good again")
	case s.timeout <= 0:
		return errors.New("--inject-timeout must be more than zero")
	case set["fault-file"]:
		return errors.New("--fault-file means nothing with --runs: the fault is when --inject begins")
	case o.config.Duration == 0:
		o.config.Duration = 2 * time.Minute
	}
	return nil
}

func (o *options) checkDaemon(set map[string]bool) error {
	d := &o.daemon
	given := d.tls.CA != "" || d.tls.Cert != "" || d.tls.Key != ""
	switch {
	case d.socket != "" && (len(d.api) > 0 || d.file != ""):
		return errors.New("--socket names one daemon, -c and --api name several: give one")
	case given && (len(d.api) == 0 || d.file != ""):
		return errors.New("--tls-ca, --tls-cert and --tls-key go with --api, in place of -c")
	case given && (d.tls.CA == "" || d.tls.Cert == "" || d.tls.Key == ""):
		return errors.New("--tls-ca, --tls-cert and --tls-key: give all three")
	case len(d.api) > 0 && d.file == "" && !given:
		return errors.New("--api needs certificates of the cluster: -c failover.toml, or --tls-ca, --tls-cert and --tls-key")
	case set["service"] && len(d.api) == 0 && d.file == "" && d.socket == "":
		return errors.New("--service means nothing without -c, --api or --socket")
	}
	return nil
}

// dial makes the clients of the daemons, or nil when none is to be asked.
func (d *daemonOptions) dial() ([]*member, error) {
	if d.socket != "" {
		return []*member{{address: d.socket, asker: api.Unix(d.socket)}}, nil
	}
	if d.file == "" && len(d.api) == 0 {
		return nil, nil
	}
	conf := &config.Config{TLS: d.tls}
	if d.file != "" {
		var err error
		if conf, err = connect.Load(d.file); err != nil {
			return nil, err
		}
	}
	asked := d.api
	if len(asked) == 0 {
		for _, m := range conf.Members {
			if m.API != "" {
				asked = append(asked, string(m.ID))
			}
		}
		if len(asked) == 0 { // then there is the one on this machine
			return []*member{{address: conf.Control, asker: api.Unix(conf.Control)}}, nil
		}
	}
	var members []*member
	for _, text := range asked {
		name, address, err := d.find(conf, text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(members, func(m *member) bool { return m.name == name }) {
			return nil, fmt.Errorf("--api names %s twice", name)
		}
		t, err := connect.ClientTLS(conf.TLS, name)
		if err != nil {
			return nil, err
		}
		if _, err := tls.LoadX509KeyPair(conf.TLS.Cert, conf.TLS.Key); err != nil {
			return nil, fmt.Errorf("load own certificate: %w", err)
		}
		members = append(members, &member{name: name, address: address, asker: api.TLS(address, t)})
	}
	return members, nil
}

// find reads one --api.
func (d *daemonOptions) find(conf *config.Config, text string) (draas.MemberID, string, error) {
	if d.file != "" {
		return connect.Member(conf, text)
	}
	name, address, named := strings.Cut(text, "=")
	if !named || name == "" || address == "" {
		return "", "", fmt.Errorf("--api %s: without -c write MEMBER=HOST:PORT; the member's certificate carries its name", text)
	}
	return draas.MemberID(name), address, nil
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
