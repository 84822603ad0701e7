package fence

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	draas "github.com/draasd/draas"
)

func at(d time.Duration) draas.Reading {
	return draas.Reading{Boot: time.Hour + d, Wall: 1000*time.Hour + d}
}

func until(d time.Duration) draas.Deadline { return draas.DeadlineAt(at(0), d) }

func TestLedger(t *testing.T) {
	sec := time.Second
	type step struct {
		at    time.Duration
		epoch draas.Epoch
		until draas.Deadline // zero with close
		close bool
		err   error
		live  bool // after the step, at the same time
	}
	for name, steps := range map[string][]step{
		"opens, extends, ends": {
			{at: 0, epoch: 1, until: until(2 * sec), live: true},
			{at: 1 * sec, epoch: 1, until: until(3 * sec), live: true},
			{at: 2 * sec, epoch: 1, until: until(2500 * time.Millisecond), live: true}, // earlier: no change
			{at: 2900 * time.Millisecond, epoch: 1, until: until(2950 * time.Millisecond), live: true},
			{at: 3 * sec, epoch: 1, until: until(3 * sec), err: draas.ErrExpired},
			{at: 4 * sec, epoch: 1, until: until(6 * sec), live: true}, // the epoch goes on
		},
		"a late write does not reopen": {
			{at: 0, epoch: 1, until: until(1 * sec), live: true},
			{at: 2 * sec, epoch: 1, until: until(2 * sec), err: draas.ErrExpired},
			{at: 2 * sec, epoch: 2, until: until(1 * sec), err: draas.ErrExpired},
		},
		"close is terminal": {
			{at: 0, epoch: 5, until: until(9 * sec), live: true},
			{at: 1 * sec, epoch: 5, close: true},
			{at: 1 * sec, epoch: 5, until: until(9 * sec), err: draas.ErrStaleEpoch},
			{at: 1 * sec, epoch: 4, until: until(9 * sec), err: draas.ErrStaleEpoch},
			{at: 1 * sec, epoch: 6, until: until(9 * sec), live: true},
			{at: 1 * sec, epoch: 5, close: true, err: draas.ErrStaleEpoch, live: true}, // a late close does not disturb
			{at: 1 * sec, epoch: 9, close: true},
			{at: 1 * sec, epoch: 8, until: until(9 * sec), err: draas.ErrStaleEpoch},
			{at: 1 * sec, epoch: 9, until: until(9 * sec), err: draas.ErrStaleEpoch},
		},
		"a higher epoch brings its own deadline": {
			{at: 0, epoch: 1, until: until(9 * sec), live: true},
			{at: 0, epoch: 2, until: until(2 * sec), live: true},
			{at: 2 * sec, epoch: 1, until: until(9 * sec), err: draas.ErrStaleEpoch},
		},
		"nonsense": {
			{at: 0, epoch: 0, until: until(sec), err: ErrBadRequest},
			{at: 0, epoch: 0, close: true, err: ErrBadRequest},
			{at: 0, epoch: 1, until: until(MaxAhead + 1), err: ErrTooFar},
			{at: 0, epoch: 1, until: draas.Deadline{Boot: at(sec).Boot, Wall: at(MaxAhead + 1).Wall}, err: ErrTooFar},
			{at: 0, epoch: 1, err: draas.ErrExpired},
			{at: 0, epoch: 1, until: until(MaxAhead), live: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var l Ledger
			for i, s := range steps {
				var err error
				if s.close {
					err = l.Close(s.epoch)
				} else {
					err = l.Extend(at(s.at), s.epoch, s.until)
				}
				if !errors.Is(err, s.err) || (err == nil) != (s.err == nil) {
					t.Fatalf("step %d: %v, want %v", i, err, s.err)
				}
				if live := l.Live(at(s.at)); live != s.live {
					t.Fatalf("step %d: live %v, want %v", i, live, s.live)
				}
			}
		})
	}
}

func TestLedgerClocks(t *testing.T) {
	var l Ledger
	if err := l.Extend(at(0), 1, until(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	forth := draas.Reading{Boot: at(time.Second).Boot, Wall: at(time.Hour).Wall}
	if l.Live(forth) {
		t.Fatal("live although the wall clock is past the deadline")
	}
	if l.Live(at(2 * time.Second)) {
		t.Fatal("a wall clock that was stepped back revived the permit")
	}
	if err := l.Extend(at(3*time.Second), 1, until(10*time.Second)); err != nil || !l.Live(at(3*time.Second)) {
		t.Fatalf("a new renewal must revive it: %v", err)
	}
	back := draas.Reading{Boot: at(11 * time.Second).Boot, Wall: at(0).Wall}
	if l.Live(back) {
		t.Fatal("a wall clock that was stepped back lengthened the permit")
	}
}

// The ledger against an oracle that keeps everything that was ever accepted:
// it is live exactly if some accepted deadline of the highest epoch is ahead
// and that epoch was not closed; and epochs that were overtaken or closed never
// come back.
func TestLedgerProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Ledger
		now := time.Duration(0)
		var highest, ended draas.Epoch
		latest := map[draas.Epoch]time.Duration{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "pass"))
			e := draas.Epoch(rapid.Uint64Range(1, 6).Draw(t, "epoch"))
			if rapid.Bool().Draw(t, "close") {
				err := l.Close(e)
				if (err == nil) != (e >= highest) {
					t.Fatalf("close %d with highest %d: %v", e, highest, err)
				}
				if err == nil {
					highest, ended = e, e
				}
			} else {
				d := now + time.Duration(rapid.Int64Range(-int64(time.Second), int64(3*time.Second)).Draw(t, "ahead"))
				err := l.Extend(at(now), e, until(d))
				if want := e >= highest && e > ended && d > now; (err == nil) != want {
					t.Fatalf("extend %d to %v at %v (highest %d, ended %d): %v", e, d, now, highest, ended, err)
				}
				if err == nil {
					if e > highest {
						latest[e] = d
					}
					highest, latest[e] = e, max(latest[e], d)
				}
			}
			want := highest > ended && latest[highest] > now
			if got := l.Live(at(now)); got != want {
				t.Fatalf("live %v, want %v", got, want)
			}
		}
	})
}
