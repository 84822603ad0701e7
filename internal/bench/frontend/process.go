package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one that was started here.
type process struct {
	name string
	argv []string
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// kill ends the process at once and waits for its end.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.done
	return err
}

// endLimit is how long a process may take to end when it is asked to.
const endLimit = 5 * time.Second

// end asks the process to end, and kills it when it does not. nginx takes its
// workers along only if it is asked.
func (p *process) end() error {
	err := errors.Join(p.signal(syscall.SIGTERM), p.signal(syscall.SIGCONT))
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-p.done:
		return err
	case <-limit.C:
		return errors.Join(err, p.kill())
	}
}

// ids are the process and its children, which nginx has.
func (p *process) ids() []int {
	pid := p.cmd.Process.Pid
	out := []int{pid}
	// One that is gone has no children, and its time says so.
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for f := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// cpu is the processor time that the process has used, in steps of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.ids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("read processor time of %s: %w", p.name, err)
		}
		d, err := parseStat(string(text))
		if err != nil {
			return 0, fmt.Errorf("read processor time of %s: %w", p.name, err)
		}
		sum += d
	}
	return sum, nil
}

// parseStat reads user and system time from /proc/PID/stat (proc(5), fields 14
// and 15), whose ticks are 10 ms for programs whatever the kernel's are.
func parseStat(text string) (time.Duration, error) {
	const tick, utime, stime = 10 * time.Millisecond, 11, 12
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= stime {
		return 0, fmt.Errorf("%q is no line of a process", text)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[stime], 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}

// resident is the memory that the process has, in KiB, without what the kernel
// keeps for its sockets.
func (p *process) resident() (int, error) {
	sum := 0
	for _, pid := range p.ids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory of %s: %w", p.name, err)
		}
		n, err := parseResident(string(text))
		if err != nil {
			return 0, fmt.Errorf("read memory of %s: %w", p.name, err)
		}
		sum += n
	}
	return sum, nil
}

// parseResident reads VmRSS of /proc/PID/status.
func parseResident(text string) (int, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, errors.New("there is no VmRSS")
}

// crew starts processes and ends all of them. One whose starter is killed gets
// SIGTERM when the thread ends that started it (prctl(2), PR_SET_PDEATHSIG), so
// one thread is kept for that.
type crew struct {
	dir  string
	jobs chan func()
	wg   sync.WaitGroup
	all  []*process
}

func newCrew(dir string) *crew {
	c := &crew{dir: dir, jobs: make(chan func())}
	c.wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range c.jobs {
			job()
		}
	})
	return c
}

// start starts a process, whose output goes to a log of its name.
func (c *crew) start(name string, argv ...string) (*process, error) {
	log, err := os.OpenFile(c.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, argv: argv, done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	c.jobs <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	c.wg.Go(func() {
		_ = p.cmd.Wait() // how it ended is in its log
		_ = log.Close()
		close(p.done)
	})
	c.all = append(c.all, p)
	return p, nil
}

// again ends a process and starts it anew.
func (c *crew) again(p *process) (*process, error) {
	if err := p.end(); err != nil {
		return nil, err
	}
	return c.start(p.name, p.argv...)
}

func (c *crew) log(name string) string { return filepath.Join(c.dir, name+".log") }

// close ends every process, the last one first.
func (c *crew) close() error {
	var errs []error
	for i := len(c.all) - 1; i >= 0; i-- {
		errs = append(errs, c.all[i].end())
	}
	close(c.jobs)
	c.wg.Wait()
	return errors.Join(errs...)
}

// showLogs writes the ends of the logs.
func (c *crew) showLogs(out io.Writer) {
	seen := make(map[string]bool)
	for _, p := range c.all {
		if seen[p.name] {
			continue
		}
		seen[p.name] = true
		text, err := os.ReadFile(c.log(p.name))
		if err != nil || len(text) == 0 {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		fmt.Fprintf(out, "--- last lines of %s\n%s\n", p.name, bytes.Join(lines[max(len(lines)-8, 0):], []byte("\n")))
	}
}
