package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/health"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns/authority"
)

// wiring is all of a member that follows from its file and may be replaced
// while the log, the peers' connections and the control API live on. It is
// made whole before it is used, so that switching to it cannot fail half way.
type wiring struct {
	cfg     *config.Config
	self    config.Member
	policy  failover.Policy
	targets map[health.Key][]health.Target        // of everything that may be looked at
	units   map[draas.ServiceID][]draas.ServiceID // the services of each unit of decision
	zones   []authority.Zone
	packed  *authority.Compiled
	effects map[draas.ServiceID]map[string]runbook.Effect     // by unit and name
	observe map[draas.ServiceID]map[string]time.Duration      // how often what a step made is looked at
	fenced  map[draas.ServiceID]bool                          // services that the guard holds
	devices map[draas.ServiceID]map[draas.SiteID][]siteDevice // that switch the other sites off, by unit
	others  map[draas.MemberID]*api.Client
}

// newWiring builds the wiring of a member from a file. Everything that the
// file leads to is opened and tried here.
func (d *Daemon) newWiring(c *config.Config) (*wiring, error) {
	self, err := Identity(c)
	if err != nil {
		return nil, err
	}
	w := &wiring{cfg: c, self: self, policy: policyOf(c), fenced: make(map[draas.ServiceID]bool)}
	if err := w.policy.Validate(); err != nil {
		return nil, err
	}
	w.units = unitsOf(&w.policy)
	if w.targets, err = targetsOf(c, self.ID, d.ping); err != nil {
		return nil, err
	}
	if self.Role == draas.RoleSite {
		if w.zones, err = zonesOf(c); err != nil {
			return nil, err
		}
		if w.packed, err = authority.Compile(w.zones); err != nil {
			return nil, err
		}
		if w.effects, err = effectsOf(w, means{d.acts, d.clock.Now, d.waitFor, d.entrances.leads, d.frontends.followers}); err != nil {
			return nil, err
		}
		w.observe = observeOf(c, w.units)
		for i := range c.Services {
			w.fenced[c.Services[i].ID] = guarded(&c.Services[i])
		}
	}
	if w.devices, err = devicesOf(c, w.units, self.ID.Site(), d.log); err != nil {
		return nil, err
	}
	if w.others, err = othersOf(c, self.ID); err != nil {
		return nil, err
	}
	return w, nil
}

// answers reports whether this member has a DNS authority; a witness never
// answers.
func (w *wiring) answers() bool {
	return w.self.DNS != "" && len(w.zones) > 0
}

// othersOf makes the clients of the other members' control API.
func othersOf(c *config.Config, self draas.MemberID) (map[draas.MemberID]*api.Client, error) {
	others := make(map[draas.MemberID]*api.Client)
	for _, m := range c.Members {
		if m.ID == self || m.API == "" {
			continue
		}
		conf, err := ClientTLS(c, m.ID)
		if err != nil {
			return nil, err
		}
		others[m.ID] = api.TLS(c.APIAddress(string(self), m.ID), conf)
	}
	return others, nil
}

// close drops what the wiring holds open.
func (w *wiring) close() {
	for _, c := range w.others {
		c.Close()
	}
}

// switchable reports every key of next that a running member cannot take over
// from the file that it was started with.
func switchable(was, next *wiring) error {
	var errs []error
	fixed := func(key, old, new string) {
		if old != new {
			errs = append(errs, fmt.Errorf("%s: it is %q and the file says %q: this needs a restart of draasd", key, old, new))
		}
	}
	a, b := was.cfg, next.cfg
	fixed("cluster", a.Cluster, b.Cluster)
	fixed("data", a.Data, b.Data)
	fixed("control", a.Control, b.Control)
	fixed("guard", a.Guard, b.Guard)
	fixed("tls.ca", a.TLS.CA, b.TLS.CA)
	fixed("tls.cert", a.TLS.Cert, b.TLS.Cert)
	fixed("tls.key", a.TLS.Key, b.TLS.Key)
	if was.self.ID != next.self.ID { // the rest is another member's
		errs = append(errs, fmt.Errorf("tls.cert: it was %s's and is %s's now: a daemon stays who it is", was.self.ID, next.self.ID))
		return errors.Join(errs...)
	}
	key := "member." + string(was.self.ID) + "."
	fixed(key+"role", string(was.self.Role), string(next.self.Role))
	fixed(key+"listen_peer", was.self.ListenPeer, next.self.ListenPeer)
	fixed(key+"api", was.self.API, next.self.API)
	fixed(key+"dns", was.self.DNS, next.self.DNS)
	fixed(key+"metrics", was.self.Metrics, next.self.Metrics)
	if err := authority.CheckChange(was.zones, next.zones); err != nil {
		errs = append(errs, err)
	}
	if was.answers() != next.answers() && was.self.DNS == next.self.DNS {
		errs = append(errs, errors.New("dns: the first zone and the last one need a restart of draasd"))
	}
	return errors.Join(errs...)
}

// unitsOf lists the services of each unit of decision.
func unitsOf(p *failover.Policy) map[draas.ServiceID][]draas.ServiceID {
	out := make(map[draas.ServiceID][]draas.ServiceID, len(p.Services))
	for id := range p.Services {
		out[id] = p.PartsOf(id)
	}
	return out
}

// now is the wiring in use.
func (d *Daemon) now() *wiring { return d.wiring.Load() }

// adopt switches the member to a wiring. It is called by the main loop.
func (d *Daemon) adopt(w *wiring) {
	d.wiring.Store(w)
	if err := d.transport.SetPeers(w.peers()); err != nil {
		d.log.Error("cannot take over the peers' addresses", "err", err)
	}
	d.transport.Reload()
	d.lookout.use(w)
	if d.answers != nil {
		if err := d.answers.authority.Use(w.packed); err != nil {
			d.log.Error("cannot answer for the new zones", "err", err)
		}
	}
	if d.link != nil {
		d.link.use(w)
	}
	d.frontends.use(w)
	d.grants.use(w.cfg)
	d.frontends.publish(d.loop.replica.State())
	d.steps.use(w.effects)
	if d.users != nil {
		d.users.use(w)
	}
	d.devices.use(w)
	if d.lags != nil {
		d.lags.use(w)
		d.carrier.use(w)
	}
}
