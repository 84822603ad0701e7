package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds in bytes what is kept of a command's output, its beginning.
const maxOutput = 4 << 10

// command is a program of the operator's: no shell, little environment, and a
// process group of its own, which is killed as a whole at the timeout.
type command struct {
	argv    []string
	env     []string // added to PATH and LANG: what else the daemon has may be secret
	stdin   []byte
	timeout time.Duration
}

// run runs it to its end and returns what it wrote to its standard output. Any
// end but exit code 0 is an error.
func (c command) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	end, _ := ctx.Deadline() // its asker's, if that is earlier
	limit := time.Until(end).Round(time.Millisecond)
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	for _, name := range []string{"PATH", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, c.env...)
	var out, errs firstBytes
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.stdin), &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A process left behind may hold the output open: it is not waited for.
	cmd.WaitDelay = 50 * time.Millisecond
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return string(out), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("killed after %v", limit)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(errs)), "\n")
	if said != "" {
		return "", fmt.Errorf("run %s: %w (it said %q)", c.argv[0], err, said)
	}
	return "", fmt.Errorf("run %s: %w", c.argv[0], err)
}

// firstBytes keeps the first bytes written to it and lets the rest go.
type firstBytes []byte

func (f *firstBytes) Write(p []byte) (int, error) {
	*f = append(*f, p[:min(len(p), maxOutput-len(*f))]...)
	return len(p), nil
}
