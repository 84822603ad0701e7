package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/authority"
	"github.com/draasd/draas/schemes/dns/rfc2136"
)

// answers is the embedded DNS authority of a site, fed from the decision.
type answers struct {
	authority *authority.Authority
	listener  *authority.Listener
	log       *slog.Logger
	// Of the main loop.
	inTouch bool              // told that this run has caught up
	held    []draas.ServiceID // names that a brake holds where they were
	heldAt  time.Duration     // boot time at which they were last looked at
}

// openAnswers prepares the authority; a witness never answers.
func (d *Daemon) openAnswers(ctx context.Context, undo *cleanups) error {
	d.answers = nil
	w := d.now()
	if !w.answers() {
		return nil
	}
	a, err := authority.New(authority.Config{Zones: w.zones, Clock: d.clock.Now, Log: d.log})
	if err != nil {
		return err
	}
	ln, err := authority.Listen(ctx, w.self.DNS)
	if err != nil {
		return err
	}
	undo.add("close DNS", func() error { return closed(ln.Close()) })
	d.answers = &answers{authority: a, listener: ln, log: d.log}
	return nil
}

// zonesOf are the zones that the embedded authority answers for, with the keys
// that their files lead to.
func zonesOf(c *config.Config) ([]authority.Zone, error) {
	var out []authority.Zone
	for _, key := range slices.Sorted(maps.Keys(c.DNS)) {
		z := c.DNS[key]
		if z.Provider != config.ProviderEmbedded {
			continue
		}
		zone := authority.Zone{Name: z.Name, Contact: z.Contact, NegativeTTL: z.NegativeTTL, Stale: z.Stale,
			Revision: uint16(z.Copies.Revision), Refresh: z.Copies.Refresh, Expire: z.Copies.Expire}
		var err error
		if zone.Secondaries, err = secondariesOf(z); err != nil {
			return nil, fmt.Errorf("dns.%s: %w", key, err)
		}
		if z.File != "" {
			if zone.Static, err = authority.ReadZoneFile(z.File, z.Name); err != nil {
				return nil, fmt.Errorf("dns.%s: %w", key, err)
			}
		}
		if z.SigningKeys != "" {
			keys, err := authority.ReadSigningKeys(z.SigningKeys, z.Name)
			if err != nil {
				return nil, fmt.Errorf("dns.%s: %w", key, err)
			}
			zone.Signing = &authority.Signing{Keys: keys, Validity: z.Validity}
		}
		for _, site := range c.Sites() {
			if host := z.NS[site]; host != "" {
				zone.Servers = append(zone.Servers, authority.NameServer{Site: site, Host: host, Addresses: z.NSAddress[site]})
			}
		}
		for _, r := range z.Records {
			zone.Records = append(zone.Records, authority.Record{Name: r.Name, Type: r.Type, Value: r.Value, TTL: r.TTL})
		}
		for _, s := range c.Services {
			if s.DNS.Zone == key {
				zone.Services = append(zone.Services, nameOf(c, s))
			}
		}
		out = append(out, zone)
	}
	return out, nil
}

// secondariesOf are the servers that have copies of a zone.
func secondariesOf(z config.Zone) ([]authority.Secondary, error) {
	var key authority.Key
	if z.Copies.KeyFile != "" {
		k, err := rfc2136.ReadKey(z.Copies.KeyFile)
		if err != nil {
			return nil, err
		}
		key = authority.Key{Name: k.Name, Algorithm: strings.TrimSuffix(k.Algorithm, "."), Secret: k.Secret()}
	}
	var out []authority.Secondary
	for _, s := range z.Copies.Secondaries {
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("secondary: %w", err)
		}
		out = append(out, authority.Secondary{Address: at, From: z.Copies.From, Key: key})
	}
	if len(out) == 0 && (len(z.Copies.From) > 0 || z.Copies.KeyFile != "") {
		out = append(out, authority.Secondary{From: z.Copies.From, Key: key}) // it asks by itself
	}
	return out, nil
}

func nameOf(c *config.Config, s config.Service) dns.Name {
	n := dns.Name{Name: s.DNS.Name, Service: s.ID, TTL: s.DNS.TTL, Targets: make(map[draas.SiteID]dns.Target)}
	for _, site := range c.Sites() {
		addresses, cname := s.Answers(site)
		n.Targets[site] = dns.Target{Addresses: addresses, CNAME: cname}
	}
	return n
}

