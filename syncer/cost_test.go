package syncer_test

import (
	"fmt"
	"testing"

	"github.com/draasd/draas/syncer"
)

// many seeds a source with so many objects of kinds with and without fields in
// their listings.
func (l *lab) many(n int) {
	l.tb.Helper()
	l.put(l.source, "project", "p", fields{"name": "acme"})
	for i := range n {
		kind, f := syncer.Kind("network"), fields{"name": fmt.Sprint(i), "project": ref("project", "p"), "mtu": 1500}
		if i%2 > 0 {
			kind, f = "group", fields{"name": fmt.Sprint(i), "project": ref("project", "p"), "rules": syncer.Set{}}
		}
		l.put(l.source, kind, fmt.Sprint(kind, i), f)
	}
}

// touch changes one.
func (l *lab) touch(i, mtu int) {
	l.tb.Helper()
	l.put(l.source, "network", fmt.Sprint("network", 2*i), fields{"name": fmt.Sprint(2 * i), "project": ref("project", "p"), "mtu": mtu})
}

// The calls of a run grow with what has changed, not with what is there.
func TestCallsOfARun(t *testing.T) {
	l := newLab(t)
	const n = 600
	l.many(n)
	calls := func() int64 { return l.source.Requests() + l.target.Requests() }
	before := calls()
	l.clean(syncer.Options{})
	first := calls() - before
	// Each is created, and half of them are read first.
	if most := int64(n + n/2 + 60); first > most {
		t.Errorf("%d calls for the first run of %d", first, n)
	}
	before = calls()
	res := l.clean(syncer.Options{})
	idle := calls() - before
	if idle > 40 || res.SourceRequests+res.TargetRequests != idle {
		t.Errorf("%d calls when nothing has changed, %d and %d counted", idle, res.SourceRequests, res.TargetRequests)
	}
	for i := range 10 {
		l.touch(i, 9000)
	}
	before = calls()
	l.clean(syncer.Options{})
	if got := calls() - before; got != idle+10 {
		t.Errorf("%d calls for ten changes, %d for none", got, idle)
	}
}

func BenchmarkFirstRun(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		l := newLab(b)
		l.many(10000)
		b.StartTimer()
		l.clean(syncer.Options{})
		b.StopTimer()
		l.close()
		b.StartTimer()
	}
}

func BenchmarkUnchanged(b *testing.B) {
	l := newLab(b)
	l.many(10000)
	l.clean(syncer.Options{})
	for b.Loop() {
		l.clean(syncer.Options{})
	}
}

func BenchmarkTenChanged(b *testing.B) {
	l := newLab(b)
	l.many(10000)
	l.clean(syncer.Options{})
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range 10 {
			l.touch(i, n)
		}
		b.StartTimer()
		l.clean(syncer.Options{})
	}
}
