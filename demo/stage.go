package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// stage is one cluster with everything around it: directory, addresses, links,
// processes and who watches them.
type stage struct {
	options Options
	dir     string
	net     *network
	links   *links
	crew    *crew
	line    *timeline
	watch   *observer
	users   *crowd

	wg     sync.WaitGroup // of the watchers
	hush   func()         // ends them
	closes []func() error // last in, first out
}

// socketRoom is what must be left of a unix socket's path, at most 107 bytes,
// for what stands below the stage's directory.
const socketRoom = len("/primary/data/draasd.sock") + len(".lock")

// setStage makes the directory, the links and the files. close ends it all,
// also when setStage failed half way.
func setStage(ctx context.Context, o Options, line *timeline) (*stage, error) {
	s := &stage{options: o, line: line, users: newCrowd(line), hush: func() {}}
	if err := s.set(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stage) set(ctx context.Context) (err error) {
	if err := s.makeDir(); err != nil {
		return err
	}
	if s.net, err = takeNetwork(); err != nil {
		return err
	}
	s.closes = append(s.closes, s.net.close)
	if err := s.writeFiles(ctx); err != nil {
		return err
	}
	if s.links, err = layLinks(s.net, s.options.Scheme); err != nil {
		return err
	}
	s.closes = append(s.closes, func() error { s.links.close(); return nil })
	logs := filepath.Join(s.dir, "log")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return fmt.Errorf("make directory of logs: %w", err)
	}
	s.crew = newCrew(logs)
	s.closes = append(s.closes, s.crew.close)
	return nil
}

// close ends the stage: processes first, the directory last.
func (s *stage) close() error {
	var errs []error
	for i := len(s.closes) - 1; i >= 0; i-- {
		errs = append(errs, s.closes[i]())
	}
	s.closes = nil
	return errors.Join(errs...)
}

func (s *stage) makeDir() error {
	base := s.options.Dir
	if base == "" {
		base = os.TempDir()
		if len(base)+len("/draas-demo-0123456789")+socketRoom > 107 {
			base = "/tmp" // a long TMPDIR leaves no room for the sockets' names
		}
	}
	dir, err := os.MkdirTemp(base, "draas-demo-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s.dir = dir
	if s.options.Dir == "" {
		s.closes = append(s.closes, func() error {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("remove directory: %w", err)
			}
			return nil
		})
	}
	return nil
}

// writeFiles lets draasd init make the certificates and directories of three
// members, and gives them the demo's own failover.toml.
func (s *stage) writeFiles(ctx context.Context) error {
	cluster := filepath.Join(s.dir, "cluster")
	out, err := exec.CommandContext(ctx, s.options.Draasd, "init", cluster).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make cluster: draasd init: %w: %s", err, out)
	}
	text := []byte(failoverTOML(s.net, s.options.Profile, s.options.Scheme))
	for _, m := range members() {
		if err := os.WriteFile(s.config(m), text, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return s.makeEdges(ctx, text)
}

func (s *stage) home(m draas.MemberID) string   { return filepath.Join(s.dir, "cluster", string(m)) }
func (s *stage) config(m draas.MemberID) string { return filepath.Join(s.home(m), "failover.toml") }
func (s *stage) control(m draas.MemberID) string {
	return filepath.Join(s.home(m), "data", "draasd.sock")
}

// start starts every process of the cluster, and who watches it.
func (s *stage) start(ctx context.Context) error {
	for _, m := range members() {
		if m != witness {
			serve := ServeOptions{Listen: s.net.backendOf(m), Control: s.control(m), Service: service, Site: m.Site()}
			if err := s.launch(serviceOf(m), m, serve.args()...); err != nil {
				return err
			}
			if err := s.launch(string(m)+"-guard", m, "guard", "-c", s.config(m)); err != nil {
				return err
			}
		}
		if err := s.launch(daemonOf(m), m, "run", "-c", s.config(m)); err != nil {
			return err
		}
	}
	if err := s.startEdges(); err != nil {
		return err
	}
	s.watch = newObserver(s.control(witness), s.line)
	watching, stop := context.WithCancel(ctx)
	s.wg.Go(func() { s.watch.follow(watching) })
	s.wg.Go(func() { s.keepWriting(watching) })
	s.hush = sync.OnceFunc(func() {
		stop()
		s.wg.Wait()
		s.watch.client.Close()
	})
	s.closes = append(s.closes, func() error { s.hush(); return nil })
	return nil
}

// launch starts draasd in one of its roles.
func (s *stage) launch(name string, m draas.MemberID, args ...string) error {
	_, err := s.crew.start(process{name: name, member: m, argv: append([]string{s.options.Draasd}, args...)})
	return err
}

func daemonOf(m draas.MemberID) string  { return string(m) + "-draasd" }
func serviceOf(m draas.MemberID) string { return string(m) + "-service" }

// keepWriting writes the timeline as it goes.
func (s *stage) keepWriting(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.line.flush(now.Add(-settleLines))
		case <-ctx.Done():
			s.line.flushAll()
			return
		}
	}
}

