package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/internal/lab/nameserver"
)

// world is the machines of a column with all that runs in them. It is kept
// from run to run.
type world struct {
	column
	o       Options
	dir     string
	net     *network
	procs   map[string]*lab.Process
	names   []string          // of procs, in the order of their start
	where   map[string]string // the machine of each
	clients map[string]*api.Client
	budget  []config.RTO                // what the file implies
	asking  []asking                    // who asks, and from where
	key     nameserver.Key              // of updates to the zone, where it is on a server outside
	calm    lab.Calm                    // since all was well, or the disaster struck
	front   string                      // the frontend that is struck: the one that users come by
	clouds  map[string]*fakecloud.Cloud // by their machine
	feed    *feed                       // nil: nobody writes at a cloud

	mu    sync.Mutex
	wrong []string // what must not have happened since it was asked last

	ctx     context.Context // of the processes
	quit    context.CancelFunc
	keepers sync.WaitGroup
	errs    chan error
}

// maxProcs bounds the processes of a world.
const maxProcs = 64

// newWorld makes a column's world and waits until all of it is well. close
// ends it, also when newWorld failed half way.
func newWorld(ctx context.Context, o Options, c column, dir string) (*world, error) {
	w := &world{column: c, o: o, dir: dir, procs: make(map[string]*lab.Process), where: make(map[string]string), clients: make(map[string]*api.Client), clouds: make(map[string]*fakecloud.Cloud), errs: make(chan error, maxProcs)}
	w.ctx, w.quit = context.WithCancel(context.Background())
	w.keepers.Go(func() { w.calm.Watch(w.ctx) })
	if err := w.set(ctx); err != nil {
		err = fmt.Errorf("set up %s: %w", c.Name, err)
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) set(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Join(w.dir, "logs"), 0o700); err != nil {
		return fmt.Errorf("make directory of logs: %w", err)
	}
	if w.net, err = newNetwork(); err != nil {
		return err
	}
	if err := w.layWAN(ctx); err != nil {
		return err
	}
	if err := w.people(); err != nil {
		return err
	}
	if w.Peer != nil {
		return w.peers(ctx)
	}
	if err := w.cluster(); err != nil {
		return err
	}
	w.whoAsks()
	if err := w.activate(ctx); err != nil {
		return err
	}
	return w.well(ctx, primary)
}

// start starts a program in a machine, to be kept running.
func (w *world) start(name, machine string, argv ...string) {
	m := w.net.router
	if machine != "router" {
		m = w.net.machines[machine]
	}
	p := lab.NewProcess(name, filepath.Join(w.dir, "logs", name+".log"), func() *exec.Cmd { return m.Command("/", argv...) },
		func(p *lab.Process, err error, said string) {
			w.violate("%s ended by itself: %v: %s", p.Name, err, lastLine(said))
		})
	w.procs[name], w.where[name] = p, machine
	w.names = append(w.names, name)
	w.keepers.Go(func() { w.errs <- p.Run(w.ctx) })
}

func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// violations are what must not have happened, since this was called last.
func (w *world) violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.wrong
	w.wrong = nil
	return all
}

func lastLine(said string) string {
	said = strings.TrimSpace(said)
	return said[strings.LastIndexByte(said, '\n')+1:]
}

// layWAN starts the wide area and leads the places' packets through it.
func (w *world) layWAN(ctx context.Context) error {
	w.start("wan", "router", w.o.Self, roleWAN, "-way", w.o.Ways.String())
	err := await(ctx, startLimit, func(context.Context) error {
		_, err := w.net.router.Run("/", "ip", "link", "show", "dev", wanDevice)
		return err
	})
	if err != nil {
		return fmt.Errorf("wide area: %w", err)
	}
	return w.net.joinWAN()
}

// people makes the machines that every column has: the sites', the users' and
// their resolver's.
func (w *world) people() error {
	for _, m := range members {
		if _, err := w.net.add(m, m, hostMember); err != nil {
			return err
		}
	}
	for _, s := range sites {
		if _, err := w.net.addBehind(s); err != nil {
			return err
		}
		if _, err := w.net.add(nearHost(s), s, hostNear); err != nil {
			return err
		}
	}
	if w.Pair {
		if _, err := w.net.add(nearHost(edge), edge, hostNear); err != nil {
			return err
		}
	}
	if _, err := w.net.add(users, outside, hostMember); err != nil {
		return err
	}
	_, err := w.net.add(resolver, outside, hostResolver)
	return err
}

func (w *world) home(who string) string { return filepath.Join(w.dir, "cluster", who) }
func (w *world) file(who string) string { return filepath.Join(w.home(who), "failover.toml") }
func (w *world) socket(who, name string) string {
	return filepath.Join(w.home(who), "run", name)
}

