package frontend

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// balanced is a service with servers at one site, led there.
func balanced(t *testing.T, m Method, servers ...string) (*Balancer, *Table) {
	t.Helper()
	table := New(Config{Clock: clock(), Log: slog.New(slog.DiscardHandler)}, []Spec{specOf(servers...)})
	if err := table.Apply(draas.Reading{}, "shop", Decision{Epoch: 1, Site: "primary", Permit: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return NewBalancer(table.Service("shop"), m), table
}

func specOf(servers ...string) Spec {
	s := Spec{Service: "shop", Outlives: true, Sites: map[draas.SiteID][]Server{"primary": nil}}
	for _, a := range servers {
		s.Sites["primary"] = append(s.Sites["primary"], Server{a})
	}
	return s
}

func (b *Balancer) shares(t *testing.T, n int, want func(i int) Want) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for i := range n {
		s := b.Pick("primary", want(i))
		if s == nil {
			t.Fatal("no server")
		}
		s.Begin()
		got[s.Address]++
	}
	return got
}

func TestBalancerTakesTurns(t *testing.T) {
	for _, m := range []Method{LeastConnections, RoundRobin} {
		b, _ := balanced(t, m, "a:1", "b:1", "c:1")
		for server, n := range b.shares(t, 300, func(int) Want { return Want{} }) {
			if n != 100 {
				t.Errorf("method %d: %s got %d of 300", m, server, n)
			}
		}
	}
}

func TestLeastConnections(t *testing.T) {
	b, _ := balanced(t, LeastConnections, "a:1", "b:1")
	busy := b.Servers("primary")[0]
	for range 10 {
		busy.Begin()
	}
	for server, n := range b.shares(t, 10, func(int) Want { return Want{} }) {
		if server == busy.Address {
			t.Errorf("the busy server got %d", n)
		}
	}
}

// Clients of a server that is gone move, the others stay, and they come back.
func TestAffinity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := balanced(t, LeastConnections, "a:1", "b:1", "c:1", "d:1")
		key := func(i int) Want { return Want{Key: fmt.Sprintf("10.0.%d.%d", i/256, i%256)} }
		before := make(map[int]*Backend)
		for i := range 4000 {
			before[i] = b.Pick("primary", key(i))
		}
		for server, n := range b.shares(t, 4000, key) {
			if n < 800 || n > 1200 {
				t.Errorf("%s got %d of 4000", server, n)
			}
		}
		gone := b.Servers("primary")[2]
		gone.Failed()
		for i, was := range before {
			if now := b.Pick("primary", key(i)); was != gone && now != was {
				t.Fatalf("client %d of %s was moved to %s", i, was.Address, now.Address)
			} else if now == gone {
				t.Fatal("led to the server that is gone")
			}
		}
		tag := Want{Tag: gone.Tag, Key: "x"}
		if b.Pick("primary", tag) == gone {
			t.Error("a tag leads to the server that is gone")
		}
		time.Sleep(pauseMin + 1)
		for i, was := range before {
			if b.Pick("primary", key(i)) != was {
				t.Fatalf("client %d did not come back", i)
			}
		}
		if b.Pick("primary", tag) != gone {
			t.Error("a tag does not lead to its server")
		}
	})
}

func TestSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, table := balanced(t, LeastConnections, "a:1", "b:1")
		a, other := b.Servers("primary")[0], b.Servers("primary")[1]
		pause := pauseMin
		for range 8 {
			a.Failed()
			a.Failed() // of the same cause
			time.Sleep(pause - 1)
			if !a.Aside() || b.Pick("primary", Want{}) != other {
				t.Fatalf("not aside for %s", pause)
			}
			time.Sleep(time.Nanosecond)
			if a.Aside() {
				t.Fatalf("aside for longer than %s", pause)
			}
			pause = min(2*pause, pauseMax)
		}
		a.Good()
		a.Failed()
		time.Sleep(pauseMin)
		if a.Aside() {
			t.Error("the pause did not start anew after a good answer")
		}
		// All are aside: whoever failed longest ago is tried, then the other.
		a.Failed()
		time.Sleep(time.Millisecond)
		other.Failed()
		for _, want := range []*Backend{a, other, a, other} {
			time.Sleep(time.Millisecond)
			got := b.Pick("primary", Want{})
			if got != want {
				t.Fatalf("%s is tried, not %s", got.Address, want.Address)
			}
			got.Failed()
		}
		if s := b.Pick("primary", Want{}, a, other); s != nil {
			t.Errorf("%s is tried twice", s.Address)
		}
		// What is known of a server outlives another file.
		table.Use([]Spec{specOf("c:1", "a:1", "a:1")})
		if got := b.Servers("primary"); len(got) != 2 || got[1] != a || !got[1].Aside() {
			t.Errorf("after another file: %v", got)
		}
		if b.Pick("primary", Want{}).Address != "c:1" || b.Pick("dr", Want{}) != nil {
			t.Error("picked otherwise than the file has it")
		}
	})
}

func TestCheckFindsServers(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	b, _ := balanced(t, RoundRobin, address)
	s := b.Servers("primary")[0]
	s.Failed()
	ended := make(chan struct{})
	ctx := t.Context()
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			s.check(ctx, time.Second)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	until(t, "found good", func() bool { return !s.Aside() })
	_ = dead.Close()
	until(t, "set aside", s.Aside)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never " + what)
		}
		<-time.After(time.Millisecond)
	}
}