// process finds a living process by name.
func (s *stage) process(name string, m draas.MemberID) (*child, error) {
	for _, p := range s.crew.of(m) {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s does not run", name)
}

// The longest that the steps of a healthy cluster may take on a loaded
// machine; they take a second or two.
const (
	startLimit    = 30 * time.Second
	activateLimit = 20 * time.Second
)

// activate brings the service up at the primary site, as an operator would.
func (s *stage) activate(ctx context.Context) error {
	if _, err := s.watch.await(ctx, "the cluster is ready", startLimit, ready, s.crew.fault); err != nil {
		return err
	}
	s.line.add(time.Now(), plain, "two sites and a witness are up: draasd activate %s %s", service, primary)
	s.watch.start()
	client := api.Unix(s.control(primary))
	defer client.Close()
	asking, cancel := context.WithTimeout(ctx, activateLimit)
	defer cancel()
	answer, err := client.Request(asking, api.Request{Service: service, Site: primary.Site(),
		Request: failover.Request{Move: failover.MoveActivate, Operator: "draasd demo"}})
	if err != nil {
		return err
	}
	if !answer.Accepted {
		return fmt.Errorf("activate %s: %s", service, recordLine(answer.Record).text)
	}
	if _, err := s.watch.await(ctx, "the service is active", activateLimit, active, s.crew.fault); err != nil {
		return err
	}
	_, err = s.watch.await(ctx, "the log is led from elsewhere", 5*time.Second, ledElsewhere, s.crew.fault)
	if errors.Is(err, errWait) {
		s.line.add(time.Now(), doubt, "the active site leads the log: its end takes the leader along")
	} else if err != nil {
		return err
	}
	if s.options.Scheme == schemeFrontend {
		return s.reachable(ctx, s.net.edgeAt(), 1)
	}
	return s.reachable(ctx, s.net.usersAt(primary), 1)
}

// reachable waits until users get an answer at an address that is stamped with
// the epoch.
func (s *stage) reachable(ctx context.Context, at string, epoch draas.Epoch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, activateLimit,
		fmt.Errorf("%w until users reach %s at epoch %d", errWait, at, epoch))
	defer cancel()
	for {
		if e, ok := ask(ctx, at); ok && e == epoch {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ask asks once, on a connection of its own, and tells the epoch of a good
// answer.
func ask(ctx context.Context, at string) (draas.Epoch, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/", nil)
	if err != nil {
		return 0, false
	}
	res, err := t.RoundTrip(req)
	if err != nil {
		return 0, false
	}
	defer res.Body.Close()
	var epoch draas.Epoch
	if _, err := fmt.Sscan(res.Header.Get(measure.HeaderEpoch), &epoch); err != nil {
		return 0, false
	}
	return epoch, res.StatusCode == http.StatusOK
}

// stopReport ends rtotest so that it reports, and waits for it.
func stopReport(ctx context.Context, p *child) error {
	p.meant.Store(true)
	if err := p.signal(syscall.SIGINT); err != nil {
		return err
	}
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("end rtotest: %w", p.err)
		}
		return nil
	case <-limit.C:
		return errors.New("end rtotest: it does not report")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
