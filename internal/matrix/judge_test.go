package matrix

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// told is a crowd that was answered as the function says, every 20 ms for
// three seconds, by each asker; the disaster was after one.
func told(answers map[string]func(at time.Duration) answer) (c *crowd, fault, end time.Time) {
	began := time.Unix(1000, 0)
	c = &crowd{began: began, answers: make(map[string][]answer), direct: map[string]bool{nearHost(primary): true, nearHost(dr): true}}
	for name, f := range answers {
		for at := time.Duration(0); at < 3*time.Second; at += time.Second / rate {
			a := f(at)
			a.Asker = name
			a.At += began.UnixNano() + int64(at)
			a.Sent = a.At
			a.Done += a.At + int64(time.Millisecond)
			if a.Class == rto.Good {
				a.Stamp = a.Done
			}
			c.answers[name] = append(c.answers[name], a)
		}
	}
	return c, began.Add(time.Second), began.Add(3 * time.Second)
}

// moved is served by the primary for as long, fails then, and is served by the
// other from an instant on.
func moved(until, from time.Duration) func(time.Duration) answer {
	return func(at time.Duration) answer {
		switch {
		case at < until:
			return answer{Site: primary, Epoch: 7}
		case at < from:
			return answer{Class: rto.Refused, Why: "refused"}
		}
		return answer{Site: dr, Epoch: 8}
	}
}

func only(site string, epoch uint64, until time.Duration) func(time.Duration) answer {
	return func(at time.Duration) answer {
		if at < until {
			return answer{Site: site, Epoch: epoch}
		}
		return answer{Class: rto.Timeout}
	}
}

func TestJudge(t *testing.T) {
	c, fault, end := told(map[string]func(time.Duration) answer{
		kindFresh: moved(1100*time.Millisecond, 1500*time.Millisecond),
		kindKept: func(at time.Duration) answer { // waits, and is not told that anything failed
			a := moved(1100*time.Millisecond, 1100*time.Millisecond)(at)
			if at == 1100*time.Millisecond {
				a.Done = int64(600 * time.Millisecond)
			}
			return a
		},
		nearHost(primary): only(primary, 7, 1100*time.Millisecond),
	})
	c.writes = &measure.Writes{Acked: 50, Known: true, Lost: 4}
	var r Result
	c.judge(&r, 7, fault, end)
	fresh, kept := r.Kinds[kindFresh], r.Kinds[kindKept]
	if r.Void != "" || fresh.RTOMS != 401 || fresh.Failed != 20 || !fresh.Recovered || fresh.Why != "refused" || fresh.Felt() != 401 {
		t.Errorf("fresh %+v, void %q", fresh, r.Void)
	}
	if kept.RTOMS != 0 || kept.Failed != 0 || kept.StallMS != 601 || kept.Felt() != 601 {
		t.Errorf("kept %+v", kept)
	}
	if r.DualMS != 0 || r.WrongSite != 0 || r.Lost != 4 || r.Acked != 50 || len(r.Kinds) != 2 {
		t.Errorf("%+v", r)
	}
	// What failed before users were served steadily is not looked at.
	c.answers[kindFresh] = append([]answer{{At: c.began.UnixNano() - 1, Done: c.began.UnixNano(), Class: rto.Refused}}, c.answers[kindFresh]...)
	if c.judge(&r, 7, fault, end); r.Void != "" || r.Kinds[kindFresh].Failed != 20 {
		t.Errorf("void %q, %+v", r.Void, r.Kinds[kindFresh])
	}
	c.answers[kindFresh][0].At++
	if c.judge(&r, 7, fault, end); r.Void == "" {
		t.Error("a failure just before the disaster is no matter")
	}
	c.writes.Known = false
	if c.judge(&r, 7, fault, end); r.Lost != -1 {
		t.Errorf("%d lost, and nothing was read back", r.Lost)
	}
}

