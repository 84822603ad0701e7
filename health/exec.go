package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"golang.org/x/sys/unix"
)

// ExecSpec says what command an exec probe runs. There is no shell.
type ExecSpec struct {
	Command []string
	// Service, Site and Address become DRAAS_SERVICE, DRAAS_SITE and
	// DRAAS_ADDRESS. Apart from them the command gets only PATH: what stands
	// in the daemon's environment may be secret.
	Service draas.ServiceID
	Site    draas.SiteID
	Address string
}

const (
	maxOutput = 1 << 10 // bytes of the command's output that are kept
	// pipeWait is how long a look waits for output after the process group is
	// dead, for the case that a child left the group and holds the pipe.
	pipeWait = 20 * time.Millisecond
)

// Exec makes a probe that runs a command and wants exit status 0. The command
// gets a process group of its own, which is killed when the look ends in any
// way; a child that leaves the group (setsid) gets away. A command that cannot
// be started is evidence of nothing (ClassLocal).
func Exec(spec ExecSpec) (Probe, error) {
	if len(spec.Command) == 0 || spec.Command[0] == "" {
		return nil, errors.New("make exec probe: no command")
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"DRAAS_SERVICE=" + string(spec.Service),
		"DRAAS_SITE=" + string(spec.Site),
		"DRAAS_ADDRESS=" + spec.Address,
	}
	return func(ctx context.Context) Result { return run(ctx, spec.Command, env) }, nil
}

func run(ctx context.Context, command, env []string) Result {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var output firstBytes
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeWait
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return failure("start command", ctx.Err(), ClassOther)
		}
		return Result{Class: ClassLocal, Detail: clip("start command: " + err.Error())}
	}
	// At the end of ctx os/exec kills the leader. The rest of the group follows
	// while the leader is dead but not yet reaped, so that the group's number
	// cannot belong to anybody else. That nobody is left is no error.
	awaitExit(cmd.Process.Pid)
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	err := cmd.Wait()

	switch state := cmd.ProcessState; {
	case ctx.Err() != nil && (state == nil || !state.Success()):
		return failure("run command", ctx.Err(), ClassOther)
	case state == nil:
		return failure("run command", err, ClassLocal)
	case !state.Success():
		return Result{Class: ClassExec, Detail: clip(fmt.Sprintf("%s: %s", state, output.line()))}
	}
	return Result{Class: ClassOK}
}

// awaitExit returns once the child has exited, and leaves it to be reaped.
func awaitExit(pid int) {
	for { // ends when the process does: at the latest when ctx kills it
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// firstBytes keeps the first maxOutput bytes written to it. os/exec writes
// from one goroutine and has ended it when Wait returns.
type firstBytes struct{ kept []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.kept = append(f.kept, p[:min(len(p), maxOutput-len(f.kept))]...)
	return len(p), nil
}

func (f *firstBytes) line() string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(f.kept), []byte("\n"))
	return string(line)
}
