package failover

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

// BenchmarkApply is what one entry of the log costs a member that applies it,
// decoding included: the two kinds that a quiet and a troubled cluster write
// most.
func BenchmarkApply(b *testing.B) {
	c := active(&testing.T{}, nil)
	s := *c.state()
	events := map[string]Event{
		"renew": {Kind: EventRenew, By: "primary", Incarnation: 1, ID: 9, At: time.Unix(1e9, 0), Permits: map[draas.ServiceID]draas.Epoch{"shop": 1}},
		"observed": {Kind: EventObserved, By: "witness", Incarnation: 1, ID: 9, At: time.Unix(1e9, 0),
			Observed: []Observation{{Service: "shop", Site: "primary", Epoch: 1, Verdict: draas.Suspect, Class: "timeout"}}},
	}
	for name, e := range events {
		b.Run(name, func(b *testing.B) {
			data, err := e.Encode()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				e, err := Decode(data)
				if err != nil {
					b.Fatal(err)
				}
				e.Index = s.Index + 1
				apply(s, e)
			}
		})
	}
	b.Run("tick", func(b *testing.B) {
		a := c.agents["witness"]
		b.ReportAllocs()
		for b.Loop() {
			a.Tick(c.reading())
		}
	})
}
