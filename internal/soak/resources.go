package soak

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// usage is what one process held at one time.
type usage struct {
	Run     int           // of the process
	Age     time.Duration // of that run
	RSS     int64         // bytes
	Files   int           // descriptors
	Threads int
}

// What may be held. Between two calm moments of one run of a process, at least
// a round apart, memory may grow by a half and by a heap's worth more, and
// descriptors by some connections: a leak of one descriptor per fault, or of
// 100 kB, passes that in a night and not in an hour.
const (
	maxRSS      = 256 << 20
	maxFiles    = 512
	growFiles   = 32
	growRSS     = 24 << 20
	growRSSPart = 2 // a half
	settledAge  = 2 * time.Second
)

// ledger keeps what each process held.
type ledger struct {
	race bool // built with the race detector, which takes several times the memory

	mu sync.Mutex
	of map[string]*account
}

// account is one process's.
type account struct {
	Samples   int
	Runs      int
	Most      usage // the highest of each
	First     usage // calm, of the run that lasted longest
	Last      usage
	began     usage // calm, of the present run
	beganIsOK bool
}

// sample reads what a process holds now; the zero value if there is none, or
// it has only just started.
func sample(p *lab.Process) (usage, bool) {
	pid, run, age := p.Present()
	if pid == 0 || age < settledAge {
		return usage{}, false
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, false // it has ended
	}
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return usage{}, false
	}
	return usage{Run: run, Age: age, RSS: 1024 * field(status, "VmRSS:"), Files: len(files), Threads: int(field(status, "Threads:"))}, true
}

// field is a number in /proc/PID/status.
func field(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

func (l *ledger) add(name string, u usage, calm bool) (wrong string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[name]
	if a == nil {
		a = &account{}
		l.of[name] = a
	}
	a.Samples++
	a.Runs = max(a.Runs, u.Run)
	a.Most.RSS, a.Most.Files, a.Most.Threads = max(a.Most.RSS, u.RSS), max(a.Most.Files, u.Files), max(a.Most.Threads, u.Threads)
	times := int64(1)
	if l.race {
		times = 8
	}
	if u.RSS > times*maxRSS || u.Files > maxFiles {
		return fmt.Sprintf("%s holds %s and %d descriptors: more than %s and %d", name, mib(u.RSS), u.Files, mib(times*maxRSS), maxFiles)
	}
	if !calm {
		return ""
	}
	if !a.beganIsOK || a.began.Run != u.Run {
		a.began, a.beganIsOK = u, true
	}
	if u.Age-a.began.Age >= a.Last.Age-a.First.Age {
		a.First, a.Last = a.began, u
	}
	if u.Files > a.began.Files+growFiles {
		return fmt.Sprintf("%s holds %d descriptors, %d at the age of %v", name, u.Files, a.began.Files, a.began.Age.Round(time.Second))
	}
	if u.RSS > a.began.RSS+a.began.RSS/growRSSPart+times*growRSS {
		return fmt.Sprintf("%s holds %s, %s at the age of %v", name, mib(u.RSS), mib(a.began.RSS), a.began.Age.Round(time.Second))
	}
	return ""
}

// table is a line for each process: the calm moments that are farthest apart
// in one run of it, and the highest of all samples.
func (l *ledger) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %-16s %5s %10s  %-21s %-13s %-13s %s\n", "process", "runs", "watched", "memory", "descriptors", "threads", "most")
	for _, name := range slices.Sorted(maps.Keys(l.of)) {
		a := l.of[name]
		fmt.Fprintf(&b, "  %-16s %5d %10v  %-21s %-13s %-13s %s, %d, %d\n", name, a.Runs, (a.Last.Age - a.First.Age).Round(time.Second),
			fmt.Sprintf("%s -> %s", mib(a.First.RSS), mib(a.Last.RSS)), fmt.Sprintf("%d -> %d", a.First.Files, a.Last.Files),
			fmt.Sprintf("%d -> %d", a.First.Threads, a.Last.Threads), mib(a.Most.RSS), a.Most.Files, a.Most.Threads)
	}
	return b.String()
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// scan looks for what no log may hold.
func scan(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, fmt.Errorf("find logs: %w", err)
	}
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		for line := range bytes.Lines(data) {
			if slices.ContainsFunc(forbidden, func(word string) bool { return bytes.Contains(line, []byte(word)) }) {
				found = append(found, fmt.Sprintf("%s: %s", filepath.Base(file), bytes.TrimSpace(line)))
			}
		}
	}
	return found, nil
}

// forbidden are the runtime's own words, and the race detector's.
var forbidden = []string{"panic:", "fatal error:", "WARNING: DATA RACE", "[signal SIG", "unexpected fault address"}
