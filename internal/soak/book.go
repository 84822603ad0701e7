package soak

import (
	"fmt"
	"io"
	"math"
	"sync"
	"time"
)

// book keeps what happens in a run. Its methods may be called by anybody.
type book struct {
	timeline io.Writer

	mu         sync.Mutex
	round      []string // the timeline since the round began
	answers    [][]answer
	total      []int // answers, by service
	faults     map[Kind]int
	violations []string
	outages    map[string]*outage // by service
	failed     int                // questions by name that got no good answer
	asked      int
	skipped    int   // faults that could not be
	err        error // of writing the timeline
}

// outage is how long users outside went without a good answer by name.
type outage struct {
	last    time.Time // good answer
	longest time.Duration
	at      time.Time     // when the longest ended
	lately  time.Duration // the longest since the mark
}

func newBook(timeline io.Writer) *book {
	return &book{timeline: timeline, answers: make([][]answer, len(services)), total: make([]int, len(services)),
		faults: make(map[Kind]int), outages: make(map[string]*outage)}
}

// note puts a line in the timeline.
func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(time.Now(), fmt.Sprintf(format, args...))
}

func (b *book) write(at time.Time, text string) {
	line := at.UTC().Format("15:04:05.000") + " " + text + "\n"
	b.round = append(b.round, line)
	if _, err := io.WriteString(b.timeline, line); err != nil && b.err == nil {
		b.err = fmt.Errorf("write timeline: %w", err)
	}
}

func (b *book) fault(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[f.Kind]++
	b.write(time.Now(), "fault: "+f.String())
}

func (b *book) skip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skipped++
}

// violate notes that something happened that must not.
func (b *book) violate(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	b.violations = append(b.violations, text)
	b.write(time.Now(), "VIOLATION: "+text)
}

func (b *book) answered(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[a.Service] = append(b.answers[a.Service], a)
	b.total[a.Service]++
}

// named notes how a question by name ended.
func (b *book) named(machine, service string, good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if !good {
		b.failed++
		return
	}
	if machine != near(outside) {
		return
	}
	o, now := b.outages[service], time.Now()
	if o == nil {
		o = &outage{last: now}
		b.outages[service] = o
	}
	if d := now.Sub(o.last); d > o.longest {
		o.longest, o.at = d, now
	}
	o.lately = max(o.lately, now.Sub(o.last))
	o.last = now
}

// mark begins the time of which lull tells.
func (b *book) mark() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.outages {
		o.lately = 0
	}
}

// lull is the longest time since the mark that users outside went without a
// good answer by name, from the last one before it on.
func (b *book) lull(service string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.outages[service]
	if o == nil {
		return math.MaxInt64 // there never was one
	}
	return max(o.lately, time.Since(o.last))
}

// take hands over the answers that users had until then.
func (b *book) take(until instant) [][]answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := make([][]answer, len(b.answers))
	for i, all := range b.answers {
		var later []answer
		for _, a := range all {
			if a.Done <= until {
				taken[i] = append(taken[i], a)
			} else {
				later = append(later, a)
			}
		}
		b.answers[i] = later
	}
	return taken
}

// begin begins a round: the timeline of the one before is of no more interest.
func (b *book) begin(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round = nil
	b.write(time.Now(), text)
}

func (b *book) wrong() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.violations
}

func (b *book) struck() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, k := range b.faults {
		n += k
	}
	return n
}
