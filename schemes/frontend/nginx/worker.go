package nginx

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long an old worker has to end by itself when it is told to.
const patience = 500 * time.Millisecond

// worker is one of nginx's processes that serve.
type worker struct {
	pid   int
	start uint64 // in ticks since the boot: with the number it names a process
	// leaving: it takes no more connections and ends when all it has are over.
	leaving bool
}

func (w worker) same(o worker) bool { return w.pid == o.pid && w.start == o.start }

// end ends a worker. The process is held before it is looked at once more, so
// that its number cannot be another's by then.
func (w worker) end(force bool) error {
	p, err := os.FindProcess(w.pid)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // nothing is left to be done
	s, err := readStat(w.pid)
	if err != nil || s.start != w.start {
		return nil // it has ended
	}
	sig := syscall.SIGTERM // "fast shutdown" (nginx.org, Controlling nginx)
	if force {
		sig = syscall.SIGKILL
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// workers lists the workers of the nginx whose master's number is in a file.
func workers(pidFile string) ([]worker, error) {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, fmt.Errorf("find nginx: %w", err)
	}
	master, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("find nginx: %s: %w", pidFile, err)
	}
	if s, err := readStat(master); err != nil || s.name != "nginx" {
		return nil, fmt.Errorf("find nginx: process %d is %q: %w", master, s.name, errors.Join(err, os.ErrProcessDone))
	}
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []worker
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.parent != master || s.state == "Z" {
			continue
		}
		title, err := os.ReadFile(path + "/cmdline")
		if err != nil || !bytes.Contains(title, []byte("worker process")) {
			continue // a cache's, or it has just ended
		}
		all = append(all, worker{pid, s.start, bytes.Contains(title, []byte("is shutting down"))})
	}
	return all, nil
}

// stat is what /proc/PID/stat tells (proc(5)).
type stat struct {
	name, state string
	parent      int
	start       uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(b))
}

func parseStat(text string) (stat, error) {
	from, to := strings.Index(text, "("), strings.LastIndex(text, ")")
	if from < 0 || to < from {
		return stat{}, fmt.Errorf("not a process's state: %.100q", text)
	}
	f := strings.Fields(text[to+1:])
	const state, parent, start = 0, 1, 19 // fields 3, 4 and 22
	if len(f) <= start {
		return stat{}, fmt.Errorf("not a process's state: %.100q", text)
	}
	s := stat{name: text[from+1 : to], state: f[state]}
	var err, serr error
	s.parent, err = strconv.Atoi(f[parent])
	s.start, serr = strconv.ParseUint(f[start], 10, 64)
	return s, errors.Join(err, serr)
}
