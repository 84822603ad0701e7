package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/health"
)

// lookout says what this member looks at, given the state, and turns what the
// monitor found into observations. It belongs to the main loop.
type lookout struct {
	w       *wiring
	monitor *health.Monitor
	// epochs holds, for each key that is being looked at, the activation that
	// is looked at: zero for this member's own site.
	epochs map[health.Key]draas.Epoch
	stale  bool // the probes are those of an earlier wiring
}

// use takes over the probes of a wiring with the next follow.
func (l *lookout) use(w *wiring) { l.w, l.stale = w, true }

// follow brings the monitor's targets in line with the state. It says whether
// anything changed.
func (l *lookout) follow(s failover.State) (bool, error) {
	want := l.wanted(s)
	if !l.stale && maps.Equal(want, l.epochs) {
		return false, nil
	}
	// Keys whose epoch changed are taken out first: what was seen of the
	// earlier activation must not count for this one.
	kept := make(map[health.Key]draas.Epoch)
	for key, epoch := range want {
		if was, known := l.epochs[key]; known && was == epoch {
			kept[key] = epoch
		}
	}
	for _, keys := range []map[health.Key]draas.Epoch{kept, want} {
		if err := l.monitor.Set(l.targets(keys)); err != nil {
			return false, fmt.Errorf("set probe targets: %w", err)
		}
	}
	l.epochs, l.stale = want, false
	return true, nil
}

// targets are the probes of the keys, in a fixed order.
func (l *lookout) targets(keys map[health.Key]draas.Epoch) []health.Target {
	var out []health.Target
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b health.Key) int { return cmp.Compare(a.String(), b.String()) }) {
		out = append(out, l.w.targets[key]...)
	}
	return out
}

// wanted lists what this member looks at: every other member's daemon, its own
// site's services behind their fence, and each service at its active site.
func (l *lookout) wanted(s failover.State) map[health.Key]draas.Epoch {
	want := make(map[health.Key]draas.Epoch)
	self := l.w.self
	for _, m := range l.w.cfg.Members {
		if m.ID != self.ID {
			want[health.Key{Member: m.ID}] = 0
		}
	}
	own := self.ID.Site()
	for unit, parts := range l.w.units {
		var active draas.SiteID
		var epoch draas.Epoch
		if sv := s.Services[unit]; sv != nil {
			if site, e, held := sv.Holder(); held {
				active, epoch = site, e
			}
		}
		for _, id := range parts {
			svc, _ := l.w.cfg.Service(id)
			if self.Role == draas.RoleSite && (warm(&svc) || active == own) {
				want[health.Key{Service: id, Site: own}] = 0
			}
			if active != "" && active != own {
				want[health.Key{Service: id, Site: active}] = epoch
			}
		}
	}
	return want
}

// targetsOf makes the probes of all that a member may ever look at by a file:
// every other member's daemon, and every service at every site.
func targetsOf(c *config.Config, self draas.MemberID, ping func(context.Context, draas.MemberID) error) (map[health.Key][]health.Target, error) {
	out := make(map[health.Key][]health.Target)
	for _, m := range c.Members {
		if m.ID != self {
			key := health.Key{Member: m.ID}
			out[key] = []health.Target{peerTarget(c.Profile, key, ping)}
		}
	}
	for i := range c.Services {
		svc := &c.Services[i]
		for _, site := range svc.Sites() {
			key := health.Key{Service: svc.ID, Site: site}
			for j := range svc.Checks {
				t, err := checkTarget(svc, j, key, self)
				if err != nil {
					return nil, fmt.Errorf("service.%s.check %d: %w", svc.ID, j+1, err)
				}
				out[key] = append(out[key], t)
			}
		}
	}
	return out, nil
}

func peerTarget(p config.Profile, key health.Key, ping func(context.Context, draas.MemberID) error) health.Target {
	return health.Target{Key: key, Check: "peer",
		Probe: health.Peer(func(ctx context.Context) error { return ping(ctx, key.Member) }),
		Timing: health.Timing{Interval: p.Interval, Timeout: p.Timeout, SecondLook: p.SecondLook,
			Rise: p.Rise, Fall: p.Fall, Jitter: p.Jitter}}
}

func checkTarget(svc *config.Service, i int, key health.Key, self draas.MemberID) (health.Target, error) {
	check := &svc.Checks[i]
	probe, err := probeOf(svc, check, self, key.Site)
	if err != nil {
		return health.Target{}, err
	}
	return health.Target{Key: key, Check: fmt.Sprintf("%d:%s", i+1, check.Type), Probe: probe,
		Timing: health.Timing{Interval: check.Interval, Timeout: check.Timeout, SecondLook: check.SecondLook,
			Rise: check.Rise, Fall: check.Fall, Jitter: check.Jitter}}, nil
}

// probeOf builds the probe of a check as seen from a member.
func probeOf(svc *config.Service, c *config.Check, self draas.MemberID, site draas.SiteID) (health.Probe, error) {
	addr := svc.TargetFor(c, self, site)
	switch c.Type {
	case config.CheckTCP:
		return health.TCP(addr)
	case config.CheckHTTP, config.CheckHTTPS:
		spec := health.HTTPSpec{Addr: addr, TLS: c.Type == config.CheckHTTPS, Path: c.Path, Host: c.Host,
			Body: c.Body, Expiry: c.Expiry, Insecure: c.Insecure}
		for _, status := range c.Status {
			spec.Status = append(spec.Status, health.StatusRange{From: status, To: status})
		}
		if c.CA != "" {
			data, err := os.ReadFile(c.CA)
			if err != nil {
				return nil, fmt.Errorf("read roots: %w", err)
			}
			spec.Roots = x509.NewCertPool()
			if !spec.Roots.AppendCertsFromPEM(data) {
				return nil, fmt.Errorf("%s holds no PEM certificate", c.CA)
			}
		}
		return health.HTTP(spec)
	case config.CheckDNS:
		return health.DNS(health.DNSSpec{Server: addr, Name: c.Name, Type: dns.StringToType[c.QType], Expect: c.Expect})
	case config.CheckExec:
		return health.Exec(health.ExecSpec{Command: c.Command, Service: svc.ID, Site: site, Address: addr})
	}
	return nil, fmt.Errorf("type %q is not known", c.Type)
}

// observations is what the monitor sees now, as the decision wants it.
func (l *lookout) observations() []failover.Observation {
	var out []failover.Observation
	for _, st := range l.monitor.Snapshot() {
		epoch, wanted := l.epochs[st.Key]
		if !wanted {
			continue
		}
		o := failover.Observation{Service: st.Key.Service, Site: st.Key.Site, Peer: st.Key.Member, Epoch: epoch, Verdict: st.Verdict}
		for _, c := range st.Checks {
			if c.Verdict == st.Verdict && st.Verdict != draas.Healthy {
				o.Class, o.Detail = string(c.Last.Class), c.Last.Detail
				break
			}
		}
		out = append(out, o)
	}
	return out
}
