package measure

import (
	"time"

	"github.com/draasd/draas/rto"
)

// Stale is a point of the tail of users who still ask where the service was.
type Stale struct {
	At    Millis `json:"at_ms"` // since Report.StaleFrom
	Old   int    `json:"old"`
	Users int    `json:"users"`
}

// staleTail works out, for each kind of client, who was still sent to an
// address of before a move, from an instant on. ok is false when the service
// did not move to another address.
func staleTail(t *rto.Timeline, kinds []Kind, from time.Duration) (tails [][]Stale, ok bool) {
	moved, ok := movedTo(t, kinds, from)
	if !ok {
		return nil, false
	}
	for i := range kinds {
		var tail []Stale
		for _, p := range rto.StaleTail(t.Streams[i].Samples, moved, from) {
			tail = append(tail, Stale{At: Millis(p.At - from), Old: p.Old, Users: p.Users})
		}
		tails = append(tails, tail)
	}
	return tails, true
}

// movedTo tells the addresses of where the service is at the end of the run
// from those of before: those of the site that answered last, or that address
// itself when answers do not say whose they are. Clients that never look again
// are not asked.
func movedTo(t *rto.Timeline, kinds []Kind, from time.Duration) (moved func(uint16) bool, ok bool) {
	var before, last *rto.Sample
	for i, k := range kinds {
		for j := range t.Streams[i].Samples {
			a := &t.Streams[i].Samples[j]
			if !a.Good() || a.Addr == rto.NoAddr {
				continue
			}
			if a.Done <= from && (before == nil || a.Done > before.Done) {
				before = a
			}
			if a.Done > from && k.LooksAgain() && (last == nil || a.Done > last.Done) {
				last = a
			}
		}
	}
	if before == nil || last == nil || before.Addr == last.Addr {
		return nil, false
	}
	at := map[uint16]bool{last.Addr: true}
	if last.Site != rto.NoSite {
		if before.Site == last.Site {
			return nil, false
		}
		for i := range kinds {
			for _, a := range t.Streams[i].Samples {
				if a.Good() && a.Site == last.Site && a.Done > from && a.Addr != before.Addr {
					at[a.Addr] = true
				}
			}
		}
	}
	return func(addr uint16) bool { return at[addr] }, true
}
