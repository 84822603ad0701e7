// Package model checks the protocol of decision, permit and fence with spin:
// draas.pml and steps.pml say what can happen and what must hold, and this
// package builds the checker once and runs it, over the protocol as it is and
// with one mistake at a time (docs/model.md). It needs spin and gcc.
package model

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed *.pml
var sources embed.FS

// Checker is the built model. Its runs may go on at the same time.
type Checker struct {
	dir  string
	acts []string // names of steps, by their number
}

// Result is what a run found.
type Result struct {
	States    uint64
	Depth     int // of the deepest path, in spin's transitions
	Memory    int // MB, all of it
	CPU       time.Duration
	Whole     bool   // every reachable state was seen
	Violation string // the rule that was broken; empty: none
	Trail     []string
}

// Build translates and compiles the model in dir, which must exist and is the
// caller's to remove. To optimise takes some seconds more, and makes runs a
// quarter shorter.
func Build(ctx context.Context, dir string, optimise bool) (*Checker, error) {
	c := &Checker{dir: dir}
	for _, name := range []string{"draas.pml", "steps.pml"} {
		text, err := sources.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read model: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, fmt.Errorf("write model: %w", err)
		}
		if name == "draas.pml" {
			c.acts = actNames(string(text))
		}
	}
	level := "-O1"
	if optimise {
		level = "-O2"
	}
	// One process: there is no order of processes to reduce. States are kept
	// as they are: to leave out a few bytes of each, as spin does without
	// NOCOMP, takes a sixth more time, and COLLAPSE takes more memory here, not
	// less.
	for _, command := range [][]string{
		{"spin", "-a", "draas.pml"},
		{"gcc", level, "-w", "-DSAFETY", "-DNOREDUCE", "-DNOFAIR", "-DNOCOMP", "-DMEMLIM=9000", "-o", "pan", "pan.c"},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build model: %s: %w\n%s", command[0], err, out)
		}
	}
	return c, nil
}

var (
	errorLine  = regexp.MustCompile(`(?m)^pan:\d+: (.*) \(at depth \d+\)`)
	depthLine  = regexp.MustCompile(`depth reached (\d+), errors: (\d+)`)
	statesLine = regexp.MustCompile(`(?m)^\s*(\d+) states, stored$`)
)

// Check runs the model with what may happen, and with the mistake of the given
// number in it; zero is none. Paths longer than depth are cut off there.
func (c *Checker) Check(ctx context.Context, knobs Knobs, bug, depth int) (Result, error) {
	dir, err := os.MkdirTemp(c.dir, "run")
	if err != nil {
		return Result{}, fmt.Errorf("check model: %w", err)
	}
	table := 24 // of 2^24 slots
	if depth < wholeDepth {
		table = 18
	}
	out, used, err := c.pan(ctx, dir, knobs, bug, "-m"+strconv.Itoa(depth), "-w"+strconv.Itoa(table), "-n")
	if err != nil {
		return Result{}, err
	}
	r := Result{CPU: used.UserTime() + used.SystemTime(), Whole: !strings.Contains(out, "max search depth too small")}
	if m := errorLine.FindStringSubmatch(out); m != nil {
		r.Violation = m[1]
	}
	depths, states := depthLine.FindStringSubmatch(out), statesLine.FindStringSubmatch(out)
	if depths == nil || states == nil || strings.Contains(out, "out of memory") || strings.Contains(out, "reached -DMEMLIM") {
		return r, fmt.Errorf("check model: pan did not finish:\n%s", out)
	}
	if (depths[2] != "0") != (r.Violation != "") {
		return r, fmt.Errorf("check model: %s errors, and of which kind is not known:\n%s", depths[2], out)
	}
	if usage, ok := used.SysUsage().(*syscall.Rusage); ok {
		r.Memory = int(usage.Maxrss / 1024)
	}
	r.Depth, _ = strconv.Atoi(depths[1]) // digits, as matched
	r.States, _ = strconv.ParseUint(states[1], 10, 64)
	if r.Violation != "" {
		if r.Trail, err = c.trail(ctx, dir, knobs, bug); err != nil {
			return r, err
		}
	}
	return r, os.RemoveAll(dir)
}

// trail replays what led to the violation, a line for each step: what is done,
// at which site, and how things stand before it.
func (c *Checker) trail(ctx context.Context, dir string, knobs Knobs, bug int) ([]string, error) {
	out, _, err := c.pan(ctx, dir, knobs, bug, "-r", "draas.pml.trail")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(out) {
		var act, site int
		line = strings.TrimSpace(line)
		if n, _ := fmt.Sscanf(line, "| %d %d |", &act, &site); n != 2 {
			continue
		}
		name := "-"
		if act > 0 && act <= len(c.acts) {
			name = c.acts[act-1]
		}
		_, rest, _ := strings.Cut(line[1:], "|")
		lines = append(lines, fmt.Sprintf("%-14s %d |%s", name, site, rest))
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("replay trail: nothing was said:\n%s", out)
	}
	return lines, nil
}

func (c *Checker) pan(ctx context.Context, dir string, knobs Knobs, bug int, args ...string) (says string, used *os.ProcessState, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.dir, "pan"), args...)
	cmd.Dir = dir
	cmd.Env = append(knobs.environ(), "BUG="+strconv.Itoa(bug))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	// It exits with an error when it reports one; what it says tells them apart.
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return "", nil, fmt.Errorf("run model: %w", context.Cause(ctx))
	}
	if err != nil && !errors.As(err, &exit) {
		return "", nil, fmt.Errorf("run model: %w", err)
	}
	return out.String(), cmd.ProcessState, nil
}

var (
	comments = regexp.MustCompile(`(?s)/\*.*?\*/`)
	actList  = regexp.MustCompile(`(?s)mtype = \{(.*?)\};`)
)

// actNames reads the names of the steps; spin numbers them from the last.
func actNames(text string) []string {
	m := actList.FindStringSubmatch(comments.ReplaceAllString(text, ""))
	if m == nil {
		return nil
	}
	var names []string
	for _, name := range strings.Split(m[1], ",") {
		names = append([]string{strings.TrimSpace(name)}, names...)
	}
	return names
}
