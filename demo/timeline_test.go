package demo

import (
	"bytes"
	"testing"
	"time"
)

func TestTimeline(t *testing.T) {
	start := time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	l := newTimeline(&out, false, start)
	l.add(start.Add(400*time.Millisecond), plain, "two sites are up")
	l.add(start.Add(2*time.Second), bad, "KILL")
	l.mark(start.Add(2 * time.Second))
	// It came late and happened early.
	l.add(start.Add(2100*time.Millisecond), good, "b")
	l.add(start.Add(2050*time.Millisecond), doubt, "a")
	l.add(start.Add(2050*time.Millisecond), doubt, "a, too")
	l.flush(start.Add(2100 * time.Millisecond))
	want := "    0.400 s  two sites are up\n   +0.000 s  KILL\n   +0.050 s  a\n   +0.050 s  a, too\n"
	if out.String() != want {
		t.Errorf("wrote\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	l.colour = true
	l.flushAll()
	if want := "   +0.100 s  \x1b[32mb\x1b[0m\n"; out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

func TestStalls(t *testing.T) {
	var s stalls
	for _, late := range []time.Duration{0, stallLate, 60 * time.Millisecond, 300 * time.Millisecond, -time.Second} {
		s.add(late)
	}
	if s.Count != 2 || s.Longest != 300*time.Millisecond || s.Total != 360*time.Millisecond {
		t.Errorf("%+v", s)
	}
	stop := watchStalls()
	if got := stop(); got.Longest > 10*time.Second {
		t.Errorf("%+v", got)
	}
}