// What must never be seen is.
func TestJudgeSeesTwoSites(t *testing.T) {
	c, fault, end := told(map[string]func(time.Duration) answer{
		kindFresh:         moved(1100*time.Millisecond, 1500*time.Millisecond),
		nearHost(primary): only(primary, 7, 2*time.Second),
		nearHost(dr):      only(dr, 8, 3*time.Second),
	})
	var r Result
	c.judge(&r, 7, fault, end)
	if r.DualMS < 1900 || r.DualMS > 2000 {
		t.Errorf("two sites served for %v ms, known are 2 s less a request", r.DualMS)
	}
	c, fault, end = told(map[string]func(time.Duration) answer{
		kindFresh: moved(1100*time.Millisecond, 1500*time.Millisecond),
		kindLong: func(at time.Duration) answer {
			if at == 2*time.Second {
				return answer{Site: primary, Epoch: 7}
			}
			return moved(1100*time.Millisecond, 1500*time.Millisecond)(at)
		},
	})
	if c.judge(&r, 7, fault, end); r.WrongSite != 1 {
		t.Errorf("%d answers of a site that had been succeeded, there was one", r.WrongSite)
	}
	// An epoch of a time before the run is what a service had not learned yet.
	c, fault, end = told(map[string]func(time.Duration) answer{kindFresh: func(at time.Duration) answer {
		a := moved(1100*time.Millisecond, 1500*time.Millisecond)(at)
		if a.Epoch == 8 && at < 1600*time.Millisecond {
			a.Epoch = 5
		}
		return a
	}})
	if c.judge(&r, 7, fault, end); r.WrongSite != 0 {
		t.Errorf("%d answers are called wrong for an epoch that is over", r.WrongSite)
	}
}

func TestHold(t *testing.T) {
	fine := func() Result {
		return Result{From: primary, To: dr, Moves: 1, BoundMS: 2000, Kinds: map[string]Seen{kindFresh: {Recovered: true, RTOMS: 2900}, kindLong: {Recovered: true, RTOMS: 4900}}}
	}
	move := cell{Expect: moves}
	for _, c := range []struct {
		what  string
		cell  cell
		spoil func(*Result)
		want  string // part of the fault; empty: none
	}{
		{"all is well", move, func(*Result) {}, ""},
		{"late", move, func(r *Result) { r.Kinds[kindFresh] = Seen{Recovered: true, RTOMS: 3100} }, "allowed are 3000 (2000 by the file)"},
		{"waits too long", move, func(r *Result) { r.Kinds[kindFresh] = Seen{Recovered: true, StallMS: 3100} }, "without an answer for 3100 ms"},
		{"late on a machine that let nobody run", move, func(r *Result) { r.Kinds[kindFresh] = Seen{Recovered: true, RTOMS: 3100}; r.Late = 60 }, ""},
		{"late on a machine that let nobody run for long", move, func(r *Result) { r.To, r.Kinds[kindFresh], r.Upset = primary, Seen{RTOMS: 9999}, "so" }, ""},
		{"two sites on a machine that let nobody run", move, func(r *Result) { r.DualMS, r.Upset = 1, "so" }, "two sites"},
		{"nothing bounds it", move, func(r *Result) { r.Kinds[kindFresh] = Seen{Recovered: true, RTOMS: 31000}; r.BoundMS = 0 }, ""},
		{"not served again", move, func(r *Result) { r.Kinds[kindKept] = Seen{Why: "refused"} }, "kept: not served again (refused)"},
		{"did not move", move, func(r *Result) { r.To, r.Moves = primary, 0 }, "did not move to dr"},
		{"home", cell{Expect: moves, To: primary}, func(r *Result) { r.To = primary }, ""},
		{"moved, and must not", cell{Expect: stays}, func(*Result) {}, "moved 1 times"},
		{"there and back, and must not", cell{Expect: unnoticed}, func(r *Result) { r.To, r.Moves = primary, 2 }, "moved 2 times"},
		{"noticed", cell{Expect: unnoticed}, func(r *Result) {
			r.To, r.Moves = primary, 0
			r.Kinds[kindKept] = Seen{Recovered: true, Failed: 1}
		}, "nothing was to be noticed"},
		{"nobody is warned", cell{Expect: unnoticed}, func(r *Result) { r.To, r.Moves, r.unwarned = primary, 0, errors.New("it warns of nothing") }, "nobody is warned: it warns of nothing"},
		{"nobody is warned on a machine that let nobody run", cell{Expect: unnoticed}, func(r *Result) {
			r.To, r.Moves, r.unwarned, r.Upset = primary, 0, errors.New("it warns of nothing"), "so"
		}, "nobody is warned"},
		{"nobody is left to warn on a machine that let nobody run", cell{Expect: unnoticed}, func(r *Result) { r.unwarned, r.Upset = errors.New("it is active itself"), "so" }, ""},
		{"there and back", cell{Expect: returns}, func(r *Result) { r.To, r.Moves = primary, 2 }, ""},
		{"to and fro", cell{Expect: returns}, func(r *Result) { r.Moves = 3 }, "moved 3 times"},
		{"two sites", move, func(r *Result) { r.DualMS = 1 }, "two sites served for 1 ms"},
		{"wrong site", move, func(r *Result) { r.WrongSite = 2 }, "2 answers"},
	} {
		r := fine()
		c.spoil(&r)
		r.hold(c.cell)
		if got := strings.Join(r.Faults, "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: found %q, want %q", c.what, got, c.want)
		}
	}
}

