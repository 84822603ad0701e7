package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/draasd/draas"
)

// child is a process that the demo started.
type child struct {
	name   string
	member draas.MemberID // empty: of no site
	cmd    *exec.Cmd
	log    string
	// meant says that the demo ends it, so that its end is no surprise.
	meant atomic.Bool
	done  chan struct{}
	err   error // of its end, once done
}

// kill ends the process at once.
func (c *child) kill() error {
	c.meant.Store(true)
	return c.signal(syscall.SIGKILL)
}

func (c *child) signal(s os.Signal) error {
	if err := c.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", c.name, err)
	}
	return nil
}

// lives reports whether a process of that name runs.
func (c *crew) lives(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.children, func(p *child) bool { return p.name == name && !p.ended() })
}

// ended reports whether the process has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// crew starts processes and ends all of them. A child dies with the demo, even
// if that is killed: the kernel sends it SIGKILL at the death of the thread
// that started it (prctl(2), PR_SET_PDEATHSIG), so one thread is kept for that
// as long as there are children.
type crew struct {
	dir  string // for logs
	jobs chan func()
	wg   sync.WaitGroup

	mu       sync.Mutex
	children []*child
}

func newCrew(logs string) *crew {
	c := &crew{dir: logs, jobs: make(chan func())}
	c.wg.Go(func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		for job := range c.jobs {
			job()
		}
	})
	return c
}

// process is what to start.
type process struct {
	name   string         // of its log, too
	member draas.MemberID // empty: of no site
	argv   []string
	stdout io.Writer // nil: to the log
	stderr io.Writer // gets a copy of what goes to the log; nil: none
}

// start starts a process.
func (c *crew) start(what process) (*child, error) {
	path := filepath.Join(c.dir, what.name+".log")
	log, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", what.name, err)
	}
	p := &child{name: what.name, member: what.member, log: path, done: make(chan struct{})}
	p.cmd = exec.Command(what.argv[0], what.argv[1:]...)
	p.cmd.Stderr, p.cmd.Stdout = log, log
	if what.stderr != nil {
		p.cmd.Stderr = io.MultiWriter(log, what.stderr)
	}
	if what.stdout != nil {
		p.cmd.Stdout = what.stdout
	}
	p.cmd.Env = childEnv(os.Environ())
	// A group of its own keeps the terminal's Ctrl-C from it: the demo ends it
	// in its own order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	c.jobs <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", what.name, err), log.Close())
	}
	c.wg.Go(func() {
		p.err = errors.Join(p.cmd.Wait(), log.Close())
		close(p.done)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.children = append(c.children, p)
	return p, nil
}

// childEnv drops what a service manager said to the demo itself.
func childEnv(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") && !strings.HasPrefix(e, "WATCHDOG_") {
			out = append(out, e)
		}
	}
	return out
}

// of lists the processes of a member that live.
func (c *crew) of(m draas.MemberID) []*child {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*child
	for _, p := range c.children {
		if p.member == m && !p.ended() {
			out = append(out, p)
		}
	}
	return out
}

// fault says which process has ended that should not have.
func (c *crew) fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.children {
		if p.ended() && !p.meant.Load() {
			return fmt.Errorf("%s has ended by itself: %w", p.name, p.exit())
		}
	}
	return nil
}

func (c *child) exit() error {
	if c.err != nil {
		return c.err
	}
	return errors.New("exit status 0")
}

// close kills every process that is left, also a stopped one, and waits.
func (c *crew) close() error {
	var errs []error
	c.mu.Lock()
	children := c.children
	c.mu.Unlock()
	for _, p := range children {
		if !p.ended() {
			errs = append(errs, p.kill())
		}
	}
	for _, p := range children {
		<-p.done
	}
	close(c.jobs)
	c.wg.Wait()
	return errors.Join(errs...)
}

// tailBytes is how much of a log is looked at for its last lines.
const tailBytes = 8 << 10

// showLogs writes the last lines of every process's log.
func (c *crew) showLogs(out io.Writer, lines int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.children {
		text, err := tail(p.log, lines)
		if err != nil {
			fmt.Fprintf(out, "--- %s: %v\n", p.name, err)
			continue
		}
		if text != "" {
			fmt.Fprintf(out, "--- last lines of %s\n%s\n", p.name, text)
		}
	}
}

// tail reads the last lines of a file.
func tail(path string, lines int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	from := max(size-tailBytes, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	all := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	all = all[max(len(all)-lines, 0):]
	return string(bytes.Join(all, []byte("\n"))), nil
}

// findRTOTest finds rtotest beside the executable.
func findRTOTest(draasd string) (string, error) {
	path := filepath.Join(filepath.Dir(draasd), "rtotest")
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%w (looked for %s)", errRTOTest, path)
	}
	return path, nil
}
