package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/audit"
)

// resolvConf names the resolvers of this machine.
const resolvConf = "/etc/resolv.conf"

// secondLook is the longest that one audit waits to see whether a resolver that
// is behind follows when its TTL is over.
const secondLook = 10 * time.Second

// auditFlags are the command line of draasd dns audit.
type auditFlags struct {
	config, resolvers, parents *string
	skip, json                 *bool
	watch, timeout             *time.Duration
}

func bindDNS(p *program, f *flag.FlagSet) action {
	a := auditFlags{
		config:    configFlag(f),
		resolvers: f.String("resolver", "", "ask these resolvers, `ADDR,...`, or none (default: those of "+resolvConf+")"),
		parents:   f.String("parent", "", "servers of the parent zone, `ADDR,...` (default: found by way of the resolvers)"),
		skip:      f.Bool("no-delegation", false, "leave the parent zone alone: of a zone that only some resolvers know"),
		json:      f.Bool("json", false, "print JSON, a line for each look with --watch"),
		watch:     f.Duration("watch", 0, "look again after each `INTERVAL`, until interrupted"),
		timeout:   f.Duration("timeout", audit.DefaultTimeout, "`TIME` for one query by UDP, and again by TCP"),
	}
	return func(ctx context.Context, args []string) error {
		if args[0] != "audit" {
			return usagef("want: draasd dns audit -c FILE")
		}
		plan, err := a.plan(p)
		if err != nil {
			return err
		}
		auditor, err := audit.New(plan)
		if err != nil {
			return usagef("%v", err)
		}
		if *a.watch > 0 {
			return p.watchDNS(ctx, auditor, *a.watch, *a.json)
		}
		return p.auditDNS(ctx, auditor, *a.json)
	}
}

// plan is what the command line and the file ask to be looked at.
func (a auditFlags) plan(p *program) (audit.Plan, error) {
	if *a.watch < 0 || *a.timeout <= 0 {
		return audit.Plan{}, usagef("want times above 0")
	}
	c, err := p.server.load(configPath(*a.config))
	if err != nil {
		if err = p.refused(err); err != exitCode(exitUsage) {
			err = p.unable(err)
		}
		return audit.Plan{}, err
	}
	plan := audit.Plan{Zones: auditZones(c), SkipDelegation: *a.skip, Timeout: *a.timeout, Now: p.now}
	if len(plan.Zones) == 0 {
		return audit.Plan{}, p.unable(fmt.Errorf("the file has no zone with a service's name"))
	}
	if plan.Parents, err = addressList(*a.parents); err != nil {
		return audit.Plan{}, usagef("--parent: %v", err)
	}
	switch *a.resolvers {
	case "none":
	case "":
		conf, err := mdns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return audit.Plan{}, p.unable(fmt.Errorf("find resolvers, give --resolver: %w", err))
		}
		for _, server := range conf.Servers {
			plan.Resolvers = append(plan.Resolvers, net.JoinHostPort(server, conf.Port))
		}
	default:
		if plan.Resolvers, err = addressList(*a.resolvers); err != nil {
			return audit.Plan{}, usagef("--resolver: %v", err)
		}
	}
	return plan, nil
}

// unable says why nothing could be looked at, which is no finding.
func (p *program) unable(err error) error {
	fmt.Fprintf(p.stderr, "draasd dns audit: %v\n", err)
	return exitCode(exitUsage)
}

// addressList reads addresses with or without a port; 53 is the port of DNS.
func addressList(list string) ([]string, error) {
	var out []string
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
			out = append(out, netip.AddrPortFrom(addr, 53).String())
			continue
		}
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("%q: want an IP address, with a port if it is not 53", text)
		}
		out = append(out, at.String())
	}
	return out, nil
}

// auditZones are the zones of the file that have a service's name. One that is
// kept at several places has all their servers.
func auditZones(c *config.Config) []audit.Zone {
	var out []audit.Zone
	at := make(map[string]int)
	for _, s := range c.Services {
		for _, key := range s.DNS.Zones() {
			z, ok := c.DNS[key]
			if !ok {
				continue
			}
			i, known := at[z.Name]
			if !known {
				i = len(out)
				at[z.Name] = i
				out = append(out, audit.Zone{Name: z.Name, NegativeTTL: -1})
			}
			addName(&out[i], c, s)
			addServers(&out[i], c, z)
		}
	}
	return out
}

