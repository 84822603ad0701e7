package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas/internal/lab"
)

// Services are those that a site can have beside Keystone.
func Services() []string {
	return []string{"glance", "neutron", "nova", "cinder", "swift", "designate"}
}

// Options of a site.
type Options struct {
	Name string // as in clouds.yaml: "east"
	// Number tells sites of one machine apart: its address is 127.0.1.NUMBER.
	Number int
	Dir    string // of its own; empty or not there
	// Schemas may be shared by sites.
	Schemas *Schemas
	// Services beside Keystone; nil: all. What another needs is not added.
	Services []string
	// Workers are Neutron's API processes; 0: it does all in its one, which starts
	// sooner and answers one request at a time.
	Workers int
	Say     io.Writer // progress; nil: nobody
}

// Site is a cloud that runs.
type Site struct {
	Options
	Host string

	began     time.Time
	stop      context.CancelFunc
	all       sync.WaitGroup
	mu        sync.Mutex
	errs      []error
	processes map[string]*lab.Process
}

// Password of the user admin, and of every service.
const Password = "draas-lab"

// Region of every site: two sites are two clouds, not two regions of one.
const Region = "RegionOne"

// Start starts a site and waits until all of it answers. It takes about a
// minute and two cores. Stop ends it, and leaves the files in Dir.
func Start(ctx context.Context, o Options) (*Site, error) {
	if o.Services == nil {
		o.Services = Services()
	}
	runs, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Site{Options: o, Host: fmt.Sprintf("127.0.1.%d", o.Number), began: time.Now(), stop: stop, processes: make(map[string]*lab.Process)}
	if err := s.start(ctx, runs); err != nil {
		return nil, errors.Join(fmt.Errorf("start site %s: %w", o.Name, err), s.Stop())
	}
	return s, nil
}

// Stop ends every process of the site and waits for that. What ended by itself
// before is the error.
func (s *Site) Stop() error {
	s.stop()
	s.all.Wait()
	return s.ended()
}

// ended is what has ended by itself so far.
func (s *Site) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// Process is one of the site's, to be stopped and held: "keystone", "mariadb".
func (s *Site) Process(name string) *lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes[name]
}

// Clouds is a clouds.yaml of the admins of sites.
func Clouds(sites ...*Site) string {
	text := "clouds:\n"
	for _, s := range sites {
		text += s.entry()
	}
	return text
}

func (s *Site) entry() string {
	return fmt.Sprintf(`  %s:
    auth:
      auth_url: http://%s:5000/v3
      username: admin
      password: %s
      project_name: admin
      user_domain_id: default
      project_domain_id: default
    region_name: %s
    identity_api_version: 3
    interface: public
`, s.Name, s.Host, Password, Region)
}

func (s *Site) has(service string) bool { return slices.Contains(s.Services, service) }

func (s *Site) say(format string, args ...any) {
	if s.Say != nil {
		fmt.Fprintf(s.Say, "%6.1f s  %s: %s\n", time.Since(s.began).Seconds(), s.Name, fmt.Sprintf(format, args...))
	}
}

func (s *Site) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// start brings the site up: databases and files at the same time, then the
// processes, then the catalog.
func (s *Site) start(ctx, runs context.Context) error {
	for _, dir := range []string{"etc", "etc/glance", "etc/swift", "db", "log", "lock", "data", "data/keystone", "data/glance/images",
		"data/glance/staging", "data/glance/tasks", "data/swift/d1", "data/named/zones", "tmp", "py"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(s.writeConfigs(), s.writePrograms()); err != nil {
		return err
	}
	s.run(runs, "memcached", nil, "/usr/bin/memcached", "-u", "root", "-l", s.Host, "-p", "11211", "-m", "32")
	g, prepare := errgroup.WithContext(ctx)
	g.Go(func() error { return s.bootstrap(prepare, runs) })
	for _, name := range s.Services {
		g.Go(func() error { return s.prepare(prepare, runs, name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.say("databases and files are ready")
	s.runKeystone(runs)
	for _, name := range s.Services {
		if name != "nova" { // asks the catalog at its start
			s.runService(runs, name)
		}
	}
	if err := s.await(ctx, "keystone"); err != nil {
		return err
	}
	if err := s.tool(ctx, nil, python, s.path("py/catalog.py"), s.Host, Region, Password, strings.Join(s.Services, " ")); err != nil {
		return err
	}
	s.say("catalog is filled")
	if s.has("nova") {
		s.runService(runs, "nova")
	}
	for _, name := range s.Services {
		if err := s.await(ctx, name); err != nil {
			return err
		}
	}
	s.say("up at %s", s.Host)
	return nil
}

// run keeps a process running until the site is stopped. One that ends by
// itself is a fault of the site's.
func (s *Site) run(ctx context.Context, name string, env []string, argv ...string) {
	p := lab.NewProcess(name, s.path("log", name+".out"), func() *exec.Cmd {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = s.path("tmp"), s.environment(env)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		return cmd
	}, func(p *lab.Process, err error, said string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, fmt.Errorf("%s ended by itself (%w): %s", p.Name, err, tail(said)))
	})
	s.mu.Lock()
	s.processes[name] = p
	s.mu.Unlock()
	s.all.Go(func() {
		if err := p.Run(ctx); err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, err)
			s.mu.Unlock()
		}
	})
}

// environment keeps the Python of the caller's out of it: Debian's modules are
// those of Debian's interpreter.
func (s *Site) environment(more []string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=" + s.path("tmp"),
		"TMPDIR=" + s.path("tmp"), "PYTHONNOUSERSITE=1", "PYTHONPATH=" + s.path("py")}, more...)
}

// tool runs a program to its end.
func (s *Site) tool(ctx context.Context, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.path("tmp"), s.environment(env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(string(out)))
	}
	return nil
}

// tail is the end of what was said, which tells why.
func tail(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// patience is for a start on a busy machine with two cores.
const patience = 8 * time.Minute

// await waits until a service answers, or its process has ended.
func (s *Site) await(ctx context.Context, name string) error {
	url := "http://" + s.Host + answers[name]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		code, err := get(ctx, &client, url)
		if err == nil && (code == http.StatusOK || code == http.StatusMultipleChoices || code == http.StatusUnauthorized) {
			s.say("%s answers", name)
			return nil
		}
		if ended := s.ended(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			said, _ := os.ReadFile(s.path("log", name+".out")) // for people
			return fmt.Errorf("%s does not answer at %s (%d, %w): %s", name, url, code, errors.Join(err, ctx.Err()), tail(string(said)))
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
