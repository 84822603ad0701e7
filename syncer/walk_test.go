package syncer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// killer ends the engine at one call, as if its process was killed: from then on
// nothing reaches a side or the store.
type killer struct {
	l      *lab
	at     int  // the call, from 1; 0: none
	behind bool // after the call's effect, else before

	mu    sync.Mutex
	calls int
	dead  bool
}

// hook both sides.
func (k *killer) hook() {
	k.l.source.Fault, k.l.target.Fault = k.fault, k.fault
}

func (k *killer) fault(syncertest.Call) syncertest.Fault {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return syncertest.Fault{Err: context.Canceled}
	}
	k.calls++
	if k.calls != k.at {
		return syncertest.Fault{}
	}
	k.dead = true
	k.l.close()
	if k.behind {
		return syncertest.Fault{Lose: true}
	}
	return syncertest.Fault{Err: context.Canceled}
}

func (k *killer) revive() {
	k.l.source.Fault, k.l.target.Fault = nil, nil
}

// story changes the source between two runs.
func story(l *lab) {
	s := l.source
	l.put(s, "project", "p1", fields{"name": "between"}) // two names are swapped
	l.put(s, "project", "p2", fields{"name": "acme", "parent": ref("project", "p1")})
	l.put(s, "project", "p1", fields{"name": "beta"})
	l.put(s, "network", "n1", fields{"name": "front", "project": ref("project", "p1"), "mtu": 9000})
	l.put(s, "flavor", "f1", fields{"name": "small", "ram": 1024, "access": syncer.Set{ref("project", "p2")}})
	l.put(s, "object", "c1/0", fields{"name": "0"}, key{Kind: "container", ID: "c1"}, "line 0, longer")
	l.put(s, "image", "i1", fields{"name": "debian", "project": ref("project", "p2")}, "other bytes")
	l.put(s, "group", "g3", fields{"name": "new", "project": ref("project", "p1"), "rules": syncer.Set{rule(4, "g1")}})
	l.put(s, "group", "g1", fields{"name": "web", "project": ref("project", "p1"), "rules": syncer.Set{rule(80, ""), rule(1, "g3")}})
	for _, k := range []key{{Kind: "object", ID: "c1/1"}, {Kind: "container", ID: "c2"}, {Kind: "subnet", ID: "s1"}, {Kind: "network", ID: "n2"}} {
		if err := s.Drop(k); err != nil {
			l.tb.Fatal(err)
		}
	}
}

// The engine is killed before and after each of its calls in turn; the next run
// ends what was begun, and nothing is there twice.
func TestKilledAtEveryCall(t *testing.T) {
	for _, part := range []string{"first run", "changes"} {
		for _, behind := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, behind %t", part, behind), func(t *testing.T) {
				t.Parallel()
				died := 0
				for at := 1; ; at++ {
					if !killedAt(t, part, at, behind) {
						break
					}
					died++
				}
				t.Logf("killed at %d calls", died)
				if died < 40 {
					t.Errorf("only %d calls", died)
				}
			})
		}
	}
}

// killedAt tells whether the call came at all.
func killedAt(t *testing.T, part string, at int, behind bool) bool {
	t.Helper()
	l := newLab(t)
	defer l.close()
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.config.Workers = 1  // so that calls have an order
	l.config.Attempts = 1 // and nobody waits for the dead
	l.seed()
	if part == "changes" {
		l.clean(syncer.Options{})
		story(l)
	}
	k := &killer{l: l, at: at, behind: behind}
	k.hook()
	l.clock = l.clock.Add(time.Minute)
	e := l.engine()
	_, err := e.Run(context.Background(), syncer.Options{})
	k.revive()
	if !k.dead {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err == nil {
		t.Errorf("killed at call %d, and no error", at)
	}
	l.close()
	l.clock = l.clock.Add(2 * time.Hour)
	res := l.run(syncer.Options{})
	if diffs := l.diverged(); len(diffs) > 0 || res.Outcome() != syncer.Clean {
		t.Fatalf("killed at call %d: %q\n%s", at, diffs, told(res))
	}
	if res := l.run(syncer.Options{}); res.Plan.Acts() > 0 {
		t.Errorf("killed at call %d: not done by one run: %s", at, told(res))
	}
	return true
}
