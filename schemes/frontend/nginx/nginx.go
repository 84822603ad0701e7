// Package nginx drives a running nginx (1.12 or later) by a file that it
// includes and a reload: the file has the upstream of the active site's
// servers, and a socket that tells which file nginx runs by.
// etc/frontend/nginx.conf shows the lines that it needs.
package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Config says which nginx.
type Config struct {
	// Include is the directory of the included files: http/SERVICE.conf within
	// http{}, stream/SERVICE.conf within stream{}, and beside each its socket.
	// It should not survive a reboot (/run/draas/nginx): an nginx that starts
	// must not lead where it once led.
	Include string
	// Streams are the services within stream{}.
	Streams []draas.ServiceID
	// PIDFile has the number of nginx's master process; /run/nginx.pid if
	// empty.
	PIDFile string
	// Test and Reload are commands; "nginx -t -q" and "nginx -s reload" if
	// empty.
	Test, Reload []string
}

// Driver drives one nginx. It has to be the only one that does: its services
// are reloaded one after the other.
type Driver struct {
	cfg Config

	mu sync.Mutex // of reloads, and of what follows
	// seen are the services of which this driver has brought one reload to its
	// end. What it finds before may be amid one.
	seen map[draas.ServiceID]bool
	// stale are workers that may take requests by a file of before the latest
	// reload.
	stale []worker
}

// New checks the configuration. nginx need not run yet.
func New(cfg Config) (*Driver, error) {
	if !filepath.IsAbs(cfg.Include) || !word(cfg.Include) {
		return nil, fmt.Errorf("nginx: %q cannot be the directory of included files", cfg.Include)
	}
	if cfg.PIDFile == "" {
		cfg.PIDFile = "/run/nginx.pid"
	}
	if len(cfg.Test) == 0 {
		cfg.Test = []string{"nginx", "-t", "-q"}
	}
	if len(cfg.Reload) == 0 {
		cfg.Reload = []string{"nginx", "-s", "reload"}
	}
	return &Driver{cfg: cfg, seen: make(map[draas.ServiceID]bool)}, nil
}

func (d *Driver) place(svc *frontend.Spec) place {
	p := place{service: svc.Service, dir: filepath.Join(d.cfg.Include, "http")}
	if p.stream = slices.Contains(d.cfg.Streams, svc.Service); p.stream {
		p.dir = filepath.Join(d.cfg.Include, "stream")
	}
	return p
}

// Lead has nginx run by another file, and ends the workers that lead
// elsewhere. From one site to another it goes by way of nowhere, as old and new
// workers take connections side by side for a moment.
func (d *Driver) Lead(ctx context.Context, svc *frontend.Spec, to frontend.Leading) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.place(svc)
	want, err := p.render(svc, to)
	if err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	runs, err := d.running(ctx, p)
	known := err == nil && d.seen[svc.Service]
	nowhere := known && (runs.Site == "" || runs.Draining)
	switch {
	case known && runs.digest == want.digest && d.holds(p, want):
		if to.Site != "" {
			return nil
		}
		return d.endOld(ctx)
	case to.Site == "" && nowhere && d.matches(p, svc, runs):
		return d.endOld(ctx) // it is what was under way that ends
	case known && runs.Site == to.Site && !runs.Draining && d.ours(p, runs):
		// Other servers of the same site, or it begins to be drained: what is
		// under way there goes on.
		return d.use(ctx, p, want)
	case !nowhere && to.Site != "":
		shut, err := p.render(svc, frontend.Leading{})
		if err != nil {
			return err
		}
		if err := d.use(ctx, p, shut); err != nil {
			return err
		}
	}
	if to.Site == "" {
		return errors.Join(d.use(ctx, p, want), d.endOld(ctx))
	}
	if err := d.endOld(ctx); err != nil {
		return err
	}
	return d.use(ctx, p, want)
}

// holds reports whether the included file is f.
func (d *Driver) holds(p place, f file) bool {
	b, err := os.ReadFile(p.path())
	return err == nil && bytes.Equal(b, f.text)
}

// matches reports whether the included file is the one that nginx runs by.
func (d *Driver) matches(p place, svc *frontend.Spec, runs status) bool {
	f, err := p.render(svc, runs.Leading)
	return err == nil && f.digest == runs.digest && d.holds(p, f)
}

// ours reports whether nginx runs by a file that we wrote, be it for other
// servers than the site has now.
func (d *Driver) ours(p place, runs status) bool {
	b, err := os.ReadFile(p.path())
	return err == nil && intact(b, runs.digest)
}

// poll is the time between two looks at processes.
const poll = 5 * time.Millisecond

