package runbook

import (
	"testing"

	"github.com/draasd/draas"
)

func TestReleased(t *testing.T) {
	var r Released
	at := func(epoch draas.Epoch) Op {
		return Op{Service: "shop", Token: Token{Epoch: epoch}}
	}
	r.Add(at(5))
	r.Add(at(3)) // what is given up stays so
	other := at(4)
	other.Service = "www"
	for epoch, want := range map[draas.Epoch]bool{4: true, 5: true, 6: false} {
		if r.Has(at(epoch)) != want {
			t.Errorf("epoch %d released: %t", epoch, !want)
		}
	}
	if r.Has(other) {
		t.Error("another service's token is released")
	}
}
