package soak

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// A guard that makes its fences anew at SIGHUP, again and again, holds no more
// descriptors than at its start.
func TestGuardGivesBackDescriptors(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s, err := setStage(t.TempDir(), build(t), newBook(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	g := s.hosts[dr].guard
	keep(t, g)
	until(t, "it knows SIGHUP", func() bool { _, _, age := g.Present(); return age > lab.DeafAge })
	held := func() int {
		pid, run, _ := g.Present()
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil || run != 1 {
			t.Fatalf("run %d: %v", run, err)
		}
		return len(files)
	}
	reload := func(file int) {
		info, err := os.Stat(g.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		said := func() (map[string]string, error) {
			text, err := lab.ReadFrom(g.LogPath, info.Size())
			return map[string]string{dr: text}, err
		}
		if err := s.reload(file); err != nil {
			t.Fatal(err)
		}
		if err := guardsSay(context.Background(), said, "file read again, the fences follow it"); err != nil {
			t.Fatal(err)
		}
	}
	before := held()
	const reloads = 12
	for n := range reloads {
		reload([]int{len(files) - 1, 0}[n%2])
	}
	now := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); pause(context.Background(), 50*time.Millisecond) {
		if now = held(); now <= before+3 { // requests that are just being answered
			return
		}
	}
	t.Errorf("it holds %d descriptors after %d reloads, and held %d", now, reloads, before)
}
