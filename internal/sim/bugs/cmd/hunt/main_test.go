package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/sim/bugs"
)

// bench finds bugs, and the product as it is, broken at seeds known before.
type bench map[string]uint64

func (b bench) Build(_ context.Context, name string, _ []bugs.Edit) (string, error) {
	if name == "unbuilt" {
		return "", errors.New("it does not build")
	}
	return name, nil
}

func (b bench) Hunt(_ context.Context, bin string, seeds uint64, _ int) (bugs.Finding, error) {
	if s := b[bin]; s != 0 && s <= seeds {
		rule := "rule 1"
		if bin == "odd" {
			rule = "rule 9"
		}
		return bugs.Finding{Seeds: int(s), Seed: s, Violations: []string{"at 1.5s: " + rule + ": two sites"}}, nil
	}
	return bugs.Finding{Seeds: int(seeds)}, nil
}

func bug(name string) bugs.Bug { return bugs.Bug{Name: name, Rules: []string{"rule 1"}} }

func TestOne(t *testing.T) {
	var out strings.Builder
	code, err := huntOne(t.Context(), bench{"a": 7}, bug("a"), 100, 2, &out)
	if code != found || err != nil || !strings.HasSuffix(out.String(), "sim: BUG a found seed=7\n") {
		t.Errorf("%d %v %q", code, err, &out)
	}
	out.Reset()
	code, err = huntOne(t.Context(), bench{"a": 101}, bug("a"), 100, 2, &out)
	if code != clean || err != nil || out.String() != "sim: BUG a not found in 100 seeds\n" {
		t.Errorf("%d %v %q", code, err, &out)
	}
	if code, err = huntOne(t.Context(), bench{}, bug("unbuilt"), 100, 2, &out); code != failed || err == nil {
		t.Errorf("%d %v", code, err)
	}
}

func TestAll(t *testing.T) {
	for name, c := range map[string]struct {
		at   bench
		bugs []bugs.Bug
		code int
		says string
	}{
		"all found":            {bench{"a": 7, "b": 9}, []bugs.Bug{bug("a"), bug("b")}, clean, "sim: 2 of 2 bugs found in 16 schedules; without them 9 schedules, 0 violations"},
		"one is not":           {bench{"a": 7}, []bugs.Bug{bug("a"), bug("b")}, found, "NOT FOUND"},
		"for the wrong reason": {bench{"a": 7, "odd": 2}, []bugs.Bug{bug("a"), bug("odd")}, found, "NOT AS EXPECTED: rule 9: two sites"},
		"found without a bug":  {bench{"a": 7, "clean": 5}, []bugs.Bug{bug("a")}, found, "without a bug, seed 5: at 1.5s: rule 1: two sites"},
		"does not build":       {bench{}, []bugs.Bug{bug("unbuilt")}, failed, ""},
	} {
		var out strings.Builder
		code, err := huntAll(t.Context(), c.at, c.bugs, 100, 2, &out)
		if code != c.code || (err != nil) != (code == failed) || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %d %v\n%s", name, code, err, &out)
		}
	}
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	if code, err := run(t.Context(), []string{"list"}, &out); code != clean || err != nil || strings.Count(out.String(), "\n") != len(bugs.All()) {
		t.Errorf("%d %v\n%s", code, err, &out)
	}
	for _, args := range [][]string{{}, {"none"}, {"a", "b"}, {"-jobs", "0", "all"}, {"-unknown", "all"}} {
		if code, err := run(t.Context(), args, &out); code != failed || err == nil {
			t.Errorf("%q: %d %v", args, code, err)
		}
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "internal/sim/bugs")); err != nil {
		t.Errorf("module is not at %s: %v", root, err)
	}
}
