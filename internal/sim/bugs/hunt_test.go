package bugs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want Finding
		bad  bool
	}{
		"clean": {out: "sim: 50 schedules, 0 violations, 25 moves, 264 faults, 44.4 schedules/s\n", want: Finding{Seeds: 50}},
		"the lowest of two": {
			out:  "seed 9: at 1.0s: rule 1: x\nseed 7: at 2.0s: rule 2: y\nseed 7: at 2.1s: rule 1: x\nsim: 50 schedules, 3 violations, 25 moves\nits story: make sim SEED=7\n",
			want: Finding{Seeds: 50, Seed: 7, Violations: []string{"at 2.0s: rule 2: y", "at 2.1s: rule 1: x"}},
		},
		"nothing":               {bad: true},
		"no summary":            {out: "seed 9: at 1.0s: rule 1: x\n", bad: true},
		"counted and not shown": {out: "sim: 50 schedules, 1 violations, 25 moves\n", bad: true},
		"shown and not counted": {out: "seed 9: at 1.0s: x\nsim: 50 schedules, 0 violations, 25 moves\n", bad: true},
		"no number":             {out: "seed 99999999999999999999: at 1.0s: x\nsim: 50 schedules, 1 violations\n", bad: true},
	} {
		got, ok := parse(c.out)
		if ok == c.bad || ok && (got.Seeds != c.want.Seeds || got.Seed != c.want.Seed || !slices.Equal(got.Violations, c.want.Violations)) {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

// A simulator that breaks down is an error, and no finding.
func TestHuntNeedsAnAnswer(t *testing.T) {
	for _, bin := range []string{"/bin/true", "/bin/false", "/does/not/exist"} {
		if f, err := (&Hunter{}).Hunt(t.Context(), bin, 1, 1); err == nil {
			t.Errorf("%s finds %+v", bin, f)
		}
	}
}

// What a simulator says and how it ends have to fit together.
func TestHuntReadsASimulator(t *testing.T) {
	const clean, broken = "sim: 5 schedules, 0 violations, 1 moves\n", "seed 3: at 1.0s: rule 1: x\nsim: 5 schedules, 1 violations, 1 moves\n"
	for name, c := range map[string]struct {
		out  string
		exit int
		seed uint64
		bad  bool
	}{
		"clean":                  {out: clean},
		"broken":                 {out: broken, exit: 1, seed: 3},
		"clean, and it failed":   {out: clean, exit: 1, bad: true},
		"broken, and it crashed": {out: "seed 3: at 1.0s: rule 1: x\n", exit: 2, bad: true},
	} {
		bin := filepath.Join(t.TempDir(), "sim")
		script := fmt.Sprintf("#!/bin/sh\ntest \"$*\" = '-seeds 5 -jobs 2 -cover=false' || exit 9\ncat <<EOF\n%sEOF\nexit %d\n", c.out, c.exit)
		if err := os.WriteFile(bin, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := (&Hunter{}).Hunt(t.Context(), bin, 5, 2)
		if (err != nil) != c.bad || err == nil && (f.Seed != c.seed || f.Seeds != 5) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func TestAsExpected(t *testing.T) {
	b := Bug{Rules: []string{"rule 1", "section 4"}}
	for text, want := range map[string]bool{
		"at 3.906s: rule 1: two sites serve": true,
		"at 0.001s: section 4: x":            true,
		"at 3.906s: rule 3: rule 1":          false,
		"":                                   false,
	} {
		r := Row{Bug: b, Finding: Finding{Seed: 1, Violations: []string{"at 1.0s: liveness: x", text}}}
		if r.AsExpected() != want {
			t.Errorf("%q is expected: %t", text, !want)
		}
	}
	if (Row{Bug: b}).AsExpected() || (Finding{}).By() != "" {
		t.Error("what was not found is expected")
	}
	if by := (Finding{Violations: []string{"at 3.906s: rule 1: two sites serve"}}).By(); by != "rule 1: two sites serve" {
		t.Errorf("found by %q", by)
	}
}

// bench is a Bench whose bugs are found at seeds that are known before.
type bench struct {
	seeds map[string]uint64 // "clean" too
	fail  string

	mu    sync.Mutex
	calls []string
}

func (b *bench) Build(_ context.Context, name string, edits []Edit) (string, error) {
	if name == b.fail {
		return "", errors.New("it does not build")
	}
	if (len(edits) == 0) != (name == "clean") {
		return "", fmt.Errorf("%s has %d edits", name, len(edits))
	}
	return name, nil
}

func (b *bench) Hunt(_ context.Context, bin string, seeds uint64, jobs int) (Finding, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf("%s %d %d", bin, seeds, jobs))
	if s := b.seeds[bin]; s != 0 && s <= seeds {
		return Finding{Seeds: int(s), Seed: s, Violations: []string{"at 1.0s: rule 1: x"}}, nil
	}
	return Finding{Seeds: int(seeds)}, nil
}

func TestHuntAll(t *testing.T) {
	all := []Bug{{Name: "a", Edits: []Edit{{}}}, {Name: "b", Edits: []Edit{{}}}, {Name: "c", Edits: []Edit{{}}}}
	at := &bench{seeds: map[string]uint64{"a": 17, "b": 900, "c": 3}}
	rows := make(map[string]uint64)
	clean, err := HuntAll(t.Context(), at, all, 500, 2, func(r Row) { rows[r.Bug.Name] = r.Finding.Seed })
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows["a"] != 17 || rows["b"] != 0 || rows["c"] != 3 {
		t.Errorf("rows %v", rows)
	}
	// As many seeds without a bug as were needed with one, on all cores.
	if last := at.calls[len(at.calls)-1]; len(at.calls) != 4 || last != "clean 17 2" || clean.Seeds != 17 || clean.Seed != 0 {
		t.Errorf("calls %q, clean %+v", at.calls, clean)
	}
	if !slices.Contains(at.calls, "b 500 1") {
		t.Errorf("calls %q", at.calls)
	}
	at = &bench{seeds: map[string]uint64{"a": 17, "clean": 9}}
	if clean, err = HuntAll(t.Context(), at, all, 500, 2, func(Row) {}); err != nil || clean.Seed != 9 {
		t.Errorf("a bug without bugs: %+v, %v", clean, err)
	}
	at = &bench{fail: "b"}
	if _, err = HuntAll(t.Context(), at, all, 500, 2, func(Row) {}); err == nil {
		t.Error("a bug that does not build is no error")
	}
}
