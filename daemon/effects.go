package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/cloudflare"
	"github.com/draasd/draas/schemes/dns/designate"
	"github.com/draasd/draas/schemes/dns/dyndns2"
	"github.com/draasd/draas/schemes/dns/rfc2136"
	"github.com/draasd/draas/schemes/dns/route53"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/hybrid"
)

// means is what effects need of the daemon.
type means struct {
	acts *acting
	now  func() draas.Reading
	// applied waits until this member's authority has a decision.
	applied func(context.Context, draas.ServiceID, runbook.Token) (dns.Decision, error)
	// leads is where a service's name leads, as this member has applied it.
	leads func(draas.ServiceID) (draas.SiteID, runbook.Token, bool)
	// followers is what the frontends of a service last said of it.
	followers func(draas.ServiceID) ([]frontend.Follower, <-chan struct{})
}

// effectsOf are what moves the users of each unit, by the names that its
// plan's steps have.
func effectsOf(w *wiring, m means) (map[draas.ServiceID]map[string]runbook.Effect, error) {
	zones, err := zoneEffects(w, m)
	if err != nil {
		return nil, err
	}
	out := make(map[draas.ServiceID]map[string]runbook.Effect)
	led := frontend.NewEffect(frontend.EffectConfig{Followers: m.followers})
	for unit, parts := range w.units {
		out[unit] = make(map[string]runbook.Effect)
		for _, id := range parts {
			svc, _ := w.cfg.Service(id)
			switch svc.Scheme {
			case config.SchemeFrontend:
				out[unit][stepName(stepFrontend, unit, &svc)] = &partEffect{part: id, Effect: led}
			case config.SchemeHybrid:
				effect, err := hybridOf(&svc, zones, led, m)
				if err != nil {
					return nil, fmt.Errorf("service.%s: %w", id, err)
				}
				out[unit][stepName(stepHybrid, unit, &svc)] = effect
			default:
				for _, key := range svc.DNS.Zones() {
					out[unit][stepName(stepDNS, unit, &svc)+zoneName(&svc, key)] = &partEffect{part: id, Effect: zones[key]}
				}
			}
		}
	}
	return out, nil
}

// zoneEffects are what moves the names of each zone, by its key in the file.
func zoneEffects(w *wiring, m means) (map[string]runbook.Effect, error) {
	out := make(map[string]runbook.Effect)
	for _, key := range slices.Sorted(maps.Keys(w.cfg.DNS)) {
		z, names := w.cfg.DNS[key], namesIn(w.cfg, key)
		if len(names) == 0 {
			continue
		}
		effect, err := provider(w, z, names, m)
		if err != nil {
			return nil, fmt.Errorf("dns.%s: %w", key, err)
		}
		if z.Provider != config.ProviderEmbedded { // our authority asks the brake by itself
			effect = &braked{Effect: effect, acts: m.acts, zone: z, now: m.now}
		}
		out[key] = effect
	}
	return out, nil
}

// namesIn are the names that are moved in a zone.
func namesIn(c *config.Config, zone string) []dns.Name {
	var names []dns.Name
	for _, s := range c.Services {
		if s.Named() && slices.Contains(s.DNS.Zones(), zone) {
			names = append(names, nameOf(c, s))
		}
	}
	return names
}

// observeFrontends is how often it is looked at where frontends lead: they say
// so by themselves.
const observeFrontends = 5 * time.Second

// observeOf is how often what each step has made is looked at; of a hybrid's,
// what each of its halves has.
func observeOf(c *config.Config, units map[draas.ServiceID][]draas.ServiceID) map[draas.ServiceID]map[string]time.Duration {
	out := make(map[draas.ServiceID]map[string]time.Duration)
	for unit, parts := range units {
		out[unit] = make(map[string]time.Duration)
		for _, id := range parts {
			svc, _ := c.Service(id)
			hybridStep := stepName(stepHybrid, unit, &svc)
			switch svc.Scheme {
			case config.SchemeFrontend:
				out[unit][stepName(stepFrontend, unit, &svc)] = observeFrontends
			case config.SchemeHybrid:
				out[unit][hybrid.StepOf(hybridStep, stepFrontend)] = observeFrontends
			}
			for _, key := range svc.DNS.Zones() {
				step := stepName(stepDNS, unit, &svc) + zoneName(&svc, key)
				if svc.Scheme == config.SchemeHybrid {
					step = hybrid.StepOf(hybridStep, stepDNS+zoneName(&svc, key))
				}
				out[unit][step] = c.DNS[key].Every()
			}
		}
	}
	return out
}

