package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
)

func underWay() syncer.Progress {
	return syncer.Progress{Elapsed: 20 * time.Second, Kinds: []syncer.KindProgress{
		{Kind: "network", Done: 8, ToDo: 8}, {Kind: "image", Done: 1, ToDo: 4, Failed: 1, Bytes: 100 << 20, Carry: 400 << 20, Rate: 5 << 20, Left: time.Minute},
		{Kind: "object", Done: 10, ToDo: 40}, {Kind: "zone", ToDo: 2}}}
}

// On a terminal the whole and each kind under way have a line, which the next
// look writes over; at the end nothing is left.
func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := syncProgress{w: &out, terminal: true, width: 100, height: 24, now: time.Now}
	s.begin(direction{from: "primary", to: "dr"})
	if got := out.String(); got != "looking at what primary and dr have\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	s.show(underWay())
	want := "\r\x1b[1A\x1b[J" +
		"20s  19 of 54 objects, 1 failed, 100.0 MiB of 400.0 MiB, 5.0 MiB/s, 1m0s left\n" +
		"  image                 1 of 4       1 failed, 100.0 MiB of 400.0 MiB, 5.0 MiB/s, 1m0s left\n" +
		"  object               10 of 40\n" +
		"  zone                  0 of 2\n"
	if got := out.String(); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	out.Reset()
	s.height = 5 // two kinds have room
	s.show(underWay())
	if got := out.String(); strings.Count(got, "\n") != 3 || !strings.HasPrefix(got, "\r\x1b[4A\x1b[J") || !strings.Contains(got, "and 2 kinds more") {
		t.Errorf("%q", got)
	}
	out.Reset()
	s.show(syncer.Progress{Ended: true})
	s.draw(nil)
	if got := out.String(); got != "\r\x1b[3A\x1b[J" {
		t.Errorf("%q", got)
	}
}

// Elsewhere there is a line now and then.
func TestProgressInAFile(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	s := syncProgress{w: &out, now: func() time.Time { return now }}
	s.begin(direction{from: "primary", to: "dr"})
	for range 21 {
		s.show(underWay())
		now = now.Add(time.Second)
	}
	s.show(syncer.Progress{Ended: true})
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "1m0s left  (image 1/4, object 10/40, zone 0/2)\n") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}

// The time that is left is told once a rate says something, by what takes it.
func TestTimeLeft(t *testing.T) {
	for _, tt := range []struct {
		elapsed                    time.Duration
		done, toDo, carried, carry int64
		want                       time.Duration
	}{
		{time.Second, 5, 10, 0, 0, 0}, {10 * time.Second, 5, 10, 0, 0, 10 * time.Second}, {10 * time.Second, 0, 10, 0, 0, 0}, {10 * time.Second, 10, 10, 0, 0, 0},
		{10 * time.Second, 9, 10, 25, 100, 30 * time.Second}, {10 * time.Second, 1, 10, 0, 100, 0}, {10 * time.Second, 5, 10, 100, 100, 10 * time.Second},
	} {
		if got := timeLeft(tt.elapsed, tt.done, tt.toDo, tt.carried, tt.carry); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
