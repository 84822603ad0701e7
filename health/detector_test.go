package health

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// fast is the timing of the fast profile, without jitter.
var fast = Timing{Interval: 250 * ms, Timeout: 200 * ms, SecondLook: 15 * ms, Rise: 2, Fall: 4}

func middle() float64 { return 0.5 } // no jitter whatever its part

// script letters stand for results: . ok, r refused, x reset, t timeout,
// s status, l local.
var letters = map[byte]Result{
	'.': {Class: ClassOK, Latency: 2 * ms},
	'r': {Class: ClassRefused, Latency: 1 * ms},
	'x': {Class: ClassReset, Latency: 3 * ms},
	't': {Class: ClassTimeout, Latency: 200 * ms},
	's': {Class: ClassStatus, Latency: 4 * ms},
	'l': {Class: ClassLocal, Latency: 1 * ms},
}

func TestDetectorVerdicts(t *testing.T) {
	tests := []struct{ name, results, verdicts string }{
		{"first success is enough", ".", "H"},
		{"first failure is a suspicion", "s", "S"},
		{"unknown needs fall failures", "ssss", "SSSF"},
		{"healthy to failed", ".ssss", "HSSSF"},
		{"a success ends a suspicion", ".sss.sss.", "HSSSHSSSH"},
		{"suspect then healthy is never failed", "s.s.s.s.s.", "SHSHSHSHSH"},
		{"failed needs rise successes", "ssss..", "SSSFFH"},
		{"failed: rise is in a row", "ssss.s.s..", "SSSFFFFFFH"},
		{"healthy again needs fall again", "ssss..sss", "SSSFFHSSS"},
		{"classes mix", ".rxts", "HSSSF"},
		{"blind looks change nothing", ".lll.", "HHHHH"},
		{"blind looks are no failures", ".slllsll", "HSSSSSSS"},
		{"a blind look breaks a run of failures", ".sssl" + "sss", "HSSSS" + "SSS"},
		{"and the run begins anew", ".sssl" + "ssss", "HSSSS" + "SSSF"},
		{"a blind look breaks a run of successes", "ssss.l.", "SSSFFFF"},
		{"fall blind looks: unknown", ".llll", "HHHHU"},
		{"unknown after blindness: as at first", "ssssllll.", "SSSFFFFUH"},
		{"no accusation right after blindness", "ssssllllsss", "SSSFFFFUSSS"},
	}
	names := map[draas.Verdict]string{draas.Unknown: "U", draas.Healthy: "H", draas.Suspect: "S", draas.Failed: "F"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDetector(fast, middle)
			before, now := draas.Unknown, time.Duration(0)
			var got strings.Builder
			for i := range len(tt.results) {
				r := letters[tt.results[i]]
				verdict, changed, next := d.Step(now+r.Latency, r)
				if changed != (verdict != before) {
					t.Errorf("step %d: changed = %v from %s to %s", i, changed, before, verdict)
				}
				if verdict != d.Verdict() {
					t.Errorf("step %d: Step says %s, Verdict %s", i, verdict, d.Verdict())
				}
				before, now = verdict, next
				got.WriteString(names[verdict])
			}
			if got.String() != tt.verdicts {
				t.Errorf("results %s: verdicts %s, want %s", tt.results, &got, tt.verdicts)
			}
		})
	}
}

func TestDetectorSchedule(t *testing.T) {
	tests := []struct {
		name, results string
		starts        []time.Duration // of each look, and of the one after the last
	}{
		{"healthy: from start to start", "..", []time.Duration{0, 250 * ms, 500 * ms}},
		{"refused: second looks until failed", "rrrrr",
			[]time.Duration{0, 16 * ms, 32 * ms, 48 * ms, 298 * ms, 548 * ms}},
		{"reset: until success", ".xx..",
			[]time.Duration{0, 250 * ms, 268 * ms, 286 * ms, 536 * ms, 786 * ms}},
		{"timeout: the interval", "ttt", []time.Duration{0, 250 * ms, 500 * ms, 750 * ms}},
		{"status: the interval", "ss", []time.Duration{0, 250 * ms, 500 * ms}},
		{"refused, then status: still in a hurry", "rss",
			[]time.Duration{0, 16 * ms, 35 * ms, 54 * ms}},
		{"refused, then silence, then refused", "rtr",
			[]time.Duration{0, 16 * ms, 266 * ms, 282 * ms}},
		{"failed stays calm", "ssssrr",
			[]time.Duration{0, 250 * ms, 500 * ms, 750 * ms, 1000 * ms, 1250 * ms, 1500 * ms}},
		{"blindness ends the hurry", "rls", []time.Duration{0, 16 * ms, 266 * ms, 516 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDetector(fast, middle)
			got := []time.Duration{0}
			for i := range len(tt.results) {
				r := letters[tt.results[i]]
				_, _, next := d.Step(got[i]+r.Latency, r)
				got = append(got, next)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.starts) {
				t.Errorf("results %s: starts\n got %v\nwant %v", tt.results, got, tt.starts)
			}
		})
	}
}

func TestDetectorStartsAtOnceIfTheIntervalPassed(t *testing.T) {
	d := NewDetector(fast, middle)
	if _, _, next := d.Step(1000*ms, Result{Class: ClassTimeout, Latency: 300 * ms}); next != 1000*ms {
		t.Errorf("next = %v, want at once", next)
	}
}

