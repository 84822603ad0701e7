package quorum

import (
	"math/rand/v2"
	"testing"

	"github.com/draasd/draas"
)

// What a message says against what was remembered: each line is one sentence
// of docs/adr/0006.
func TestJudge(t *testing.T) {
	said := func(start, run, term, vote, acked, last uint64) *head {
		return &head{claim: claim{start, 100 + incarnation(run), term, vote, acked}, last: last}
	}
	first := said(3, 0, 7, 2, 50, 60)
	for name, c := range map[string]struct {
		next  *head
		why   notice
		stale bool
	}{
		"the same again":                             {said(3, 0, 7, 2, 50, 60), 0, false},
		"an older message of the run, overtaken":     {said(3, 0, 6, 1, 40, 45), 0, false},
		"its log was cut before it acknowledged":     {said(3, 0, 8, 0, 0, 20), 0, false},
		"a new run with all of it":                   {said(4, 1, 7, 2, 0, 50), 0, false},
		"a new run in a later term":                  {said(4, 1, 8, 0, 0, 10), 0, false},
		"a new run lacks what was acknowledged":      {said(4, 1, 7, 2, 0, 49), noticeLost, false},
		"a new run in an earlier term":               {said(4, 1, 6, 2, 0, 90), noticeLost, false},
		"a new run has forgotten its vote":           {said(4, 1, 7, 0, 0, 60), noticeLost, false},
		"a new run has voted for another":            {said(4, 1, 7, 3, 0, 60), noticeLost, false},
		"the same run has voted for another":         {said(3, 0, 7, 3, 50, 60), noticeLost, false},
		"another daemon of the same run":             {said(3, 1, 9, 0, 90, 90), noticeCloned, false},
		"an earlier run":                             {said(2, 1, 9, 0, 90, 90), 0, true},
		"a message of the run from before its start": {said(3, 0, 1, 0, 0, 1), 0, false},
	} {
		p := &peer{}
		if why, stale := p.judge(first); why != 0 || stale {
			t.Fatalf("a first message: %v, %v", why, stale)
		}
		if why, stale := p.judge(c.next); why != c.why || stale != c.stale {
			t.Errorf("%s: %d, %v", name, why, stale)
		}
		if c.why != 0 {
			// Until it is replaced: nothing makes up for it.
			for _, h := range []*head{first, said(9, 5, 99, 0, 0, 999)} {
				if why, _ := p.judge(h); why != c.why {
					t.Errorf("%s, and then: %d", name, why)
				}
			}
		}
	}
}

// incarnation is the incarnation of a run.
func incarnation(n uint64) draas.Incarnation { return draas.Incarnation(n) }

// A log that loses nothing is never taken for one that did, in whatever order
// its messages arrive; and one that did lose something is found out by whoever
// remembers, however late.
func TestClaimsOfAnHonestLog(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		// held is what a leader of the term has been acknowledged: it will not cut
		// that off. The daemon knows only of its own run (acked).
		var log struct{ term, vote, last, acked, held uint64 }
		log.term, log.last = 1, 10
		start, run := uint64(1), uint64(1)
		p := &peer{}
		var flying []*head
		say := func() *head {
			return &head{claim: claim{start, 100 + incarnation(run), log.term, log.vote, log.acked}, last: log.last}
		}
		for range 200 {
			switch rnd.IntN(8) {
			case 0:
				log.term, log.vote, log.acked, log.held = log.term+1, 0, 0, 0
			case 1:
				if log.vote == 0 {
					log.vote = 1 + rnd.Uint64N(3)
				}
			case 2, 3: // a leader's entries: what was not acknowledged to it may go
				log.last = log.held + rnd.Uint64N(10)
				log.acked, log.held = log.last, log.last
			case 4:
				start, run, log.acked = start+1+rnd.Uint64N(3), rnd.Uint64(), 0
			}
			flying = append(flying, say())
			h := flying[rnd.IntN(len(flying))]
			if why, _ := p.judge(h); why != 0 {
				t.Fatalf("seed %d: an honest log is quarantined: %s", seed, why)
			}
			if k := p.known; k.short(log.term, log.vote, log.last) {
				t.Fatalf("seed %d: an honest log would disown itself: %+v of %+v", seed, k, log)
			}
		}
	}
}
