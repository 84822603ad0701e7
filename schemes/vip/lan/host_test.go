package lan

import (
	"context"
	"testing"
	"time"
)

// Addresses of both families on two interfaces are taken together, answer, and
// are gone together.
func TestTakeAndDrop(t *testing.T) {
	w := newWorld(t)
	user := w.host("user", 9)
	serve(t, "first")
	h := w.open(nil, vip4, vip6, back)
	if err := h.Fit(); err != nil {
		t.Fatal(err)
	}
	if _, err := visit(user, vip4, 50*time.Millisecond); err == nil {
		t.Fatal("the address answers before it is taken")
	}
	start := time.Now()
	if err := h.Take(context.Background(), inTime(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Logf("taken in %v", time.Since(start))
	for _, a := range []string{vip4, vip6, back} {
		if said, err := visit(user, a, 2*time.Second); err != nil || said != "first" {
			t.Errorf("%s: %q, %v", a, said, err)
		}
	}
	for _, a := range h.Status().Addresses {
		if !a.Present || a.Announced == 0 {
			t.Errorf("%+v", a)
		}
	}
	start = time.Now()
	if err := h.Drop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("dropped in %v", time.Since(start))
	for _, a := range h.Status().Addresses {
		if a.Present {
			t.Errorf("%s is still there", a.Address)
		}
	}
	for _, a := range []string{vip4, vip6, back} {
		if said, err := visit(user, a, 50*time.Millisecond); err == nil {
			t.Errorf("%s still answers: %q", a, said)
		}
	}
}
