package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/stream"
	"github.com/draasd/draas/schemes/frontend/web"
)

// specsOf are the services of a frontend.
func specsOf(c *config.Config, name string) []frontend.Spec {
	var out []frontend.Spec
	for _, s := range servicesOf(c, name) {
		spec := frontend.Spec{Service: s.ID, Sites: make(map[draas.SiteID][]frontend.Server),
			Outlives: s.Fence.Kind == draas.FenceKernel || s.Fence.Kind == draas.FenceDevice,
			Hold:     frontend.Bounds{Time: s.Frontend.Hold, Requests: s.Frontend.HoldRequests, Bytes: s.Frontend.HoldBytes}}
		for site, servers := range s.Frontend.Servers {
			for _, a := range servers {
				spec.Sites[site] = append(spec.Sites[site], frontend.Server{Address: a.String()})
			}
		}
		out = append(out, spec)
	}
	return out
}

// servicesOf are the services that a frontend serves, by name, each with the
// addresses at which it listens where it stands.
func servicesOf(c *config.Config, name string) []*config.Service {
	var out []*config.Service
	for i := range c.Services {
		if s := &c.Services[i]; s.Fronted() && slices.Contains(s.Frontend.Use, name) {
			here := *s
			here.Frontend.Listen = s.Frontend.ListensAt(c.SiteOf(name))
			out = append(out, &here)
		}
	}
	return out
}

// proxy serves one listening address.
type proxy interface {
	Serve(ctx context.Context, ln net.Listener) error
}

// port is a listening address with what serves it.
type port struct {
	mode  string
	ln    net.Listener
	web   *web.Server    // mode http
	tcp   *stream.Server // mode tcp
	stop  context.CancelFunc
	ended chan struct{}
}

// plan is what one address is to serve.
type plan struct {
	mode string
	web  web.Config
	tcp  stream.Config
}

// use goes by a file: its services, and its listening addresses if the proxy
// is ours. What is wrong with it is found before anything is changed.
func (e *Edge) use(ctx context.Context, c *config.Config) error {
	var plans map[string]*plan
	self, _ := c.Frontend(e.name)
	if self.Kind == config.FrontendEmbedded {
		// Services that are new have to be known before something serves them.
		known := frontend.New(frontend.Config{Clock: e.o.Clock, Log: e.log}, specsOf(c, e.name))
		if err := try(e.plans(c, known)); err != nil {
			return err
		}
	} else if _, err := driverOf(c, self); err != nil {
		return err
	}
	opened, err := e.open(ctx, c, self)
	if err != nil {
		return err
	}
	e.table.Use(specsOf(c, e.name))
	if self.Kind == config.FrontendEmbedded {
		plans = e.plans(c, e.table)
	}
	for _, at := range slices.Sorted(maps.Keys(e.ports)) {
		if plans[at] == nil || plans[at].mode != e.ports[at].mode {
			e.closePort(at)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(plans)) {
		if err := e.serve(ctx, at, plans[at], opened[at]); err != nil {
			return err
		}
	}
	return nil
}

// open listens where nothing listens yet, or nowhere.
func (e *Edge) open(ctx context.Context, c *config.Config, self config.Frontend) (map[string]net.Listener, error) {
	opened := make(map[string]net.Listener)
	if self.Kind != config.FrontendEmbedded {
		return opened, nil
	}
	e.giveWay(c)
	for _, s := range servicesOf(c, e.name) {
		for _, a := range s.Frontend.Listen {
			at := a.String()
			if opened[at] != nil || e.ports[at] != nil {
				continue
			}
			// Both proxies see to silent clients by themselves.
			ln, err := listenConfig(c, e.name, a.Addr()).Listen(ctx, "tcp", at)
			if err != nil {
				errs := []error{fmt.Errorf("service.%s.frontend.listen: %w", s.ID, err)}
				for _, ln := range opened {
					errs = append(errs, ln.Close())
				}
				return nil, errors.Join(errs...)
			}
			opened[at] = ln
		}
	}
	return opened, nil
}

// listenConfig listens at an address, also at that of a virtual IP while another
// has it.
func listenConfig(c *config.Config, frontend string, at netip.Addr) *net.ListenConfig {
	lc := &net.ListenConfig{KeepAlive: -1}
	for _, v := range c.VIPsOf(frontend) {
		if slices.ContainsFunc(v.Addresses, func(h config.Held) bool { return h.Prefix.Addr() == at }) {
			lc.Control = freebind
		}
	}
	return lc
}

// freebind lets a socket listen at an address that no interface has (ip(7),
// IP_FREEBIND).
func freebind(network, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		if network == "tcp6" {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			return
		}
		failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	})
	return errors.Join(err, failed)
}

// giveWay closes what would be in the way of what a file serves: the same port
// at an address that overlaps, or in another mode.
func (e *Edge) giveWay(c *config.Config) {
	modes := make(map[netip.AddrPort]string)
	for _, s := range servicesOf(c, e.name) {
		for _, a := range s.Frontend.Listen {
			modes[a] = s.Frontend.Mode
		}
	}
	for _, at := range slices.Sorted(maps.Keys(e.ports)) {
		was := netip.MustParseAddrPort(at)
		if mode, stays := modes[was]; stays && mode == e.ports[at].mode {
			continue
		}
		for a := range modes {
			if a.Port() == was.Port() && (a == was || a.Addr().IsUnspecified() || was.Addr().IsUnspecified()) {
				e.closePort(at)
				break
			}
		}
	}
}

