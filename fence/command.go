package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of a command's output: its first bytes.
const maxOutput = 4 << 10

// command is one run of an operator's program: no shell, a process group of
// its own that is killed as a whole at the timeout.
type command struct {
	argv    []string
	env     []string // added to PATH, HOME and LANG
	timeout time.Duration
}

// outcome is how a command ended. Code is meaningful when it ran and exited by
// itself (err is nil then, whatever the code).
type outcome struct {
	code   int
	output string
}

// run runs the command to its end. It returns an error when it could not be
// started, was killed, or ended by a signal.
func (c command) run(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	end, _ := ctx.Deadline() // its asker's, if that is earlier
	limit := time.Until(end).Round(time.Millisecond)
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, c.env...)
	out := &firstBytes{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A process left behind may hold the output open: it is not waited for.
	cmd.WaitDelay = 50 * time.Millisecond

	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well and left a process behind
	}
	o := outcome{code: -1, output: out.String()}
	if cmd.ProcessState != nil {
		o.code = cmd.ProcessState.ExitCode()
	}
	switch {
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded) && o.code < 0:
		return o, fmt.Errorf("run %s: killed after %v%s", c.argv[0], limit, o.tail())
	case ctx.Err() != nil && o.code < 0:
		return o, fmt.Errorf("run %s: %w", c.argv[0], context.Cause(ctx))
	case o.code < 0:
		return o, fmt.Errorf("run %s: %w%s", c.argv[0], err, o.tail())
	}
	return o, nil
}

// must is run for a command whose only good end is exit code 0.
func (c command) must(ctx context.Context) error {
	o, err := c.run(ctx)
	if err == nil && o.code != 0 {
		err = fmt.Errorf("run %s: exit code %d%s", c.argv[0], o.code, o.tail())
	}
	return err
}

// tail is the output as the end of an error text.
func (o outcome) tail() string {
	if o.output == "" {
		return ""
	}
	return fmt.Sprintf(" (said %q)", bounded(strings.TrimSpace(o.output), 200))
}

// firstBytes keeps the first bytes written to it and lets the rest go.
type firstBytes struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *firstBytes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := maxOutput - w.buf.Len(); room > 0 {
		w.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (w *firstBytes) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
