package rto

import "time"

// Stale is a point of the tail of users who are still sent to where the
// service was: Old of Users were, from At on.
type Stale struct {
	At         time.Duration
	Old, Users int
}

// StaleTail follows, from an instant on, how many users of a stream still ask
// an address at which the service is not any more; moved tells the others. A
// user stands where the latest of his requests went, as of when it was sent; one that found
// no address changes nothing. The first point is at from, and a point follows
// for each change.
func StaleTail(samples []Sample, moved func(addr uint16) bool, from time.Duration) []Stale {
	old := make(map[uint16]bool)
	n := 0
	var tail []Stale
	for i := range samples {
		a := &samples[i]
		if a.Addr == NoAddr {
			continue
		}
		if a.Sent > from && tail == nil {
			tail = append(tail, Stale{At: from, Old: n, Users: len(old)})
		}
		is := !moved(a.Addr)
		was, known := old[a.User]
		old[a.User] = is
		switch {
		case known && is == was:
			continue
		case is:
			n++
		case was:
			n--
		}
		if tail != nil {
			tail = append(tail, Stale{At: max(a.Sent, tail[len(tail)-1].At), Old: n, Users: len(old)})
		}
	}
	if tail == nil {
		tail = []Stale{{At: from, Old: n, Users: len(old)}}
	}
	return tail
}
