package soak

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("faults are made on machines made of namespaces: run the tests as root (in a container that may mount will do)")
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "mkfs.ext4": "e2fsprogs", "findmnt": "util-linux", "sysctl": "procps"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: apt-get install %s (%v)", tool, pkg, err)
		}
	}
}

// until polls for what has to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still waiting until %s", what)
		}
	}
}

// run keeps a process running for as long as the test lasts.
func keep(t *testing.T, p *lab.Process) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	errc := make(chan error, 1)
	go func() { errc <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-errc; err != nil {
			t.Error(err)
		}
	})
}

// processesWith lists the processes that have the text in their command line.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if line := strings.ReplaceAll(string(data), "\x00", " "); strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// machineOnRouter is a machine at the first address of a place.
func machineOnRouter(t *testing.T, router *lab.Machine, place string) *lab.Machine {
	t.Helper()
	m, err := lab.New(place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := plug(m, router, []string{memberAddress(place)}); err != nil {
		t.Fatal(err)
	}
	return m
}

func testRouter(t *testing.T) *lab.Machine {
	t.Helper()
	r, err := newRouter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// A run that is interrupted ends in order and leaves nothing: no process, no
// mount, no file.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tmp := t.TempDir()
	draasd := build(t)
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	time.AfterFunc(time.Minute, cancel) // should nobody ever answer
	began := func() bool {
		lines, err := filepath.Glob(filepath.Join(tmp, "draas-soak-*/timeline.log"))
		if err != nil || len(lines) != 1 {
			return false
		}
		text, err := os.ReadFile(lines[0])
		return err == nil && strings.Contains(string(text), "control: primary is cut off")
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			if began() {
				once.Do(cancel)
			}
			pause(ctx, 50*time.Millisecond)
		}
	}()
	res, err := Run(ctx, Options{For: time.Minute, Seed: 1, Every: 50 * time.Millisecond, Draasd: draasd, Dir: tmp, Out: io.Discard})
	<-watched
	if err != nil || !res.Interrupted || len(res.Violations) > 0 || res.Dir != "" {
		t.Errorf("the run came to %v, %v, kept %q", res, err, res.Dir)
	}
	if sum(res.Activations) < len(services) {
		t.Errorf("only %v were activated: the run had not begun", res.Activations)
	}
	if left := processesWith(t, tmp); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "draas-soak-*")); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// A run that cannot begin says why and ends all the same.
func TestRunWithoutProgram(t *testing.T) {
	_, err := Run(context.Background(), Options{For: time.Second, Seed: 1, Every: time.Second, Draasd: "/nonexistent/draasd", Dir: t.TempDir(), Out: io.Discard})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ends with %v", err)
	}
}
