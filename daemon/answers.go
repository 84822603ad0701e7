package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

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
	inTouch   bool // of the main loop: told that this run has caught up
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

func zonesOf(c *config.Config) []authority.Zone {
	var out []authority.Zone
	for _, key := range slices.Sorted(maps.Keys(c.DNS)) {
		z := c.DNS[key]
		if z.Provider != config.ProviderEmbedded {
			continue
		}
		zone := authority.Zone{Name: z.Name, Contact: z.Contact, NegativeTTL: z.NegativeTTL, Stale: z.Stale}
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
	return out
}

func nameOf(c *config.Config, s config.Service) dns.Name {
	n := dns.Name{Name: s.DNS.Name, Service: s.ID, TTL: s.DNS.TTL, Targets: make(map[draas.SiteID]dns.Target)}
	for _, site := range c.Sites() {
		n.Targets[site] = dns.Target{Addresses: s.Addresses[site], CNAME: s.CNAME[site]}
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
func (a *answers) publish(s failover.State) {
	v := authority.View{Services: make(map[draas.ServiceID]dns.Decision)}
	for unit, sv := range s.Services {
		if sv.Epoch == 0 {
			continue
		}
		for _, id := range s.Policy.PartsOf(unit) {
			v.Services[id] = dns.Decision{Token: runbook.Token{Epoch: sv.Epoch}, Site: sv.Active}
		}
	}
	if err := a.authority.Publish(v); err != nil {
		a.log.Error("cannot publish DNS answers", "err", err)
	}
}

// touched tells the authority that this member was in touch with the quorum
// and had nothing left to apply.
func (d *Daemon) touched(s quorum.CoreStatus, now draas.Reading) {
	if d.answers == nil || s.Contact == 0 || s.Applied < s.Commit || !d.loop.replica.Greeted() {
		return
	}
	ago := now.Boot - s.Contact
	at := draas.Reading{Boot: s.Contact, Wall: now.Wall - ago}
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
		for _, id := range s.Policy.PartsOf(unit) {
			until[id] = deadline // without a permit: over
		}
	}
	if err := d.answers.authority.Lease(until); err != nil {
		d.log.Error("cannot bound DNS answers", "err", err)
	}
}

// waitFor waits until this member's authority has a decision.
func (d *Daemon) waitFor(ctx context.Context, id draas.ServiceID, token runbook.Token) (dns.Decision, error) {
	if d.answers == nil {
		return dns.Decision{}, fmt.Errorf("nothing answers DNS here: add dns = \"ADDRESS:53\" to [member.%s] and restart", d.self)
	}
	return d.answers.authority.WaitFor(ctx, id, token)
}

// waiting is what waitFor is.
type waiting func(context.Context, draas.ServiceID, runbook.Token) (dns.Decision, error)

// effectsOf are what moves the users of each unit, by the names that its
// plan's steps have.
func effectsOf(w *wiring, applied waiting) (map[draas.ServiceID]map[string]runbook.Effect, error) {
	moves := make(map[draas.ServiceID]runbook.Effect) // by service
	for _, key := range slices.Sorted(maps.Keys(w.cfg.DNS)) {
		var names []dns.Name
		for _, s := range w.cfg.Services {
			if s.DNS.Zone == key {
				names = append(names, nameOf(w.cfg, s))
			}
		}
		effect, err := provider(w, w.cfg.DNS[key], names, applied)
		if err != nil {
			return nil, fmt.Errorf("dns.%s: %w", key, err)
		}
		for _, n := range names {
			moves[n.Service] = effect
		}
	}
	out := make(map[draas.ServiceID]map[string]runbook.Effect)
	for unit, parts := range w.units {
		out[unit] = make(map[string]runbook.Effect)
		for _, id := range parts {
			if effect := moves[id]; effect != nil {
				out[unit][stepName(unit, id)] = &partEffect{part: id, Effect: effect}
			}
		}
	}
	return out, nil
}

// provider is the effect that moves the names of a zone.
func provider(w *wiring, z config.Zone, names []dns.Name, applied waiting) (runbook.Effect, error) {
	if z.Provider == config.ProviderRFC2136 {
		return rfc2136.New(updateOf(z, names))
	}
	conf := dns.EmbeddedConfig{Names: names, Applied: applied}
	for _, m := range w.cfg.Members {
		if m.Role == draas.RoleSite && m.DNS != "" {
			conf.Servers = append(conf.Servers, dns.Server{Site: m.ID.Site(), Address: authorityOf(z, m, w.self.ID)})
		}
	}
	return dns.NewEmbedded(conf)
}

func updateOf(z config.Zone, names []dns.Name) rfc2136.Config {
	conf := rfc2136.Config{Zone: z.Name, Names: names, Primary: dns.Server{Address: z.Update.Primary},
		KeyFile: z.Update.KeyFile, TCP: z.Update.TCP, Lag: z.Update.Lag}
	for _, s := range z.Update.Secondaries {
		conf.Secondaries = append(conf.Secondaries, dns.Server{Address: s})
	}
	return conf
}

// partEffect makes an effect on one service of the unit that a plan moves.
type partEffect struct {
	runbook.Effect
	part draas.ServiceID
}

// Done implements runbook.Effect.
func (p *partEffect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	op.Service = p.part
	return p.Effect.Done(ctx, op)
}

// Do implements runbook.Effect.
func (p *partEffect) Do(ctx context.Context, op runbook.Op) error {
	op.Service = p.part
	return p.Effect.Do(ctx, op)
}

// Release implements runbook.Effect.
func (p *partEffect) Release(ctx context.Context, op runbook.Op) error {
	op.Service = p.part
	return p.Effect.Release(ctx, op)
}

// authorityOf is where a site's authority is asked: our own where it listens,
// another site's where the zone says that resolvers find it, so that what is
// observed is what they see.
func authorityOf(z config.Zone, m config.Member, self draas.MemberID) string {
	if addrs := z.NSAddress[m.ID.Site()]; m.ID != self && len(addrs) > 0 {
		if at, err := netip.ParseAddrPort(m.DNS); err == nil {
			return netip.AddrPortFrom(addrs[0], at.Port()).String()
		}
	}
	return reachable(m.DNS)
}

// reachable is where to ask a server that listens on the address: one that
// listens on all addresses of this machine answers on loopback.
func reachable(listen string) string {
	at, err := netip.ParseAddrPort(listen)
	if err != nil || !at.Addr().IsUnspecified() {
		return listen
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if at.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(loopback, at.Port()).String()
}
