package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/health"
)

// pinger asks a peer's daemon whether its main loop turns.
type pinger interface {
	Ping(ctx context.Context, member draas.MemberID) error
}

// lookout says what this member looks at, given the state, and turns what the
// monitor found into observations.
type lookout struct {
	cfg     *config.Config
	self    config.Member
	monitor *health.Monitor
	peers   pinger
	// epochs holds, for each key that is being looked at, the activation that
	// is looked at: zero for this member's own site.
	epochs map[health.Key]draas.Epoch
}

// follow brings the monitor's targets in line with the state. It says whether
// anything changed.
func (l *lookout) follow(s failover.State) (bool, error) {
	want := l.wanted(s)
	if equalKeys(want, l.epochs) {
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
		targets, err := l.targets(keys)
		if err != nil {
			return false, err
		}
		if err := l.monitor.Set(targets); err != nil {
			return false, fmt.Errorf("set probe targets: %w", err)
		}
	}
	l.epochs = want
	return true, nil
}

func equalKeys(a, b map[health.Key]draas.Epoch) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// wanted lists what this member looks at: every other member's daemon, its own
// site's services behind their fence, and each service at its active site.
func (l *lookout) wanted(s failover.State) map[health.Key]draas.Epoch {
	want := make(map[health.Key]draas.Epoch)
	for _, m := range l.cfg.Members {
		if m.ID != l.self.ID {
			want[health.Key{Member: m.ID}] = 0
		}
	}
	own := l.self.ID.Site()
	for i := range l.cfg.Services {
		svc := &l.cfg.Services[i]
		sv := s.Services[svc.ID]
		var active draas.SiteID
		var epoch draas.Epoch
		if sv != nil {
			if site, e, held := sv.Holder(); held {
				active, epoch = site, e
			}
		}
		if l.self.Role == draas.RoleSite && (warm(svc) || active == own) {
			want[health.Key{Service: svc.ID, Site: own}] = 0
		}
		if active != "" && active != own {
			want[health.Key{Service: svc.ID, Site: active}] = epoch
		}
	}
	return want
}

func (l *lookout) targets(keys map[health.Key]draas.Epoch) ([]health.Target, error) {
	var out []health.Target
	for key := range keys {
		if key.Member != "" {
			out = append(out, l.peerTarget(key))
			continue
		}
		svc, _ := l.cfg.Service(key.Service)
		for i := range svc.Checks {
			check := &svc.Checks[i]
			probe, err := l.probe(&svc, check, key.Site)
			if err != nil {
				return nil, fmt.Errorf("check %d of %s: %w", i+1, svc.ID, err)
			}
			out = append(out, health.Target{Key: key, Check: fmt.Sprintf("%d:%s", i+1, check.Type), Probe: probe,
				Timing: health.Timing{Interval: check.Interval, Timeout: check.Timeout, SecondLook: check.SecondLook,
					Rise: check.Rise, Fall: check.Fall, Jitter: check.Jitter}})
		}
	}
	slices.SortFunc(out, func(a, b health.Target) int {
		if a.Key != b.Key {
			if a.Key.String() < b.Key.String() {
				return -1
			}
			return 1
		}
		if a.Check < b.Check {
			return -1
		}
		return 1
	})
	return out, nil
}

func (l *lookout) peerTarget(key health.Key) health.Target {
	p := l.cfg.Profile
	return health.Target{Key: key, Check: "peer",
		Probe: health.Peer(func(ctx context.Context) error { return l.peers.Ping(ctx, key.Member) }),
		Timing: health.Timing{Interval: p.Interval, Timeout: p.Timeout, SecondLook: p.SecondLook,
			Rise: p.Rise, Fall: p.Fall, Jitter: p.Jitter}}
}

// probe builds the probe of a check as seen from this member.
func (l *lookout) probe(svc *config.Service, c *config.Check, site draas.SiteID) (health.Probe, error) {
	addr := svc.TargetFor(c, l.self.ID, site)
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