func TestQuiet(t *testing.T) {
	r := Result{Kinds: map[string]Seen{kindFresh: {Sent: 9}, kindLong: {Sent: 9}}}
	if !r.quiet() {
		t.Error("nothing happened")
	}
	r.Moves = 2
	if r.quiet() {
		t.Error("it moved")
	}
	r.Moves, r.Kinds[kindLong] = 0, Seen{Sent: 9, Failed: 1}
	if r.quiet() {
		t.Error("somebody was refused")
	}
}

// A service that moves before anything was done is a fault, unless the machine
// stood still; in neither case does the run prove anything.
func TestDisplaced(t *testing.T) {
	for late, faults := range map[time.Duration]int{upsetAfter: 1, upsetAfter + 1: 0} {
		var r Result
		r.displaced(dr, late)
		if len(r.Faults) != faults || (r.Upset != "") != (faults == 0) || r.proves() || r.To != dr {
			t.Errorf("after a standstill of %v: %+v", late, r)
		}
	}
}

// Who is steady has been served all the time, and by whom he should.
func TestSteady(t *testing.T) {
	now := time.Now()
	c := &crowd{answers: make(map[string][]answer)}
	for at := now.Add(-2 * time.Second); at.Before(now); at = at.Add(time.Second / rate) {
		a := answer{At: at.UnixNano(), Done: at.UnixNano(), Site: dr}
		if now.Sub(at) > 900*time.Millisecond {
			a.Class = rto.Reset
		}
		c.answers[kindFresh] = append(c.answers[kindFresh], a)
	}
	who := []string{kindFresh}
	if err := c.steady(who, dr, 500*time.Millisecond); err != nil {
		t.Errorf("served for 900 ms: %v", err)
	}
	if err := c.steady(who, "", 1500*time.Millisecond); err == nil {
		t.Error("failures of the last 1.5 s are not seen")
	}
	if err := c.steady(who, primary, 500*time.Millisecond); err == nil {
		t.Error("it is the wrong site")
	}
	if err := c.steady(append(who, kindKept), dr, 500*time.Millisecond); err == nil {
		t.Error("nobody has heard of the other kind")
	}
	c.answers[kindFresh] = slices.DeleteFunc(c.answers[kindFresh], func(a answer) bool { return now.Sub(time.Unix(0, a.At)) < 300*time.Millisecond })
	if err := c.steady(who, dr, 500*time.Millisecond); err == nil {
		t.Error("who waits for answers is not steady")
	}
}
