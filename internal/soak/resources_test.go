package soak

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	calm := func(run int, age time.Duration, rss int64, files int) usage {
		return usage{Run: run, Age: age, RSS: rss << 20, Files: files, Threads: 8}
	}
	for _, tc := range []struct {
		name string
		uses []usage
		bad  string
	}{
		{"flat", []usage{calm(1, time.Minute, 20, 25), calm(1, time.Hour, 24, 27)}, ""},
		{"descriptors leak", []usage{calm(1, time.Minute, 20, 25), calm(1, time.Hour, 20, 60)}, "60 descriptors"},
		{"memory leaks", []usage{calm(1, time.Minute, 20, 25), calm(1, time.Hour, 60, 25)}, "60.0 MiB"},
		{"another run", []usage{calm(1, time.Minute, 20, 10), calm(2, time.Minute, 60, 60)}, ""},
		{"too much at once", []usage{calm(1, time.Minute, 300, 10)}, "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, wrong := &ledger{of: make(map[string]*account)}, ""
			for _, u := range tc.uses {
				wrong += l.add("x", u, true)
			}
			if (wrong == "") != (tc.bad == "") || !strings.Contains(wrong, tc.bad) {
				t.Errorf("says %q, want %q", wrong, tc.bad)
			}
		})
	}
}

// The table shows the run that was watched longest.
func TestTable(t *testing.T) {
	l := &ledger{of: make(map[string]*account)}
	for _, u := range []usage{
		{Run: 1, Age: 10 * time.Second, RSS: 10 << 20, Files: 10, Threads: 5}, {Run: 1, Age: 70 * time.Second, RSS: 12 << 20, Files: 11, Threads: 6},
		{Run: 2, Age: 5 * time.Second, RSS: 30 << 20, Files: 30, Threads: 7},
	} {
		l.add("dr-daemon", u, true)
	}
	if got := strings.Fields(strings.Split(l.table(), "\n")[1]); strings.Join(got, " ") != "dr-daemon 2 1m0s 10.0 MiB -> 12.0 MiB 10 -> 11 5 -> 6 30.0 MiB, 30, 7" {
		t.Errorf("the table has %v", got)
	}
}

func TestScan(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.log": "level=INFO msg=running\n", "b.log": "fine\npanic: runtime error: index out of range\n\ngoroutine 1 [running]:\n", "c.txt": "panic: not a log\n",
		"d.log": "==================\nWARNING: DATA RACE\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := scan(dir)
	if err != nil || len(found) != 2 || !strings.HasPrefix(found[0], "b.log: panic:") || !strings.HasPrefix(found[1], "d.log: WARNING") {
		t.Errorf("found %q, %v", found, err)
	}
}

func TestField(t *testing.T) {
	if got := field([]byte("Name:\tx\nVmRSS:\t  1234 kB\nThreads:\t7\n"), "VmRSS:"); got != 1234 {
		t.Errorf("VmRSS is %d", got)
	}
}
