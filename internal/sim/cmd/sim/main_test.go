package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The workers are this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-worker" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func sims(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, &stdout, &stderr)
	if stderr.Len() > 0 {
		t.Logf("sim %v: %s", args, &stderr)
	}
	return code, stdout.String()
}

func TestMany(t *testing.T) {
	code, out := sims(t, "-seeds", "60", "-jobs", "2")
	if code != 0 || !strings.Contains(out, "sim: 60 schedules, 0 violations, ") || !strings.Contains(out, "fault x phase") {
		t.Errorf("code %d:\n%s", code, out)
	}
	// However the seeds are shared out, the same comes of them.
	_, one := sims(t, "-seeds", "60", "-jobs", "1")
	table := func(s string) string { return s[:strings.LastIndex(s, ", ")] } // without the speed
	if table(one) != table(out) {
		t.Errorf("one worker finds\n%s\ntwo find\n%s", one, out)
	}
}

// Both clocks stop, which is more than is assumed.
const broken = `{"seed": %d, "trouble": "20s", "faults": [
  {"at": "3s", "kind": "crash", "on": "witness", "for": "1s"},
  {"at": "6s", "kind": "pause", "on": "@active", "for": "12s"},
  {"at": "7s", "kind": "service", "on": "@standby", "service": "shop", "for": "100ms"}
]}`

func TestScheduleIsCutDownAndReplayed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "schedule")
	// Not in every cluster that is drawn does it matter.
	code, out, seed := 0, "", 0
	for code == 0 && seed < 60 {
		seed++
		if err := os.WriteFile(path, fmt.Appendf(nil, broken, seed), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out = sims(t, "-schedule", path)
	}
	if code != 1 || !strings.Contains(out, "FAULT pause on ") || !strings.Contains(out, fmt.Sprintf("seed %d: at ", seed)) {
		t.Fatalf("code %d:\n%s", code, out)
	}
	code, out = sims(t, "-schedule", path, "-shrink")
	if code != 1 || !strings.Contains(out, "1 of 3 faults are left") || !strings.Contains(out, "sim.Schedule{Seed: ") {
		t.Fatalf("code %d:\n%s", code, out)
	}
	least := out[strings.Index(out, "{\n"):]
	least = least[:strings.Index(least, "\n}\n")+3]
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out = sims(t, "-schedule", path); code != 1 {
		t.Errorf("what is left breaks nothing:\n%s", out)
	}
}

func TestOneSeedTellsItsStory(t *testing.T) {
	code, out := sims(t, "-seed", "5")
	if code != 0 || !strings.Contains(out, "decision: activate of shop") || !strings.Contains(out, "trace ") {
		t.Errorf("code %d:\n%s", code, out)
	}
	if code, _ := sims(t, "-no-such-flag"); code != 2 {
		t.Errorf("an unknown flag gives code %d", code)
	}
	if code, _ := sims(t, "-schedule", filepath.Join(t.TempDir(), "none")); code != 1 {
		t.Errorf("a missing schedule gives code %d", code)
	}
}
