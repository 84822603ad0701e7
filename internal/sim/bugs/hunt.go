package bugs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Finding is what came of simulating seeds.
type Finding struct {
	Seeds      int      // simulated
	Seed       uint64   // the first that broke a rule; 0: none
	Violations []string // the first of that seed
}

// Hunter builds simulators with bugs in them and runs them.
type Hunter struct {
	Root string // of the module
	Dir  string // for what it builds
}

// Build builds the simulator with edits, none for the product as it is.
func (h *Hunter) Build(ctx context.Context, name string, edits []Edit) (string, error) {
	dir := filepath.Join(h.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	overlay, err := WriteOverlay(h.Root, dir, edits)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	bin := filepath.Join(dir, "sim")
	// Without symbols: linking takes most of the time.
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-ldflags", "-s -w", "-o", bin, "./internal/sim/cmd/sim")
	cmd.Dir = h.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return bin, nil
}

// longest is what one hunt may take: a bug may keep a cluster from ever coming
// to rest.
const longest = 10 * time.Minute

// Hunt simulates seeds from 1 on until one breaks a rule, in as many processes
// as jobs.
func (h *Hunter) Hunt(ctx context.Context, bin string, seeds uint64, jobs int) (Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-seeds", fmt.Sprint(seeds), "-jobs", fmt.Sprint(jobs), "-cover=false")
	// It ends the processes that simulate for it.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	f, ok := parse(out.String())
	if exit := new(exec.ExitError); err != nil && !(errors.As(err, &exit) && ok && f.Seed != 0) {
		return f, fmt.Errorf("simulate: %w\n%s%s", err, &out, &errOut)
	}
	if !ok {
		return f, fmt.Errorf("simulate: what it printed is not understood:\n%s%s", &out, &errOut)
	}
	return f, nil
}

var (
	violationLine = regexp.MustCompile(`(?m)^seed (\d+): (.*)$`)
	summaryLine   = regexp.MustCompile(`(?m)^sim: (\d+) schedules, (\d+) violations`)
)

// parse reads what the simulator prints. It may have found more than one seed,
// on several cores; the lowest counts.
func parse(out string) (Finding, bool) {
	var f Finding
	sum := summaryLine.FindStringSubmatch(out)
	if sum == nil {
		return f, false
	}
	f.Seeds, _ = strconv.Atoi(sum[1]) // digits
	for _, m := range violationLine.FindAllStringSubmatch(out, -1) {
		seed, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			return f, false
		}
		if f.Seed == 0 || seed < f.Seed {
			f.Seed, f.Violations = seed, nil
		}
		if seed == f.Seed {
			f.Violations = append(f.Violations, m[2])
		}
	}
	return f, (f.Seed != 0) == (sum[2] != "0")
}

// Row is a line of the table of a hunt of all.
type Row struct {
	Bug     Bug
	Finding Finding
	Took    time.Duration // building included
}

// saysWhen is the time at the start of a violation.
var saysWhen = regexp.MustCompile(`^at [0-9.]+s: `)

// By is the first violation without its time; empty: nothing was found.
func (f Finding) By() string {
	if len(f.Violations) == 0 {
		return ""
	}
	return saysWhen.ReplaceAllString(f.Violations[0], "")
}

// AsExpected reports whether the bug was found, and by the rule that it breaks:
// a patch that only makes the daemon fall over would prove nothing.
func (r Row) AsExpected() bool {
	for _, v := range r.Finding.Violations {
		for _, rule := range r.Bug.Rules {
			if strings.HasPrefix(saysWhen.ReplaceAllString(v, ""), rule) {
				return true
			}
		}
	}
	return false
}

// Bench is where simulators are built and run: a Hunter, or a test's.
type Bench interface {
	Build(ctx context.Context, name string, edits []Edit) (bin string, err error)
	Hunt(ctx context.Context, bin string, seeds uint64, jobs int) (Finding, error)
}

// HuntAll hunts every bug with so many seeds each, as many bugs at a time as
// jobs, and then runs the product as it is over as many seeds as the hardest
// bug took. tell is given each row as it comes, one at a time.
func HuntAll(ctx context.Context, at Bench, bugs []Bug, seeds uint64, jobs int, tell func(Row)) (clean Finding, err error) {
	var (
		mu    sync.Mutex
		errs  []error
		most  uint64
		group sync.WaitGroup
	)
	slots := make(chan struct{}, jobs)
	for _, b := range bugs {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			row, err := hunt(ctx, at, b, seeds)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("hunt %s: %w", b.Name, err))
				return
			}
			most = max(most, row.Finding.Seed)
			tell(row)
		})
	}
	group.Wait()
	if len(errs) > 0 {
		return clean, errors.Join(errs...)
	}
	bin, err := at.Build(ctx, "clean", nil)
	if err != nil {
		return clean, err
	}
	return at.Hunt(ctx, bin, most, jobs)
}

// hunt hunts one bug on one core: the others have bugs of their own.
func hunt(ctx context.Context, at Bench, b Bug, seeds uint64) (Row, error) {
	start := time.Now()
	bin, err := at.Build(ctx, b.Name, b.Edits)
	if err != nil {
		return Row{}, err
	}
	f, err := at.Hunt(ctx, bin, seeds, 1)
	return Row{Bug: b, Finding: f, Took: time.Since(start)}, err
}
