package health

import (
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// Timing says how often one check looks and how many results make a verdict.
type Timing struct {
	Interval time.Duration // from the start of a look to the start of the next
	Timeout  time.Duration // of one look; at most Interval
	// SecondLook is the delay from the end of a refused or reset look to the
	// next one, and the least time between the starts of two looks that are
	// triggered. At most Interval.
	SecondLook time.Duration
	Rise       int     // successes in a row that make a failed check healthy
	Fall       int     // failures in a row that make a check failed
	Jitter     float64 // part of Interval, from 0 to below 1, by which it varies both ways
}

// Validate returns everything that is wrong with the timing.
func (t Timing) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.Interval <= 0 {
		bad("interval %s is not positive", t.Interval)
	}
	if t.Timeout <= 0 || t.Timeout > t.Interval {
		bad("timeout %s is not within 0 and the interval %s", t.Timeout, t.Interval)
	}
	if t.SecondLook <= 0 || t.SecondLook > t.Interval {
		bad("second look %s is not within 0 and the interval %s", t.SecondLook, t.Interval)
	}
	if t.Rise < 1 || t.Fall < 1 {
		bad("rise %d and fall %d must be at least 1", t.Rise, t.Fall)
	}
	if !(t.Jitter >= 0 && t.Jitter < 1) {
		bad("jitter %v is not from 0 to below 1", t.Jitter)
	}
	return errors.Join(errs...)
}

// kind sorts results by what they are evidence of.
type kind uint8

const (
	none kind = iota
	good
	bad
	blind
)

func kindOf(r Result) kind {
	switch {
	case r.OK():
		return good
	case r.Blind():
		return blind
	}
	return bad
}

// Detector turns the results of one check into a verdict, as the package
// comment says. It is pure: no clock, no goroutine. Times are offsets on any
// one monotonic scale. It is not safe for use by several goroutines.
type Detector struct {
	timing Timing
	random func() float64

	verdict draas.Verdict
	kind    kind          // of the latest results
	run     int           // how many of that kind came in a row
	since   time.Duration // when the first look of the run started
	hurry   bool          // a refused or reset connection asks for second looks
}

// NewDetector returns a detector that has seen nothing. The timing must be
// valid. Random returns numbers from 0 to below 1, for the jitter.
func NewDetector(t Timing, random func() float64) *Detector {
	return &Detector{timing: t, random: random}
}

// SetTiming changes the timing from the next step on.
func (d *Detector) SetTiming(t Timing) { d.timing = t }

// Verdict is what the results so far say.
func (d *Detector) Verdict() draas.Verdict { return d.verdict }

// Run tells how many results of one kind (success, failure, no evidence) came
// last in a row, and when the first look of them started.
func (d *Detector) Run() (count int, since time.Duration) { return d.run, d.since }

// Step takes the result of a look that ended at now and took r.Latency. It
// returns the verdict, whether this step changed it, and when to look next,
// which is not before now.
func (d *Detector) Step(now time.Duration, r Result) (verdict draas.Verdict, changed bool, next time.Duration) {
	before, started := d.verdict, now-r.Latency
	if k := kindOf(r); k != d.kind {
		d.kind, d.run, d.since = k, 0, started
	}
	d.run++
	switch d.kind {
	case good:
		d.hurry = false
		if d.verdict != draas.Failed || d.run >= d.timing.Rise {
			d.verdict = draas.Healthy
		}
	case bad:
		d.hurry = d.hurry || r.Abrupt()
		if d.verdict == draas.Failed || d.run >= d.timing.Fall {
			d.verdict, d.hurry = draas.Failed, false
		} else {
			d.verdict = draas.Suspect
		}
	case blind:
		d.hurry = false
		if d.run >= d.timing.Fall { // what is so old is as good as never seen
			d.verdict = draas.Unknown
		}
	}
	return d.verdict, d.verdict != before, d.next(now, started, r)
}

func (d *Detector) next(now, started time.Duration, r Result) time.Duration {
	if d.hurry && r.Class != ClassTimeout {
		return now + d.timing.SecondLook
	}
	return max(now, started+d.interval())
}

func (d *Detector) interval() time.Duration {
	spread := d.timing.Jitter * (2*d.random() - 1)
	return time.Duration(float64(d.timing.Interval) * (1 + spread))
}
