// Package haproxy drives a running HAProxy (2.4 or later) by its stats socket:
// the servers of the active site are ready, all others of the service's
// backend are in maintenance. etc/frontend/haproxy.cfg shows the lines that it
// needs.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Config says which HAProxy, and what it calls things.
type Config struct {
	// Socket is the stats socket, with level admin: a path, or host:port.
	Socket string
	// Master is the socket of the master process (-S), if there is one. With
	// it the workers that a reload has left behind are ended when users are
	// led to another site: they cannot be commanded any more, and their
	// connections stay where they are (hard-stop-after bounds that otherwise).
	// That takes the right to signal them, on the same machine.
	Master string
	// Backends are those of services that are not called like the service.
	Backends map[draas.ServiceID]string
	// Servers are the sites of a service's servers by their name in HAProxy,
	// where the addresses there are not those of the service's file.
	Servers map[draas.ServiceID]map[string]draas.SiteID
}

// Driver drives one HAProxy.
type Driver struct {
	cfg            Config
	socket, master cli
}

// name is what HAProxy takes for one of a proxy or a server, and what cannot
// be taken for more than one word of a command.
var name = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,128}$`)

// New checks the configuration. HAProxy need not run yet.
func New(cfg Config) (*Driver, error) {
	if cfg.Socket == "" {
		return nil, errors.New("haproxy: no stats socket is given")
	}
	for id, backend := range cfg.Backends {
		if !name.MatchString(backend) {
			return nil, fmt.Errorf("haproxy: service %s: %q cannot be the name of a backend", id, backend)
		}
	}
	return &Driver{cfg: cfg, socket: cli{cfg.Socket}, master: cli{cfg.Master}}, nil
}

func (d *Driver) backend(id draas.ServiceID) (string, error) {
	if b, ok := d.cfg.Backends[id]; ok {
		return b, nil
	}
	if !name.MatchString(string(id)) {
		return "", fmt.Errorf("service %q cannot be the name of a backend", id)
	}
	return string(id), nil
}

// view is a service's backend as HAProxy has it now.
type view struct {
	backend  string
	servers  []server
	sites    []draas.SiteID // of each server; empty: of none that the file has
	sessions map[string]int64
}

// read asks for the backend's servers, and what is under way to them.
func (d *Driver) read(ctx context.Context, svc *frontend.Spec) (*view, error) {
	backend, err := d.backend(svc.Service)
	if err != nil {
		return nil, err
	}
	text, err := d.socket.ask(ctx, "show servers state "+backend)
	if err != nil {
		return nil, err
	}
	v := &view{backend: backend}
	if v.servers, err = parseServers(text); err != nil {
		return nil, fmt.Errorf("servers of backend %s: %w", backend, err)
	}
	if len(v.servers) == 0 {
		return nil, fmt.Errorf("backend %s has no servers", backend)
	}
	for _, s := range v.servers {
		if s.backend != backend {
			return nil, fmt.Errorf("asked for backend %s, told of %s", backend, s.backend)
		}
		site, err := d.site(svc, s)
		if err != nil {
			return nil, err
		}
		v.sites = append(v.sites, site)
	}
	return v, d.count(ctx, v)
}

func (d *Driver) count(ctx context.Context, v *view) error {
	const servers = 4 // the bit of "show stat" for them
	text, err := d.socket.ask(ctx, fmt.Sprintf("show stat %d %d -1", v.servers[0].proxy, servers))
	if err != nil {
		return err
	}
	if v.sessions, err = parseSessions(text, v.backend); err != nil {
		return fmt.Errorf("statistics of backend %s: %w", v.backend, err)
	}
	for _, s := range v.servers {
		if _, ok := v.sessions[s.name]; !ok {
			return fmt.Errorf("statistics of backend %s: nothing of server %s", v.backend, s.name)
		}
	}
	return nil
}

// site says whose a server is.
func (d *Driver) site(svc *frontend.Spec, s server) (draas.SiteID, error) {
	if names := d.cfg.Servers[svc.Service]; names != nil {
		return names[s.name], nil
	}
	var found draas.SiteID
	for _, id := range slices.Sorted(maps.Keys(svc.Sites)) {
		if !slices.Contains(svc.Sites[id], frontend.Server{Address: s.address}) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("server %s at %s is of two sites, %s and %s", s.name, s.address, found, id)
		}
		found = id
	}
	return found, nil
}

// of lists a site's servers.
func (v *view) of(site draas.SiteID, in bool) []server {
	var out []server
	for i, s := range v.servers {
		if (v.sites[i] == site && site != "") == in {
			out = append(out, s)
		}
	}
	return out
}

func (v *view) under(servers []server) (n int64) {
	for _, s := range servers {
		n += v.sessions[s.name]
	}
	return n
}

// Lead puts the servers of all other sites into maintenance, ends what is
// under way to them, and then lets the site's own in.
func (d *Driver) Lead(ctx context.Context, svc *frontend.Spec, to frontend.Leading) error {
	v, err := d.read(ctx, svc)
	if err != nil {
		return err
	}
	ours, others := v.of(to.Site, true), v.of(to.Site, false)
	if to.Site != "" && len(ours) == 0 {
		return fmt.Errorf("backend %s has no server of site %s", v.backend, to.Site)
	}
	var commands []string
	for _, s := range others {
		commands = append(commands, d.set(v, s, "maint"), d.shutdown(v, s))
	}
	if to.Draining {
		for _, s := range ours {
			if s.state() == ready {
				commands = append(commands, d.set(v, s, "drain"))
			}
		}
	}
	if err := d.socket.tell(ctx, commands); err != nil {
		return err
	}
	if err := d.clear(ctx, v, others); err != nil {
		return err
	}
	if to.Draining {
		return nil
	}
	if err := d.endOld(ctx); err != nil {
		return err
	}
	commands = nil
	for _, s := range ours {
		commands = append(commands, d.set(v, s, "ready"))
	}
	return d.socket.tell(ctx, commands)
}

func (d *Driver) set(v *view, s server, state string) string {
	return fmt.Sprintf("set server %s/%s state %s", v.backend, s.name, state)
}

func (d *Driver) shutdown(v *view, s server) string {
	return fmt.Sprintf("shutdown sessions server %s/%s", v.backend, s.name)
}

// again is the time between two looks at what has to end.
const again = 2 * time.Millisecond

// clear waits until nothing is under way to servers that nothing new is led
// to: a session may have been given one right before.
func (d *Driver) clear(ctx context.Context, v *view, servers []server) error {
	for {
		if err := d.count(ctx, v); err != nil {
			return err
		}
		var commands []string
		for _, s := range servers {
			if v.sessions[s.name] > 0 {
				commands = append(commands, d.shutdown(v, s))
			}
		}
		if len(commands) == 0 {
			return nil
		}
		if err := d.socket.tell(ctx, commands); err != nil {
			return err
		}
		if err := pause(ctx, again); err != nil {
			return fmt.Errorf("%d sessions of backend %s do not end: %w", v.under(servers), v.backend, err)
		}
	}
}

// endOld ends the workers that reloads have left behind.
func (d *Driver) endOld(ctx context.Context) error {
	if d.cfg.Master == "" {
		return nil
	}
	for {
		pids, err := d.old(ctx)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := d.terminate(ctx, pid); err != nil {
				return fmt.Errorf("end the old worker %d: %w", pid, err)
			}
		}
		if err := pause(ctx, again); err != nil {
			return fmt.Errorf("old workers %v do not end: %w", pids, err)
		}
	}
}

// terminate ends one old worker. The process is held before the master is
// asked once more, so that its number cannot be another's by then.
func (d *Driver) terminate(ctx context.Context, pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // nothing is left to be done
	pids, err := d.old(ctx)
	if err != nil || !slices.Contains(pids, pid) {
		return err
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// old lists the workers that reloads have left behind.
func (d *Driver) old(ctx context.Context) ([]int, error) {
	text, err := d.master.ask(ctx, "show proc")
	if err != nil {
		return nil, err
	}
	pids, err := parseOld(text)
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	return pids, nil
}

// See reads the servers' states, and what is under way to them. A site is led
// to if any of its servers is ready: which of them are is for people to say.
func (d *Driver) See(ctx context.Context, svc *frontend.Spec) (frontend.Leading, error) {
	v, err := d.read(ctx, svc)
	if err != nil {
		return frontend.Leading{}, err
	}
	var led, drained []draas.SiteID
	for i, s := range v.servers {
		switch site := v.sites[i]; {
		case s.state() == ready:
			led = append(led, site)
		case s.state() == drain || v.sessions[s.name] > 0:
			drained = append(drained, site)
		}
	}
	led, drained = slices.Compact(slices.Sorted(slices.Values(led))), slices.Compact(slices.Sorted(slices.Values(drained)))
	// Of the site that is led to, some servers may be drained by people.
	all := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(led), drained...))))
	switch {
	case len(all) == 0:
		return frontend.Leading{}, nil
	case len(all) > 1 || all[0] == "":
		return frontend.Leading{}, fmt.Errorf("%w: backend %s leads to %q, and drains %q", frontend.ErrTampered, v.backend, led, drained)
	}
	return frontend.Leading{Site: all[0], Draining: len(led) == 0}, nil
}

// Count counts the sessions of a site's servers. What a worker has that a
// reload left behind is not told any more: it counts for one.
func (d *Driver) Count(ctx context.Context, svc *frontend.Spec, site draas.SiteID) (int64, error) {
	v, err := d.read(ctx, svc)
	if err != nil {
		return 0, err
	}
	n := v.under(v.of(site, true))
	if d.cfg.Master != "" {
		pids, err := d.old(ctx)
		if err != nil {
			return 0, err
		}
		n += int64(len(pids))
	}
	return n, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func joined(host, port string) (string, error) {
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("port %q", port)
	}
	return net.JoinHostPort(host, port), nil
}
