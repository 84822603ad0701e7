package soak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// stage is the cluster with all around it.
type stage struct {
	dir       string
	draasd    string
	book      *book
	router    *lab.Machine
	hosts     map[string]*host
	users     []*lab.Machine
	cuts      *cuts
	operators *operators
	files     sync.Mutex // held while the members' files are changed
	ca        string     // directory of the CA that issues certificates

	keepers sync.WaitGroup // of processes
	errs    chan error     // of theirs
	quit    context.CancelFunc
	closes  []func() error // last in, first out
}

// userPlaces is where users are: beside each site, so that nothing that the
// site is cut off by comes between, and outside.
var userPlaces = []string{primary, dr, outside}

// near names the users' machine at a place.
func near(place string) string { return "near-" + place }

// setStage makes the machines and the cluster; nothing runs yet. close ends
// it, also when setStage failed half way.
func setStage(dir, draasd string, b *book) (*stage, error) {
	s := &stage{dir: dir, draasd: draasd, book: b, hosts: make(map[string]*host), quit: func() {}}
	if err := s.set(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stage) set() error {
	cluster, logs := filepath.Join(s.dir, "cluster"), filepath.Join(s.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return fmt.Errorf("make directory of logs: %w", err)
	}
	if out, err := exec.Command(s.draasd, "init", cluster, "--profile", "fast").CombinedOutput(); err != nil {
		return fmt.Errorf("make cluster: %w: %s", err, out)
	}
	s.ca = filepath.Join(cluster, "ca")
	var err error
	if s.router, err = newRouter(); err != nil {
		return err
	}
	s.closes = append(s.closes, s.router.Close)
	s.cuts = &cuts{load: func(ruleset string) error { return loadRules(s.router, ruleset) }}
	for _, name := range members {
		dir := filepath.Join(cluster, name)
		if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
			return fmt.Errorf("make directory of sockets: %w", err)
		}
		if err := writeFile(dir, failoverTOML(0)); err != nil {
			return err
		}
		h, err := newHost(name, dir, s.draasd, s.router, logs, s.ended)
		if err != nil {
			return err
		}
		s.hosts[name] = h
		s.closes = append(s.closes, h.close)
	}
	file := filepath.Join(cluster, primary, "failover.toml")
	if out, err := exec.Command(s.draasd, "check", "-c", file).CombinedOutput(); err != nil {
		return fmt.Errorf("check failover.toml: %w: %s", err, out)
	}
	for _, place := range userPlaces {
		m, err := lab.New(near(place))
		if err != nil {
			return err
		}
		s.users = append(s.users, m)
		s.closes = append(s.closes, m.Close)
		if err := plug(m, s.router, []string{usersAddress(place)}); err != nil {
			return err
		}
	}
	s.operators = newOperators(s.hosts, s.book)
	s.closes = append(s.closes, func() error { s.operators.close(); return nil })
	return nil
}

// writeFile puts one of the cluster's files in a member's directory.
func writeFile(dir, text string) error {
	return replace(filepath.Join(dir, "failover.toml"), []byte(text))
}

// replace writes a file, whole or not at all: somebody may be reading it.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// ended is told of a process that ended by itself.
func (s *stage) ended(h *host, p *lab.Process, err error, said string) {
	if h.excused(p, err, said) {
		s.book.note("%s ended, and had to: %v", p.Name, err)
		return
	}
	s.book.violate("%s ended by itself: %v: %s", p.Name, err, lastLine(said))
}

// run starts all processes, to be kept running until close.
func (s *stage) run() {
	ctx, quit := context.WithCancel(context.Background())
	s.quit = quit
	var all []*lab.Process
	for _, name := range members {
		all = append(all, s.hosts[name].processes()...)
	}
	s.errs = make(chan error, len(all))
	for _, p := range all {
		s.keepers.Go(func() { s.errs <- p.Run(ctx) })
	}
}

// close kills every process and takes the machines down.
func (s *stage) close() error {
	s.quit()
	s.keepers.Wait()
	var errs []error
	if s.errs != nil {
		close(s.errs)
		for err := range s.errs {
			errs = append(errs, err)
		}
		s.errs = nil
	}
	for i := len(s.closes) - 1; i >= 0; i-- {
		errs = append(errs, s.closes[i]())
	}
	s.closes = nil
	return errors.Join(errs...)
}

// save copies what stands on the members' disks to where it outlives the
// machines.
func (s *stage) save() error {
	var errs []error
	for name, h := range s.hosts {
		to := filepath.Join(s.dir, "data-"+name)
		if err := os.CopyFS(to, os.DirFS(h.Path(h.data()))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("save data of %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

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
		pause(ctx, 100*time.Millisecond)
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
