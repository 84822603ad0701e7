package matrix

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestARP(t *testing.T) {
	ours, theirs := netip.MustParseAddr("10.91.4.110"), netip.MustParseAddr("10.91.4.100")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	question := arpRequest(mac, ours, theirs)
	if _, ok := arpReply(question, theirs); ok || len(question) != arpSize {
		t.Errorf("a question of %d bytes is an answer", len(question))
	}
	says := arpRequest(mac, theirs, ours)
	says[7] = arpSays
	if by, ok := arpReply(says, theirs); !ok || by != "02:00:00:00:00:09" {
		t.Errorf("said by %q, %v", by, ok)
	}
	for n := range says {
		if _, ok := arpReply(says[:n], theirs); ok {
			t.Errorf("%d bytes are an answer", n)
		}
	}
	if _, ok := arpReply(says, ours); ok {
		t.Error("it is another's")
	}
}

// Who has a machine's address is heard; of two who have it both are.
func TestClaims(t *testing.T) {
	t.Parallel()
	if got := doubleClaims([]claim{{1, 2, "a"}, {1, 3, "a"}, {2, 4, "a"}, {3, 5, "b"}, {4, 6, "b"}, {4, 7, "a"}, {4, 8, "c"}, {5, 9, "b"}, {5, 9, "a"}}); got != 2*claimEvery {
		t.Errorf("claimed twice for %v, by two questions", got)
	}
	needRoot(t)
	n := testNetwork(t, "1ms")
	for _, m := range []string{edge1, edge2} {
		if _, err := n.add(m, edge, map[string]int{edge1: hostFirst, edge2: hostSecond}[m], hostVIP); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.add(nearHost(edge), edge, hostNear); err != nil {
		t.Fatal(err)
	}
	w := &world{column: column{Pair: true}, o: Options{Self: self(t)}, net: n}
	claimed := func() (by map[string]bool, double time.Duration) {
		c, err := w.gather()
		if err != nil {
			t.Fatal(err)
		}
		until(t, "somebody answers", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.claims) > 4 })
		c.stop()
		if err := c.leave(); err != nil {
			t.Fatal(err)
		}
		by = make(map[string]bool)
		for _, x := range c.claims {
			by[x.By] = true
		}
		return by, doubleClaims(c.claims)
	}
	if by, double := claimed(); len(by) != 2 || double == 0 {
		t.Errorf("two have it, heard were %v, twice for %v", by, double)
	}
	if err := n.reach(false, edge1); err != nil {
		t.Fatal(err)
	}
	if by, double := claimed(); len(by) != 1 || double != 0 {
		t.Errorf("one has it, heard were %v, twice for %v", by, double)
	}
}

func TestUnclaimed(t *testing.T) {
	at := func(ms int64) int64 { return ms * int64(time.Millisecond) }
	said := []claim{{Said: at(10)}, {Said: at(500)}, {Said: at(505)}, {Said: at(800)}, {Said: at(806)}}
	for from, want := range map[int64]time.Duration{0: 490 * time.Millisecond, 505: 295 * time.Millisecond, 800: 6 * time.Millisecond, 900: 0} {
		if got := unclaimed(said, time.Unix(0, at(from))); got != want {
			t.Errorf("after %d ms: %v, want %v", from, got, want)
		}
	}
}

// An answer belongs to the last question before it came, however late it is
// read.
func TestQuestions(t *testing.T) {
	var q questions
	for _, at := range []int64{10, 20, 30} {
		q.add(time.Unix(0, at))
	}
	for at, want := range map[int64]int64{9: 10, 10: 10, 15: 10, 20: 20, 29: 20, 99: 30} {
		if got := q.before(at); got != want {
			t.Errorf("at %d the question of %d is answered, want %d", at, got, want)
		}
	}
}