func TestDetectorJitter(t *testing.T) {
	timing := fast
	timing.Jitter = 0.2
	for random, want := range map[float64]time.Duration{0: 200 * ms, 0.5: 250 * ms, 0.75: 275 * ms} {
		d := NewDetector(timing, func() float64 { return random })
		if _, _, next := d.Step(0, Result{Class: ClassOK}); next != want {
			t.Errorf("random %v: next = %v, want %v", random, next, want)
		}
	}
}

func TestDetectorRun(t *testing.T) {
	d := NewDetector(fast, middle)
	d.Step(10*ms, Result{Class: ClassOK, Latency: 10 * ms})
	d.Step(260*ms, Result{Class: ClassRefused, Latency: 5 * ms})
	d.Step(300*ms, Result{Class: ClassReset, Latency: 5 * ms})
	if n, since := d.Run(); n != 2 || since != 255*ms {
		t.Errorf("run = %d since %v, want 2 since 255ms", n, since)
	}
}

// looked is one look of a history, for the oracle.
type looked struct {
	r   Result
	end time.Duration
}

// oracle says by searching the whole history what the package comment
// promises in words.
func oracle(t Timing, history []looked) draas.Verdict {
	// Fall blind looks in a row: as if nothing before had been seen.
	for i := range history {
		if rowEndingAt(history, i, blind) >= t.Fall {
			return oracle(t, history[i+1:])
		}
	}
	failedAt := -1
	for i := range history {
		if rowEndingAt(history, i, bad) >= t.Fall {
			failedAt = i
		}
	}
	if failedAt >= 0 {
		recovered := false
		for i := failedAt + 1; i < len(history); i++ {
			recovered = recovered || rowEndingAt(history, i, good) >= t.Rise
		}
		if !recovered {
			return draas.Failed
		}
	}
	for i := len(history) - 1; i >= 0; i-- {
		switch kindOf(history[i].r) {
		case good:
			return draas.Healthy
		case bad:
			return draas.Suspect
		}
	}
	return draas.Unknown
}

func rowEndingAt(history []looked, end int, k kind) int {
	n := 0
	for i := end; i >= 0 && kindOf(history[i].r) == k; i-- {
		n++
	}
	return n
}

// oracleNext says when to look next after the history.
func oracleNext(t Timing, random float64, history []looked) time.Duration {
	last := history[len(history)-1]
	abrupt := false
	for i := len(history) - 1; i >= 0 && kindOf(history[i].r) == bad; i-- {
		abrupt = abrupt || history[i].r.Class == ClassRefused || history[i].r.Class == ClassReset
	}
	if abrupt && oracle(t, history) != draas.Failed && last.r.Class != ClassTimeout {
		return last.end + t.SecondLook
	}
	interval := float64(t.Interval) * (1 - t.Jitter + 2*t.Jitter*random)
	return max(last.end, last.end-last.r.Latency+time.Duration(interval))
}

func TestDetectorAgainstOracle(t *testing.T) {
	classes := []Class{ClassOK, ClassOK, ClassRefused, ClassReset, ClassTimeout, ClassStatus, ClassLocal}
	rapid.Check(t, func(t *rapid.T) {
		timing := Timing{
			Interval:   time.Duration(rapid.IntRange(20, 2000).Draw(t, "interval")) * ms,
			Rise:       rapid.IntRange(1, 4).Draw(t, "rise"),
			Fall:       rapid.IntRange(1, 5).Draw(t, "fall"),
			Jitter:     rapid.Float64Range(0, 0.5).Draw(t, "jitter"),
			SecondLook: 15 * ms,
			Timeout:    20 * ms,
		}
		random := rapid.Float64Range(0, 0.999).Draw(t, "random")
		d := NewDetector(timing, func() float64 { return random })
		var history []looked
		var now time.Duration
		var wasSuspect bool
		for range rapid.IntRange(1, 60).Draw(t, "looks") {
			r := Result{
				Class:   rapid.SampledFrom(classes).Draw(t, "class"),
				Latency: time.Duration(rapid.IntRange(0, 500).Draw(t, "latency")) * ms,
			}
			now += r.Latency
			history = append(history, looked{r, now})
			before := d.Verdict()
			verdict, changed, next := d.Step(now, r)
			if want := oracle(timing, history); verdict != want {
				t.Fatalf("verdict %s, oracle %s, after %v", verdict, want, history)
			}
			if changed != (before != verdict) {
				t.Fatalf("changed %v from %s to %s", changed, before, verdict)
			}
			if verdict == draas.Failed && before != draas.Failed && !wasSuspect && timing.Fall > 1 {
				t.Fatalf("failed without a suspicion before")
			}
			wasSuspect = verdict == draas.Suspect
			want := oracleNext(timing, random, history)
			if math.Abs(float64(next-want)) > float64(time.Microsecond) {
				t.Fatalf("next %v, oracle %v, after %v", next, want, history)
			}
			now = next
		}
	})
}

func TestTimingValidate(t *testing.T) {
	if err := fast.Validate(); err != nil {
		t.Errorf("fast timing: %v", err)
	}
	tests := map[string]func(*Timing){
		"interval":    func(t *Timing) { t.Interval = 0 },
		"timeout":     func(t *Timing) { t.Timeout = t.Interval + 1 },
		"second look": func(t *Timing) { t.SecondLook = 0 },
		"rise":        func(t *Timing) { t.Rise = 0 },
		"fall":        func(t *Timing) { t.Fall = -1 },
		"jitter":      func(t *Timing) { t.Jitter = math.NaN() },
	}
	for word, spoil := range tests {
		timing := fast
		spoil(&timing)
		if err := timing.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("spoilt %s: error %v", word, err)
		}
	}
}
