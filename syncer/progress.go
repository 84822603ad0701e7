package syncer

import (
	"sync"
	"time"
)

// progressEvery is how often a run tells how far it is.
const progressEvery = 200 * time.Millisecond

// Progress of a run.
type Progress struct {
	Elapsed time.Duration  `json:"elapsed"`
	Kinds   []KindProgress `json:"kinds"`
	Ended   bool           `json:"ended,omitempty"`
}

// KindProgress is how far a run is with a kind.
type KindProgress struct {
	Kind   Kind  `json:"kind"`
	Done   int   `json:"done"` // failed ones included
	ToDo   int   `json:"to_do"`
	Failed int   `json:"failed,omitempty"`
	Bytes  int64 `json:"bytes"` // carried until now
	Carry  int64 `json:"carry"` // to be carried, in all
	// Rate in bytes per second; 0 before the first.
	Rate float64 `json:"rate"`
	// Left is the time left, by the rate until now; 0: not known, or done.
	Left time.Duration `json:"left"`
}

// reporter tells about a run while it goes on.
type reporter struct {
	wg   sync.WaitGroup
	quit chan struct{}
	tell func(Progress)
}

func (p *reporter) start(r *run, tell func(Progress)) {
	if tell == nil {
		return
	}
	p.quit, p.tell = make(chan struct{}), tell
	p.wg.Go(func() {
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				tell(r.progress())
			case <-p.quit:
				return
			}
		}
	})
}

func (p *reporter) stop(r *run) {
	if p.tell == nil {
		return
	}
	close(p.quit)
	p.wg.Wait()
	last := r.progress()
	last.Ended = true
	p.tell(last)
}

func (r *run) progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Elapsed: r.e.Now().Sub(r.began)}
	for _, k := range r.order {
		t := r.kinds[k]
		if t == nil || t.toDo == 0 {
			continue
		}
		kp := KindProgress{Kind: k.Kind, ToDo: t.toDo, Failed: t.Failed, Bytes: t.moved, Carry: t.toCarry}
		kp.Done = t.Failed + t.Done[Create] + t.Done[Update] + t.Done[Replace] + t.Done[Delete]
		kp.Rate, kp.Left = pace(kp, p.Elapsed)
		p.Kinds = append(p.Kinds, kp)
	}
	return p
}

// pace is the rate in bytes per second, and the time left: by bytes where there
// are any, else by objects.
func pace(k KindProgress, elapsed time.Duration) (float64, time.Duration) {
	seconds := elapsed.Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	rate := float64(k.Bytes) / seconds
	switch {
	case k.Done >= k.ToDo:
		return rate, 0
	case k.Carry > 0 && k.Bytes > 0:
		return rate, time.Duration(float64(max(0, k.Carry-k.Bytes)) / rate * float64(time.Second))
	case k.Done > 0:
		return rate, time.Duration(float64(elapsed) * float64(k.ToDo-k.Done) / float64(k.Done))
	}
	return rate, 0
}
