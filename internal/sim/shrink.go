package sim

import (
	"slices"
	"strings"
	"time"
)

// rule is what a violation is of: its text up to the first colon that follows
// the time.
func rule(violation string) string {
	_, text, _ := strings.Cut(violation, ": ")
	name, _, _ := strings.Cut(text, ":")
	return name
}

// Shrink cuts a schedule down to few faults, with few and short ones left,
// that still breaks the rule which the schedule's first violation is of. tries
// is how many runs that took; a schedule that breaks nothing is returned as it
// is.
func Shrink(s Schedule) (least Schedule, tries int, err error) {
	return shrink(s, func(s Schedule) ([]string, error) {
		r, err := Run(s, false, nil)
		return r.Violations, err
	})
}

// maxTries bounds a shrinking: each try is a run of some milliseconds.
const maxTries = 3000

type shrinker struct {
	run   func(Schedule) ([]string, error)
	want  string
	tries int
	err   error
}

func shrink(s Schedule, run func(Schedule) ([]string, error)) (Schedule, int, error) {
	violations, err := run(s)
	if err != nil || len(violations) == 0 {
		return s, 1, err
	}
	k := &shrinker{run: run, want: rule(violations[0]), tries: 1}
	for {
		before := len(s.Faults)
		s = k.fewer(s)
		s = k.simpler(s)
		if len(s.Faults) == before || k.err != nil || k.tries >= maxTries {
			return s, k.tries, k.err
		}
	}
}

// breaks reports whether the schedule still breaks the rule.
func (k *shrinker) breaks(s Schedule) bool {
	if k.tries >= maxTries || k.err != nil {
		return false
	}
	k.tries++
	violations, err := k.run(s)
	if err != nil {
		k.err = err
		return false
	}
	return slices.ContainsFunc(violations, func(v string) bool { return rule(v) == k.want })
}

// fewer is delta debugging (Zeller's ddmin): it removes ever smaller parts as
// long as the rest still breaks the rule.
func (k *shrinker) fewer(s Schedule) Schedule {
	for n := 2; len(s.Faults) > 0; {
		size := (len(s.Faults) + n - 1) / n
		cut := false
		for from := 0; from < len(s.Faults); from += size {
			less := s
			less.Faults = slices.Delete(slices.Clone(s.Faults), from, min(from+size, len(s.Faults)))
			if k.breaks(less) {
				s, cut = less, true
				break
			}
		}
		switch {
		case cut:
			n = max(n-1, 2)
		case size == 1:
			return s
		default:
			n = min(2*n, len(s.Faults))
		}
	}
	return s
}

// simpler makes each fault shorter and weaker, and the trouble as short as it
// can be.
func (k *shrinker) simpler(s Schedule) Schedule {
	for i := range s.Faults {
		for _, change := range []func(*Fault) bool{
			func(f *Fault) bool { ok := f.For > ms; f.For /= 2; return ok },
			func(f *Fault) bool { ok := f.By > ms || f.By < -ms; f.By /= 2; return ok },
			func(f *Fault) bool { ok := f.N > 0; f.N--; return ok },
			func(f *Fault) bool { ok := f.At%time.Second != 0; f.At = f.At.Round(time.Second); return ok },
		} {
			for range 12 { // halves: enough for any duration that matters
				less := s
				less.Faults = slices.Clone(s.Faults)
				if !change(&less.Faults[i]) || !k.breaks(less) {
					break
				}
				s = less
			}
		}
	}
	for range 12 {
		less := s
		less.Trouble -= time.Second
		if less.Trouble < 2*time.Second || !k.breaks(less) {
			break
		}
		s = less
	}
	return s
}
