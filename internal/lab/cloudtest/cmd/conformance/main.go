// Command conformance runs two commands, each a "go test -json": one for the
// cloud in memory, one for real services. It says how many tests of conformance
// each has passed, and fails where one has not passed what the other has:
//
//	conformance -fake 'go test -json ...' -real 'sites go test -json ...'
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// paired are the tests that both implementations have, by their names at each.
var paired = []struct{ what, fake, real string }{
	{"suite of kinds", "TestSuite", "TestSuiteOnRealServices"},
	{"facts", "TestFacts", "TestRealServices"},
	{"stories", "TestStory", "TestStoryOnRealServices"},
	{"outages", "TestKeystoneOutage", "TestKeystoneOutageOnRealServices"},
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	fake := flags.String("fake", "", "`COMMAND` of the cloud in memory")
	actual := flags.String("real", "", "`COMMAND` of real services")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var results [2]results
	var failed error
	for i, command := range []string{*fake, *actual} {
		r, err := tests(ctx, command, out)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", command, err))
		}
		results[i] = r
	}
	text, differ := compare(results[0], results[1])
	fmt.Fprintln(out, text)
	return errors.Join(failed, differ)
}

// tests runs a command and gathers its results; what is no result is shown.
func tests(ctx context.Context, command string, out io.Writer) (results, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r, err := read(lines, out)
	return r, errors.Join(err, cmd.Wait())
}

// results of tests by their names: "pass", "fail" or "skip".
type results map[string]string

// event is a line of go test -json (go doc test2json).
type event struct{ Action, Test, Output string }

// read follows the events, and shows what a test that fails has said.
func read(from io.Reader, out io.Writer) (results, error) {
	r, said := make(results), make(map[string][]string)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		switch e.Action {
		case "output":
			if e.Test == "" {
				fmt.Fprint(out, e.Output)
				continue
			}
			said[e.Test] = append(said[e.Test], e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				continue
			}
			r[e.Test] = e.Action
			if e.Action != "pass" {
				fmt.Fprint(out, strings.Join(said[e.Test], ""))
			}
			delete(said, e.Test)
		}
	}
	for _, test := range slices.Sorted(maps.Keys(said)) {
		if r[test] == "" { // the process has ended in the middle of it
			fmt.Fprint(out, strings.Join(said[test], ""))
		}
	}
	return r, lines.Err()
}

// passed are the ends of the names of those tests below one that have none below
// themselves.
func (r results) passed(test string) []string {
	var leaves []string
	names := slices.Sorted(maps.Keys(r))
	for i, name := range names {
		below, under := strings.CutPrefix(name, test+"/")
		if !under && name != test || r[name] != "pass" {
			continue
		}
		if i+1 < len(names) && slices.ContainsFunc(names[i+1:], func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			continue
		}
		if !under {
			below = "the whole"
		}
		leaves = append(leaves, below)
	}
	return leaves
}

// compare says what both have passed, and where they differ.
func compare(fake, actual results) (text string, differ error) {
	var said []string
	for _, p := range paired {
		a, b := fake.passed(p.fake), actual.passed(p.real)
		said = append(said, fmt.Sprintf("%s: fake %d, real %d", p.what, len(a), len(b)))
		if len(a) == 0 {
			differ = errors.Join(differ, fmt.Errorf("%s: none has passed", p.what))
		}
		for _, name := range a {
			if !slices.Contains(b, name) {
				differ = errors.Join(differ, fmt.Errorf("%s: only the fake has passed %q", p.what, name))
			}
		}
		for _, name := range b {
			if !slices.Contains(a, name) {
				differ = errors.Join(differ, fmt.Errorf("%s: only the real services have passed %q", p.what, name))
			}
		}
	}
	return "conformance: " + strings.Join(said, "; "), differ
}