// use has nginx run by a file, and returns when no worker takes requests by
// another one.
func (d *Driver) use(ctx context.Context, p place, f file) error {
	if err := replace(p.path(), f.text); err != nil {
		return fmt.Errorf("write included file: %w", err)
	}
	err := run(ctx, d.cfg.Test)
	if err != nil {
		return err
	}
	if d.stale, err = workers(d.cfg.PIDFile); err != nil {
		return err
	}
	if err := run(ctx, d.cfg.Reload); err != nil {
		return err
	}
	for {
		runs, err := d.running(ctx, p)
		if err == nil && runs.digest == f.digest {
			break
		}
		if err == nil {
			err = fmt.Errorf("it runs by %s", runs.digest)
		}
		if perr := pause(ctx, poll); perr != nil {
			return fmt.Errorf("reload nginx to %s: %w (%w)", f.digest, perr, err)
		}
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	d.seen[p.service] = true
	return nil
}

// settle waits until no worker takes requests by an older file: the master
// tells the old ones only 100 ms after the new ones serve.
func (d *Driver) settle(ctx context.Context) error {
	for len(d.stale) > 0 {
		now, err := workers(d.cfg.PIDFile)
		if err != nil {
			return err
		}
		d.stale = slices.DeleteFunc(d.stale, func(old worker) bool {
			return !slices.ContainsFunc(now, func(w worker) bool { return w.same(old) && !w.leaving })
		})
		if len(d.stale) == 0 {
			break
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("reload nginx: worker %d still serves by the old file: %w", d.stale[0].pid, err)
		}
	}
	return nil
}

// endOld ends the workers that finish what is under way, whichever service's
// that is.
func (d *Driver) endOld(ctx context.Context) error {
	for begin := time.Now(); ; {
		now, err := workers(d.cfg.PIDFile)
		if err != nil {
			return err
		}
		old := slices.DeleteFunc(now, func(w worker) bool { return !w.leaving })
		if len(old) == 0 {
			return nil
		}
		for _, w := range old {
			if err := w.end(time.Since(begin) > patience); err != nil {
				return fmt.Errorf("end the old worker %d: %w", w.pid, err)
			}
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("end the old worker %d: %w", old[0].pid, err)
		}
	}
}

// See asks nginx which file it runs by, and compares that with what stands on
// disk.
func (d *Driver) See(ctx context.Context, svc *frontend.Spec) (frontend.Leading, error) {
	p := d.place(svc)
	runs, err := d.running(ctx, p)
	if err != nil {
		return frontend.Leading{}, err
	}
	if !d.matches(p, svc, runs) {
		return frontend.Leading{}, fmt.Errorf("%w: %s is not what draas wrote, or not what nginx runs by", frontend.ErrTampered, p.path())
	}
	if !runs.Draining {
		return runs.Leading, nil
	}
	n, err := d.Count(ctx, svc, runs.Site)
	if err != nil || n > 0 {
		return runs.Leading, err
	}
	return frontend.Leading{}, nil // nothing is under way any more
}

// Count counts the workers that finish what is under way; nginx does not tell
// what that is.
func (d *Driver) Count(context.Context, *frontend.Spec, draas.SiteID) (int64, error) {
	now, err := workers(d.cfg.PIDFile)
	if err != nil {
		return 0, err
	}
	return int64(len(slices.DeleteFunc(now, func(w worker) bool { return !w.leaving }))), nil
}

// answerLimit bounds what is read from the socket.
const answerLimit = 4 << 10

// running asks nginx by which file it runs.
func (d *Driver) running(ctx context.Context, p place) (status, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", p.socket())
	if err != nil {
		return status{}, fmt.Errorf("ask nginx which file it runs by: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends reads
	defer stop()
	if !p.stream {
		if _, err := io.WriteString(conn, "GET /draas HTTP/1.0\r\n\r\n"); err != nil {
			return status{}, fmt.Errorf("ask nginx which file it runs by: %w", err)
		}
	}
	answer, err := io.ReadAll(io.LimitReader(conn, answerLimit))
	if err != nil {
		return status{}, fmt.Errorf("ask nginx which file it runs by: %w", err)
	}
	if !p.stream {
		_, body, found := bytes.Cut(answer, []byte("\r\n\r\n"))
		if !found || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
			return status{}, fmt.Errorf("nginx does not tell which file it runs by: %.100q", answer)
		}
		answer = body
	}
	s, err := parseStatus(answer, p.service)
	if err != nil {
		return status{}, fmt.Errorf("nginx tells which file it runs by: %w", err)
	}
	return s, nil
}

// run runs a command.
func run(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", strings.Join(argv, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// replace writes a file that nginx sees as a whole or not at all.
func replace(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Not by the name that an include of *.conf takes.
	next := path + ".new"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return nil
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
