package fence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// GuardConfig is what a guard holds and where it listens.
type GuardConfig struct {
	// Socket is the path of the unix socket. Beside it stand SOCKET.lock, which
	// keeps a second guard out, and SOCKET.epochs, which remembers the epochs
	// that must not be reopened.
	Socket   string
	Services []Entry
	Clock    Clock        // zero: SystemClock
	Log      *slog.Logger // zero: none
	// Watchdog resets the machine when a fence is not closed at its deadline,
	// within WatchdogTimeout; nil: none. Nothing is opened before every fence
	// was observed closed then.
	Watchdog        Watchdog
	WatchdogTimeout time.Duration
	// StopTimeout bounds the closing at the end; zero: 10 s.
	StopTimeout time.Duration
}

// Guard holds the fences of a machine. Make it with NewGuard; Run it once.
type Guard struct {
	cfg      GuardConfig
	log      *slog.Logger
	journal  *journal // set by Run
	watchdog *petting // nil: none
	ready    chan struct{}

	update sync.Mutex // held by Update

	mu      sync.Mutex
	keepers map[draas.ServiceID]*keeper
	start   func(*keeper) // nil while no keeper can be started
	errs    []error       // of keepers that ended
}

// NewGuard checks the configuration. Nothing happens before Run.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	if cfg.Socket == "" {
		return nil, errors.New("new guard: no socket path")
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 10 * time.Second
	}
	if err := checkEntries(cfg.Services); err != nil {
		return nil, fmt.Errorf("new guard: %w", err)
	}
	g := &Guard{cfg: cfg, log: cfg.Log, keepers: map[draas.ServiceID]*keeper{}, ready: make(chan struct{})}
	if cfg.Watchdog != nil {
		if cfg.WatchdogTimeout < time.Second {
			return nil, fmt.Errorf("new guard: watchdog timeout %v", cfg.WatchdogTimeout)
		}
		if err := cfg.Watchdog.Check(); err != nil {
			return nil, fmt.Errorf("new guard: %w", err)
		}
		g.watchdog = &petting{device: cfg.Watchdog, timeout: cfg.WatchdogTimeout, log: g.log, clock: cfg.Clock, fences: g.all}
	}
	return g, nil
}

func checkEntries(entries []Entry) error {
	seen := map[draas.ServiceID]bool{}
	for _, e := range entries {
		if e.Service == "" || e.Fence == nil {
			return fmt.Errorf("service %q without a name or a fence", e.Service)
		}
		if seen[e.Service] {
			return fmt.Errorf("service %q twice", e.Service)
		}
		seen[e.Service] = true
	}
	return nil
}

// Ready is closed when every fence was observed closed and the socket answers.
func (g *Guard) Ready() <-chan struct{} { return g.ready }

// Run closes every fence, then serves until ctx ends, then closes every fence
// again. It returns nil when all were observed closed at the end. A fence that
// cannot be closed at the start keeps the guard from being ready, but not the
// other services from being opened.
func (g *Guard) Run(ctx context.Context) (err error) {
	if err := makePrivateDir(filepath.Dir(g.cfg.Socket)); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	unlock, err := lockFile(g.cfg.Socket + ".lock")
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if g.journal, err = openJournal(g.cfg.Socket + ".epochs"); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	ln, err := listenUnix(g.cfg.Socket)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return g.hold(ctx, ln)
}

// hold runs the keepers and the server. The server ends first, so that no
// request comes between the closing and the end.
func (g *Guard) hold(ctx context.Context, ln *net.UnixListener) error {
	keep, stopKeepers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeepers()
	final, endFinal := context.WithCancel(context.WithoutCancel(ctx))
	defer endFinal()

	var keepers, waiter sync.WaitGroup
	g.mu.Lock()
	g.start = func(k *keeper) {
		g.keepers[k.Service] = k
		ctx, stop := context.WithCancel(keep)
		k.stop, k.arm = stop, g.watchdog.arm
		keepers.Go(func() {
			defer close(k.ended)
			defer stop()
			if err := k.run(ctx, final); err != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.errs = append(g.errs, err)
			}
		})
	}
	for _, e := range g.cfg.Services {
		g.start(newKeeper(e, g.cfg.Clock, g.journal, g.log))
	}
	g.mu.Unlock()
	waiter.Go(func() { g.waitReady(ctx) })
	pet, stopPetting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPetting()
	var pets sync.WaitGroup
	if g.watchdog != nil {
		pets.Go(func() { g.watchdog.run(pet) })
	}

	serr := g.serve(ctx, ln)
	waiter.Wait()
	g.mu.Lock()
	g.start = nil // none is started behind Wait
	g.mu.Unlock()
	timer := time.AfterFunc(g.cfg.StopTimeout, endFinal)
	defer timer.Stop()
	stopKeepers()
	keepers.Wait()
	stopPetting()
	pets.Wait()
	if g.watchdog != nil {
		g.watchdog.end()
	}
	return errors.Join(append(g.errs, serr)...)
}

func (g *Guard) waitReady(ctx context.Context) {
	for {
		var k *keeper
		for _, one := range g.all() {
			if !one.isReady() {
				k = one
			}
		}
		if k == nil {
			g.watchdog.begin()
			close(g.ready)
			return
		}
		// One that is retired by Update has been observed closed, too.
		if !k.waitUntil(ctx, func() bool { return k.ready }) {
			return
		}
	}
}

func (g *Guard) keeper(id draas.ServiceID) *keeper {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keepers[id]
}

// all returns the keepers, sorted by name.
func (g *Guard) all() []*keeper {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.keepers), func(a, b *keeper) int { return cmp.Compare(a.Service, b.Service) })
}

// makePrivateDir makes the socket's directory, or checks the one there is:
// others must not be able to put their socket in place of ours.
func makePrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make socket directory: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at socket directory: %w", err)
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("socket directory %s may be written by others (mode %#o): chmod go-w", dir, fi.Mode().Perm())
	}
	return nil
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the lock is another's
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (%s is locked)", ErrGuardRunning, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() error {
		// A child that has not come to its exec holds the file open as well.
		return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
	}, nil
}

// listenUnix replaces a stale socket; the caller holds the lock, so whatever
// is there belongs to nobody.
func listenUnix(path string) (*net.UnixListener, error) {
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("listen: %s is there and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), ln.Close())
	}
	return ln, nil
}