// provider is the effect that moves the names of a zone.
func provider(w *wiring, z config.Zone, names []dns.Name, m means) (runbook.Effect, error) {
	switch z.Provider {
	case config.ProviderRFC2136:
		return rfc2136.New(updateOf(z, names))
	case config.ProviderEmbedded:
		return dns.NewEmbedded(embeddedOf(w, z, names, m))
	case config.ProviderRoute53:
		return route53.New(route53.Config{Zone: z.Name, ZoneID: z.Hosted.ZoneID, Names: names, CredentialsFile: z.Hosted.Credentials,
			Region: z.Hosted.Region, Endpoint: z.Hosted.Endpoint, CA: z.Hosted.CA, Authorities: authorities(z), Lag: z.Hosted.Lag})
	}
	gate, err := m.acts.gate(w.cfg, z, m.now)
	if err != nil {
		return nil, err
	}
	switch z.Provider {
	case config.ProviderCloudflare:
		return cloudflare.New(cloudflare.Config{Zone: z.Name, ZoneID: z.Hosted.ZoneID, Names: names, CredentialsFile: z.Hosted.Credentials,
			Endpoint: z.Hosted.Endpoint, CA: z.Hosted.CA, Authorities: authorities(z), Gate: gate, Lag: z.Hosted.Lag})
	case config.ProviderDesignate:
		return designate.New(designate.Config{Zone: z.Name, ZoneID: z.Hosted.ZoneID, Names: names, CredentialsFile: z.Hosted.Credentials, Cloud: z.Hosted.Cloud,
			Region: z.Hosted.Region, Endpoint: z.Hosted.Endpoint, CA: z.Hosted.CA, Authorities: authorities(z), Gate: gate, Lag: z.Hosted.Lag})
	case config.ProviderDynDNS2:
		return dyndns2.New(dyndns2.Config{URL: z.Hosted.Endpoint, Names: names, Authorities: authorities(z),
			CredentialsFile: z.Hosted.Credentials, CAFile: z.Hosted.CA, Contact: mailbox(z.Contact), Version: buildVersion(),
			Gate: gate, Account: m.acts.account(z.ID), Lag: z.Hosted.Lag})
	}
	return nil, fmt.Errorf("there is no provider %q", z.Provider)
}

func embeddedOf(w *wiring, z config.Zone, names []dns.Name, m means) dns.EmbeddedConfig {
	conf := dns.EmbeddedConfig{Names: names, Applied: m.applied}
	for _, member := range w.cfg.Members {
		if member.Role == draas.RoleSite && member.DNS != "" {
			conf.Servers = append(conf.Servers, dns.Server{Site: member.ID.Site(), Address: authorityOf(z, member, w.self.ID)})
		}
	}
	for _, s := range z.Copies.Secondaries {
		conf.Servers = append(conf.Servers, dns.Server{Address: s})
	}
	return conf
}

func updateOf(z config.Zone, names []dns.Name) rfc2136.Config {
	conf := rfc2136.Config{Zone: z.Name, Names: names, Primary: dns.Server{Address: z.Update.Primary},
		KeyFile: z.Update.KeyFile, TCP: z.Update.TCP, Lag: z.Update.Lag}
	for _, s := range z.Update.Secondaries {
		conf.Secondaries = append(conf.Secondaries, dns.Server{Address: s})
	}
	return conf
}

// authorities are the servers of a zone at a DNS service.
func authorities(z config.Zone) []dns.Server {
	var out []dns.Server
	for _, s := range z.Hosted.Authorities {
		out = append(out, dns.Server{Address: s})
	}
	return out
}

// mailbox is the mail address that a contact in the form of an SOA's stands
// for (RFC 1035, section 8).
func mailbox(contact string) string {
	user, host, _ := strings.Cut(strings.TrimSuffix(contact, "."), ".")
	return user + "@" + host
}

// buildVersion is what the build knows of its version.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version
	}
	return "devel"
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