func (a *answers) run(ctx context.Context) error {
	if err := a.authority.Serve(ctx, a.listener); err != nil {
		return fmt.Errorf("dns authority: %w", err)
	}
	return nil
}

// publish answers from the state. A state is never older than the one before.
// A run that catches up has no moves to make: they were made long ago.
func (d *Daemon) publish(s failover.State) {
	a, c, now := d.answers, d.now().cfg, d.clock.Now()
	a.held, a.heldAt = nil, now.Boot
	v := authority.View{Services: make(map[draas.ServiceID]dns.Decision)}
	for unit, sv := range s.Services {
		if sv.Epoch == 0 {
			continue
		}
		for _, id := range s.Policy.PartsOf(unit) {
			site, token, known := s.Leads(id)
			if !known {
				site, token = "", runbook.Token{Epoch: sv.Epoch}
			}
			svc, _ := c.Service(id)
			z := c.DNS[svc.DNS.Zone]
			if a.inTouch && z.Provider == config.ProviderEmbedded && d.acts.held(z, id, token, now) != nil {
				a.held = append(a.held, id) // it is answered as before
				continue
			}
			v.Services[id] = dns.Decision{Token: token, Site: site, Turns: sv.Turns}
		}
	}
	if err := a.authority.Publish(v); err != nil {
		a.log.Error("cannot publish DNS answers", "err", err)
	}
}

// letGo looks again at names that a brake holds.
func (d *Daemon) letGo(now draas.Reading) {
	if a := d.answers; len(a.held) > 0 && now.Boot-a.heldAt >= time.Second {
		d.publish(d.loop.replica.State())
	}
}

// touched tells what acts for this member that it was in touch with the quorum
// and had nothing left to apply.
func (d *Daemon) touched(s quorum.CoreStatus, now draas.Reading) {
	if s.Contact == 0 || s.Applied < s.Commit || !d.loop.replica.Greeted() {
		d.frontends.permit(d.loop, draas.Reading{}, now)
		return
	}
	ago := now.Boot - s.Contact
	at := draas.Reading{Boot: s.Contact, Wall: now.Wall - ago}
	d.frontends.permit(d.loop, at, now)
	d.acts.touched(at)
	if d.carrier != nil {
		d.carrier.touched(at)
	}
	if d.answers == nil {
		return
	}
	d.letGo(now)
	if !d.answers.inTouch {
		d.answers.inTouch = true
		if err := d.answers.authority.Publish(authority.View{InTouch: true, At: at}); err != nil {
			d.log.Error("cannot publish DNS answers", "err", err)
		}
		return
	}
	d.answers.authority.Touch(at)
}

// leased bounds what is answered for services that this site holds: beyond its
// permit its own address leads to a closed fence.
func (d *Daemon) leased(l *loop, now draas.Reading) {
	if d.answers == nil {
		return
	}
	until := make(map[draas.ServiceID]draas.Deadline)
	s := l.replica.State()
	for unit, sv := range s.Services {
		// A member that knows of the revocation is in touch: it answers on
		// until the successor is active.
		if sv.Active != d.self.Site() || sv.Revoked {
			continue
		}
		_, deadline, _ := l.replica.Permit(unit, now)
		ways := s.Policy.Services[unit].Ways
		for _, id := range s.Policy.PartsOf(unit) {
			if _, fronted := sv.Entries[id]; fronted && len(ways[id]) > 0 {
				continue // it leads to frontends, which lead on by permits of their own knowledge
			}
			until[id] = deadline // without a permit: over
		}
	}
	d.answers.authority.Lease(until)
}

// waitFor waits until this member's authority has a decision.
func (d *Daemon) waitFor(ctx context.Context, id draas.ServiceID, token runbook.Token) (dns.Decision, error) {
	if d.answers == nil {
		return dns.Decision{}, fmt.Errorf("nothing answers DNS here: add dns = \"ADDRESS:53\" to [member.%s] and restart", d.self)
	}
	return d.answers.authority.WaitFor(ctx, id, token)
}