// serve serves an address by a plan, from now on or further on.
func (e *Edge) serve(ctx context.Context, at string, p *plan, ln net.Listener) error {
	if on := e.ports[at]; on != nil {
		if on.web != nil {
			return on.web.Use(p.web)
		}
		return on.tcp.Use(p.tcp)
	}
	on := &port{mode: p.mode, ln: ln, ended: make(chan struct{})}
	var srv proxy
	var err error
	if p.mode == config.ModeHTTP {
		on.web, err = web.New(p.web)
		srv = on.web
	} else {
		on.tcp, err = stream.New(p.tcp)
		srv = on.tcp
	}
	if err != nil {
		return errors.Join(fmt.Errorf("serve %s: %w", at, err), ln.Close())
	}
	ctx, on.stop = context.WithCancel(ctx)
	e.ports[at] = on
	go func() {
		defer close(on.ended)
		if err := srv.Serve(ctx, ln); err != nil && ctx.Err() == nil {
			e.log.Error("an address is served no more", "listen", at, "err", err)
		}
	}()
	return nil
}

func (e *Edge) closePort(at string) {
	p := e.ports[at]
	p.stop()
	<-p.ended
	delete(e.ports, at)
}

// closePorts ends what is served. Requests under way are ended together.
func (e *Edge) closePorts() {
	for _, p := range e.ports {
		p.stop()
	}
	for at := range e.ports {
		e.closePort(at)
	}
}

// plans are what each address serves by a file.
func (e *Edge) plans(c *config.Config, t *frontend.Table) map[string]*plan {
	out := make(map[string]*plan)
	for _, s := range servicesOf(c, e.name) {
		f := &s.Frontend
		for _, a := range f.Listen {
			p := out[a.String()]
			if p == nil {
				p = &plan{mode: f.Mode}
				out[a.String()] = p
			}
			if f.Mode == config.ModeHTTP {
				e.planWeb(&p.web, s, t.Service(s.ID))
			} else {
				e.planStream(&p.tcp, s, t.Service(s.ID))
			}
		}
	}
	return out
}

// try makes what would serve by the plans, which opens its files, and lets it
// go: what is wrong is to be known before anything is changed.
func try(plans map[string]*plan) error {
	for _, at := range slices.Sorted(maps.Keys(plans)) {
		p := plans[at]
		var err error
		if p.mode == config.ModeHTTP {
			_, err = web.New(p.web)
		} else {
			_, err = stream.New(p.tcp)
		}
		if err != nil {
			return fmt.Errorf("listen %s: %w", at, err)
		}
	}
	return nil
}

func (e *Edge) planWeb(w *web.Config, s *config.Service, svc *frontend.Service) {
	f := &s.Frontend
	affinity := web.Affinity(f.Affinity)
	if f.Affinity == config.AffinityNone {
		affinity = web.AffinityNone
	}
	body := f.MaxBody
	if body == 0 {
		body = -1 // no limit
	}
	w.Hosts = append(w.Hosts, web.Host{Names: f.Names, Service: svc, Certificate: f.Certificate, Key: f.Key,
		Replay: f.Replay, Trusted: f.Trusted, ProxyOut: f.ProxyTo, MaxBody: body, Affinity: affinity, Shadow: f.Shadow})
	l := &w.Limits
	l.Connections, l.PerSource = max(l.Connections, f.Connections), max(l.PerSource, f.PerSource)
	l.Idle, l.Connect, l.Silent = max(l.Idle, f.IdleTimeout), max(l.Connect, f.ConnectTimeout), max(l.Silent, f.Silent)
	w.Sources.Allow = append(w.Sources.Allow, f.Sources...)
	w.ProxyIn = append(w.ProxyIn, f.ProxyFrom...)
	w.Log = e.log
	if e.lines.wanted() {
		w.AccessLog = e.lines
	}
}

func (e *Edge) planStream(w *stream.Config, s *config.Service, svc *frontend.Service) {
	f := &s.Frontend
	w.Routes = append(w.Routes, stream.Route{Names: f.Names, Service: svc, ProxyOut: f.ProxyTo, Affinity: f.Affinity, Shadow: f.Shadow})
	w.MaxConnections, w.PerSource = max(w.MaxConnections, f.Connections), max(w.PerSource, f.PerSource)
	w.IdleTimeout, w.ConnectTimeout, w.Silence = max(w.IdleTimeout, f.IdleTimeout), max(w.ConnectTimeout, f.ConnectTimeout), max(w.Silence, f.Silent)
	w.Sources = append(w.Sources, f.Sources...)
	w.ProxyIn = append(w.ProxyIn, f.ProxyFrom...)
	w.Log = e.log
	if e.lines.wanted() {
		w.AccessLog = func(a stream.Access) {
			if line, err := json.Marshal(a); err == nil {
				_, _ = e.lines.Write(append(line, '\n')) // what it cannot take it counts
			}
		}
	}
}

// listens are where a service is reached, for status.
func listens(s *config.Service) []string {
	var out []string
	for _, a := range s.Frontend.Listen {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return out
}
