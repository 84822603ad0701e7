package cloud

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Rate bounds what is asked of a site, in a part of the day.
type Rate struct {
	// From and To are times of the day, "22:00"; the part may reach over
	// midnight. Both empty: all day.
	From, To string
	// RequestsPerSecond and BytesPerSecond are 0 for no bound. The octets are
	// those of bodies, both ways together.
	RequestsPerSecond float64
	BytesPerSecond    int64
}

// window is a rate with its part of the day, in minutes.
type window struct {
	Rate
	from, to int
}

// in reports whether a time of the day is in the window, which has its
// beginning and not its end.
func (w window) in(minute int) bool {
	if w.from < w.to {
		return w.from <= minute && minute < w.to
	}
	return w.from == w.to || minute >= w.from || minute < w.to
}

func windows(rates []Rate) ([]window, error) {
	var out []window
	for i, r := range rates {
		w := window{Rate: r}
		for text, to := range map[*string]*int{&r.From: &w.from, &r.To: &w.to} {
			if (r.From == "") != (r.To == "") {
				return nil, fmt.Errorf("rate %d: from and to: want both or none", i+1)
			}
			if *text == "" {
				continue
			}
			t, err := time.Parse("15:04", *text)
			if err != nil {
				return nil, fmt.Errorf("rate %d: %q is no time of the day: want 22:00", i+1, *text)
			}
			*to = t.Hour()*60 + t.Minute()
		}
		if r.From != "" && w.from == w.to {
			return nil, fmt.Errorf("rate %d: from %s to %s is no part of the day", i+1, r.From, r.To)
		}
		// The comparison is so that NaN fails it.
		if !(r.RequestsPerSecond >= 0) || r.BytesPerSecond < 0 {
			return nil, fmt.Errorf("rate %d: less than nothing", i+1)
		}
		out = append(out, w)
	}
	return out, nil
}

// pacer holds a site's traffic to its rates. Requests and octets each have a
// bucket: the time until which they are paid for may lie behind now, by no more
// than a burst, or before it, which is what there is to wait.
type pacer struct {
	windows []window
	now     func() time.Time // for the time of the day

	mu             sync.Mutex
	requests, body time.Time
}

// Bursts, in time at the rate, and how much is carried between two looks at
// the clock.
const (
	requestBurst = time.Second
	bodyBurst    = 250 * time.Millisecond
	paceChunk    = 32 << 10 // octets
	maxNap       = time.Second
)

// current is the rate of now: the first window that has it.
func (p *pacer) current() Rate {
	now := p.now()
	for _, w := range p.windows {
		if w.in(now.Hour()*60 + now.Minute()) {
			return w.Rate
		}
	}
	return Rate{}
}

// request waits for the next request's turn.
func (p *pacer) request(ctx context.Context) error {
	return p.pay(ctx, &p.requests, requestBurst, func(r Rate) time.Duration { return cost(1, r.RequestsPerSecond) })
}

// octets waits until n octets may have been carried.
func (p *pacer) octets(ctx context.Context, n int) error {
	return p.pay(ctx, &p.body, bodyBurst, func(r Rate) time.Duration { return cost(float64(n), float64(r.BytesPerSecond)) })
}

// cost is the time that n take at a rate, at most an hour.
func cost(n, rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(min(n/rate, 3600) * float64(time.Second))
}

// pay waits the debt off that is there, in naps, since a part of the day may
// end in between; then it takes on its own.
func (p *pacer) pay(ctx context.Context, paid *time.Time, burst time.Duration, price func(Rate) time.Duration) error {
	if len(p.windows) == 0 {
		return nil
	}
	for {
		own := price(p.current())
		if own == 0 {
			return nil
		}
		p.mu.Lock()
		now := time.Now()
		if earliest := now.Add(-burst); paid.Before(earliest) {
			*paid = earliest
		}
		debt := paid.Add(own).Sub(now)
		if debt <= 0 || !paid.After(now.Add(-burst)) {
			*paid = paid.Add(own)
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		if err := sleep(ctx, min(debt, maxNap)); err != nil {
			return err
		}
	}
}

// limit is how many octets to carry at once.
func (p *pacer) limit(n int) int {
	if len(p.windows) == 0 {
		return n
	}
	return min(n, paceChunk)
}
