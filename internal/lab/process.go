package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a program that is kept running, as a service manager would, but
// for faults: while any fault holds it down it does not run, while any stops
// it it stands still. Faults overlap, so they are counted.
type Process struct {
	Name    string
	LogPath string

	Command func() *exec.Cmd                         // makes what is started
	ended   func(p *Process, err error, said string) // by itself

	mu      sync.Mutex
	held    int
	stopped int
	cmd     *exec.Cmd // nil: does not run
	meant   bool      // its end is
	started time.Time
	young   bool          // it was stopped before it can have known SIGHUP
	runs    int           // how often it was started
	changed chan struct{} // closed and made anew when it may have to start
	gone    chan struct{} // closed when the present run is over
}

// NewProcess is one that Run will start by the command. ended is told, from Run,
// of each end that nobody here meant, with what that run had said.
func NewProcess(name, logPath string, command func() *exec.Cmd, ended func(*Process, error, string)) *Process {
	return &Process{Name: name, Command: command, LogPath: logPath, ended: ended, changed: make(chan struct{})}
}

// restartPause is what RestartSec is to systemd.
const restartPause = 500 * time.Millisecond

// Run keeps the process running until ctx ends, and kills it then.
func (p *Process) Run(ctx context.Context) error {
	for {
		p.mu.Lock()
		changed, wanted := p.changed, p.held == 0
		p.mu.Unlock()
		if !wanted {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
			continue
		}
		if err := p.once(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// once starts the process and waits for its end.
func (p *Process) once(ctx context.Context) error {
	log, err := os.OpenFile(p.LogPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.Name, err)
	}
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(fmt.Errorf("read log of %s: %w", p.Name, err), log.Close())
	}
	p.mu.Lock()
	if p.held > 0 {
		p.mu.Unlock()
		return log.Close()
	}
	cmd := p.Command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), log.Close())
	}
	p.cmd, p.meant, p.started, p.gone = cmd, false, time.Now(), make(chan struct{})
	p.runs++
	if p.young = p.stopped > 0; p.young {
		p.signal(syscall.SIGSTOP)
	}
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, p.kill)
	err = cmd.Wait()
	stop()
	p.mu.Lock()
	meant := p.meant || ctx.Err() != nil
	p.cmd = nil
	close(p.gone)
	p.mu.Unlock()
	if closed := log.Close(); closed != nil {
		return fmt.Errorf("close log of %s: %w", p.Name, closed)
	}
	if meant {
		return nil
	}
	said, readErr := ReadFrom(p.LogPath, from)
	p.ended(p, err, said)
	pause(ctx, restartPause)
	return readErr
}

// signal wants p.mu. It goes to the process and its children, whose group it
// leads; they may have ended.
func (p *Process) signal(s syscall.Signal) {
	if p.cmd != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *Process) kill() { _ = p.end(syscall.SIGKILL) }

func (p *Process) end(s syscall.Signal) (gone <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meant = true
	p.signal(s)
	if p.cmd == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return p.gone
}

// Hold ends the process by the signal and keeps it from starting, until
// Release. One that takes longer than patience to end is killed, and late is
// true.
func (p *Process) Hold(s syscall.Signal, patience time.Duration) (late bool) {
	p.mu.Lock()
	p.held++
	p.mu.Unlock()
	gone := p.end(s)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-gone:
		return false
	case <-t.C:
		<-p.end(syscall.SIGKILL)
		return true
	}
}

// Release takes a hold back.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held--; p.held == 0 {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// Stop and Resume are SIGSTOP and SIGCONT.
func (p *Process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped++; p.stopped == 1 {
		p.young = time.Since(p.started) <= DeafAge
		p.signal(syscall.SIGSTOP)
	}
}

func (p *Process) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped--; p.stopped == 0 {
		if p.young {
			p.started, p.young = time.Now(), false
		}
		p.signal(syscall.SIGCONT)
	}
}

// DeafAge is how long a process may take to know SIGHUP, which would end it
// before. It reads its file at its start anyway.
const DeafAge = 2 * time.Second

// HangUp sends SIGHUP, and not to the process's children.
func (p *Process) HangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !p.young && time.Since(p.started) > DeafAge {
		_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGHUP) // it may have ended
	}
}

// Present is the run that there is now; pid is 0 if there is none.
func (p *Process) Present() (pid, run int, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, p.runs, 0
	}
	return p.cmd.Process.Pid, p.runs, time.Since(p.started)
}

// maxSaid bounds what is kept of a log.
const maxSaid = 64 << 10

// ReadFrom reads a file from an offset on, its end if that is long.
func ReadFrom(path string, from int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	from = max(from, size-maxSaid)
	data, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	return string(data), nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
