package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"draasd": main})
}

// leakless runs all tests and then wants every goroutine ended.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The scripts run the real program as its users do.
func TestScripts(t *testing.T) {
	p := &ports{next: 22000 + rand.IntN(8000)}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until},
		Setup: func(e *testscript.Env) error {
			base, err := p.take(33) // what a loopback cluster uses
			if err != nil {
				return err
			}
			e.Setenv("BASE", strconv.Itoa(base))
			for name, offset := range map[string]int{"API_PRIMARY": 1, "API_DR": 11, "API_WITNESS": 21} {
				e.Setenv(name, "127.0.0.1:"+strconv.Itoa(base+offset))
			}
			return nil
		},
	})
}

// ports hands out rows of ports below those that the kernel gives to outgoing
// connections, and above those of the daemon's tests. They are not held: a
// cluster has to listen on them.
type ports struct {
	mu   sync.Mutex
	next int
}

// take finds n ports in a row that nobody listens on.
func (p *ports) take(n int) (base int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 50 {
		base = p.next
		p.next += n
		if err = free(base, n); err == nil {
			return base, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports: %w", n, err)
}

func free(base, n int) error {
	for port := base; port < base+n; port++ {
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		if err := ln.Close(); err != nil {
			return err
		}
	}
	return nil
}

// until is `until COMMAND ARG...`: again and again until it exits with 0.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: until COMMAND ARG...")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: %v, for 20 s", args, err)
		}
	}
}

// exits is `exits CODE COMMAND ARG...`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v exits with %d, want %d", args[1:], got, want)
	}
}