// cluster makes the cluster's files and starts its processes.
func (w *world) cluster() error {
	if err := w.draasd("init", filepath.Join(w.dir, "cluster"), "--profile", w.profile()); err != nil {
		return err
	}
	whose := slices.Clone(members)
	for _, f := range w.frontends() {
		whose = append(whose, f.name)
		if err := w.draasd("issue", f.name, "--frontend", "--ca", filepath.Join(w.dir, "cluster", "ca"), "--out", filepath.Join(w.home(f.name), "tls")); err != nil {
			return err
		}
		if _, err := w.net.add(f.name, f.place, f.host); err != nil {
			return err
		}
	}
	if w.BIND {
		if err := w.startNamed(); err != nil {
			return err
		}
	}
	text := []byte(w.failoverTOML())
	for _, who := range whose {
		if err := os.MkdirAll(filepath.Join(w.home(who), "run"), 0o700); err != nil {
			return fmt.Errorf("make directory of sockets: %w", err)
		}
		if err := os.WriteFile(w.file(who), text, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		if err := os.WriteFile(filepath.Join(w.home(who), "dns.key"), []byte(w.key.File()), 0o600); err != nil {
			return fmt.Errorf("write key: %w", err)
		}
	}
	if w.clouded() {
		if err := w.startClouds(); err != nil {
			return err
		}
	}
	if err := w.draasd("check", "-c", w.file(primary)); err != nil {
		return err
	}
	parsed, err := config.Parse(w.file(primary), text)
	if err != nil {
		return fmt.Errorf("read own configuration: %w", err)
	}
	w.budget = parsed.RTO(service)
	if err := w.startResolver(); err != nil {
		return err
	}
	for _, s := range sites {
		w.start(s+"-counter", serviceHost(s), w.counterArgs(s, w.socket(s, "draasd.sock"))...)
		w.start(s+"-guard", s, w.o.Draasd, "guard", "-c", w.file(s))
	}
	for _, m := range members {
		w.clients[m] = api.Unix(w.socket(m, "draasd.sock"))
		w.start(m+"-daemon", m, w.o.Draasd, "run", "-c", w.file(m))
	}
	for _, f := range w.frontends() {
		w.start(f.name+"-frontend", f.name, w.o.Draasd, "frontend", "-c", w.file(f.name))
	}
	return nil
}

// counterArgs is the command of a site's service.
func (w *world) counterArgs(site, control string) []string {
	other := sites[1-slices.Index(sites, site)]
	at := func(s string, port int) string { return fmt.Sprintf("%s:%d", serviceAddress(s), port) }
	return []string{w.o.Self, roleCounter, "-listen", at(site, webPort), "-replica", at(site, replicaPort), "-other", at(other, replicaPort),
		"-lag", w.o.Lag.String(), "-control", control, "-service", service, "-site", site}
}

func (w *world) draasd(args ...string) error {
	if out, err := exec.Command(w.o.Draasd, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("draasd %s: %w: %s", args[0], err, out)
	}
	return nil
}

// startResolver starts a real caching resolver outside, which knows the zone's
// servers and nobody else.
func (w *world) startResolver() error {
	at := address(outside, hostResolver)
	conf := fmt.Sprintf(`server:
  interface: %s
  access-control: 10.91.0.0/16 allow
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  module-config: "iterator"
  cache-min-ttl: 0
  serve-expired: no
  root-hints: ""
remote-control:
  control-enable: no
stub-zone:
  name: %s
`, at, w.dir, zone)
	for _, a := range w.authorities() {
		conf += "  stub-addr: " + strings.TrimSuffix(a, fmt.Sprintf(":%d", dnsPort)) + "\n"
	}
	file := filepath.Join(w.dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return fmt.Errorf("write configuration of the resolver: %w", err)
	}
	w.start("unbound", resolver, "unbound", "-d", "-c", file)
	return nil
}

// close kills every process and takes the machines down.
func (w *world) close() error {
	for _, c := range w.clients {
		c.Close()
	}
	w.quit()
	w.keepers.Wait()
	for _, c := range w.clouds {
		c.Close()
	}
	close(w.errs)
	var errs []error
	for err := range w.errs {
		errs = append(errs, err)
	}
	if w.net != nil {
		errs = append(errs, w.net.end())
	}
	return errors.Join(errs...)
}

// startLimit bounds each step of the set-up, and homeLimit the way back after
// a run. They hold several leases, elections and detections, on a machine that
// is shared.
const (
	startLimit = 2 * time.Minute
	homeLimit  = 2 * time.Minute
)

// await polls until ok is without error, for at most limit.
func await(ctx context.Context, limit time.Duration, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			if last == nil {
				last = err
			}
			return fmt.Errorf("not within %v: %w", limit, last)
		}
		last = err
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