func addName(z *audit.Zone, c *config.Config, s config.Service) {
	if slices.ContainsFunc(z.Names, func(n audit.Name) bool { return n.Service == s.ID }) {
		return
	}
	n := audit.Name{Floor: s.DNS.Floor, Name: dns.Name{Name: s.DNS.Name, Service: s.ID, TTL: s.DNS.TTL, Targets: make(map[draas.SiteID]dns.Target)}}
	for _, site := range c.Sites() {
		addresses, cname := s.Answers(site)
		n.Targets[site] = dns.Target{Addresses: addresses, CNAME: cname}
	}
	z.Names = append(z.Names, n)
}

// addServers adds the servers of one place.
func addServers(out *audit.Zone, c *config.Config, z config.Zone) {
	add := func(s audit.Server) {
		if !slices.ContainsFunc(out.Servers, func(o audit.Server) bool { return o.Address == s.Address }) {
			out.Servers = append(out.Servers, s)
		}
	}
	switch z.Provider {
	case config.ProviderEmbedded:
		if out.NegativeTTL = z.NegativeTTL; len(out.NS) > 0 {
			return
		}
		for _, m := range c.Members {
			if m.Role == draas.RoleSite && m.DNS != "" {
				site := m.ID.Site()
				out.NS = append(out.NS, audit.NS{Name: z.NS[site], Site: site, Addresses: z.NSAddress[site]})
				add(audit.Server{Role: z.Provider, Server: dns.Server{Site: site, Address: embeddedAt(z, m)}})
			}
		}
	case config.ProviderRFC2136:
		add(audit.Server{Role: "primary", Hidden: true, Server: dns.Server{Address: z.Update.Primary}})
		for _, address := range z.Update.Secondaries {
			add(audit.Server{Role: "secondary", Server: dns.Server{Address: address}})
		}
	default:
		for _, address := range z.Hosted.Authorities {
			add(audit.Server{Role: z.Provider, Server: dns.Server{Address: address}, NoEpoch: z.Provider == config.ProviderDynDNS2})
		}
	}
}

// embeddedAt is where a site's authority is asked: where users find it, if the
// file knows that, and else where it listens.
func embeddedAt(z config.Zone, m config.Member) string {
	at, err := netip.ParseAddrPort(m.DNS)
	if err != nil {
		return m.DNS
	}
	if addrs := z.NSAddress[m.ID.Site()]; len(addrs) > 0 {
		return netip.AddrPortFrom(addrs[0], at.Port()).String()
	}
	if peer, err := netip.ParseAddrPort(m.Peer); err == nil && at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(peer.Addr(), at.Port()).String()
	}
	return m.DNS
}

// auditDNS looks once, and once more when that tells whether a resolver
// follows.
func (p *program) auditDNS(ctx context.Context, auditor *audit.Auditor, asJSON bool) error {
	r, err := auditor.Look(ctx)
	if err != nil {
		return p.unable(err)
	}
	if again := time.Duration(r.Again) * time.Second; again > 0 && again <= secondLook {
		fmt.Fprintf(p.stderr, "a resolver is behind: looking again in %v\n", again)
		select {
		case <-ctx.Done():
			return p.unable(ctx.Err())
		case <-time.After(again):
		}
		if r, err = auditor.Look(ctx); err != nil {
			return p.unable(err)
		}
	}
	if asJSON {
		err = writeJSON(p.stdout, r, "  ")
	} else {
		writeAudit(p.stdout, r)
	}
	return worst(r, err)
}

// worst is the exit code of a report.
func worst(r *audit.Report, err error) error {
	if err == nil && r != nil && r.Errors() > 0 {
		return exitCode(exitFailed)
	}
	return err
}

// watchDNS looks again and again until it is interrupted, and ends by what it
// saw last.
func (p *program) watchDNS(ctx context.Context, auditor *audit.Auditor, interval time.Duration, asJSON bool) error {
	var last *audit.Report
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		r, err := auditor.Look(ctx)
		if ctx.Err() != nil {
			return worst(last, nil)
		}
		if err == nil {
			last = r
			err = p.showAudit(r, asJSON)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return worst(last, nil)
		case <-tick.C:
		}
	}
}

func (p *program) showAudit(r *audit.Report, asJSON bool) error {
	if asJSON {
		return writeJSON(p.stdout, r, "")
	}
	var text strings.Builder
	writeAudit(&text, r)
	_, height, terminal := p.size(p.stdout)
	if !terminal {
		fmt.Fprintln(p.stdout, text.String())
		return nil
	}
	// The end counts most: it has the findings.
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	lines = lines[max(0, len(lines)-max(height-1, 1)):]
	fmt.Fprint(p.stdout, "\x1b[H")
	for _, line := range lines {
		fmt.Fprint(p.stdout, line+"\x1b[K\n")
	}
	fmt.Fprint(p.stdout, "\x1b[J")
	return nil
}
