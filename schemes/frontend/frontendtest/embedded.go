package frontendtest

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/draasd/draas/schemes/frontend"
)

// Embedded is a proxy of our own: it is a part of the frontend, and listens
// anew at each start.
type Embedded struct {
	At string
	// Serve makes a proxy of the table's only service, which serves until its
	// context ends, and then soon ends what is under way.
	Serve func(t testing.TB, service *frontend.Service) func(context.Context, net.Listener) error
}

// Address is where it listens.
func (e Embedded) Address() string { return e.At }

// Follow serves what comes to the address.
func (e Embedded) Follow(t testing.TB, table *frontend.Table) (crash func()) {
	t.Helper()
	ln, err := net.Listen("tcp", e.At)
	if err != nil {
		t.Fatal(err)
	}
	serve := e.Serve(t, table.Services()[0])
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(ctx, ln); err != nil {
			t.Errorf("serve %s: %v", e.At, err)
		}
	})
	return sync.OnceFunc(func() {
		stop()
		wg.Wait()
	})
}
