package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/draasd/draas/measure"
)

const (
	// maxOutput is how much of a command's output is kept: its end.
	maxOutput = 16 << 10
	// grace is how long a command that has to stop may take to do so.
	grace = 2 * time.Second
)

// act runs a command by the shell, in a process group of its own, and waits
// for it as long as it is told; what it started in the background and left
// there stays. When the time is over or the context ends the group is killed.
func act(ctx context.Context, command string, env []string, limit time.Duration) *measure.Action {
	a := &measure.Action{Command: command, Started: time.Now().UTC(), ExitCode: -1}
	defer func() { a.Took = measure.Millis(time.Since(a.Started)) }()
	// A file, and not a pipe: a child that lives on must not keep us waiting.
	out, err := os.CreateTemp("", "rtotest-")
	if err != nil {
		a.Problem = fmt.Sprintf("keep output: %v", err)
		return a
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		a.Problem = fmt.Sprintf("keep output: %v", err)
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace // then the shell is killed; sweep sees to the others
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	err = cmd.Start()
	if err == nil {
		err = cmd.Wait()
		if ctx.Err() != nil {
			sweep(cmd.Process.Pid)
		}
	}
	a.Output = tail(out)
	var exit *exec.ExitError
	switch {
	case err == nil:
		a.ExitCode = 0
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		a.Problem = fmt.Sprintf("killed after %v", limit)
	case ctx.Err() != nil:
		a.Problem = "killed: interrupted"
	case errors.As(err, &exit) && exit.Exited():
		a.ExitCode = exit.ExitCode()
		a.Problem = fmt.Sprintf("exit code %d", a.ExitCode)
	default:
		a.Problem = err.Error()
	}
	return a
}

// sweep ends what is left of a command's group: when it has not gone by the
// end of the grace, by force.
func sweep(group int) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for syscall.Kill(-group, 0) == nil {
		select {
		case <-timer.C:
			// That nobody is left by now is what is wanted.
			_ = syscall.Kill(-group, syscall.SIGKILL)
			return
		case <-tick.C:
		}
	}
}

// tail reads the end of what a command wrote, fit for a terminal.
func tail(f *os.File) string {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	b := make([]byte, min(end, maxOutput))
	n, err := f.ReadAt(b, end-int64(len(b)))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return harmless(string(b[:n]))
}

// harmless makes what others wrote fit for a terminal; lines stay lines.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// inLine makes what others wrote fit for one line.
func inLine(err error) string {
	return harmless(strings.ReplaceAll(err.Error(), "\n", "; "))
}
