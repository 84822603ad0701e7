package openstack

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// weigher weighs the heap when a run has planned, and begins to write.
type weigher struct{ heap uint64 }

var errWeighed = errors.New("weighed")

// Allow implements [syncer.Gate].
func (w *weigher) Allow() error {
	w.heap = heap()
	return errWeighed
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a run holds of each object that it is going to create, in bytes that live:
// the process takes up to twice as much.
func BenchmarkPlanned(b *testing.B) {
	const objects = 5000
	for b.Loop() {
		east, west := fakecloud.New(b, fakecloud.Options{Seed: 1}), fakecloud.New(b, fakecloud.Options{Seed: 2})
		hand, data := east.Hand(), fakecloud.Bytes([]byte("content"))
		for i := range objects {
			hand.Object("box", fmt.Sprintf("photos/2026/%08d.jpg", i), data, nil)
		}
		w := &weigher{}
		e := engine(b, site{openSide(b, "east", east.YAML("east"), Options{Site: "east"}), east},
			site{openSide(b, "west", west.YAML("west"), Options{Site: "west"}), west}, func(c *syncer.Config) {
				onlyObjects(c)
				c.Window, c.Gate = 0, w
			})
		before := heap()
		if _, err := e.Run(b.Context(), syncer.Options{}); !errors.Is(err, errWeighed) {
			b.Fatal(err)
		}
		b.ReportMetric((float64(w.heap)-float64(before))/objects, "B/object")
	}
}
