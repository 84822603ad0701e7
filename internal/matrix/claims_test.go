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
	if _, _, ok := arpReply(question, theirs); ok || len(question) != arpSize {
		t.Errorf("a question of %d bytes is an answer", len(question))
	}
	says := arpRequest(mac, theirs, ours)
	says[7] = arpSays
	if by, to, ok := arpReply(says, theirs); !ok || by != "02:00:00:00:00:09" || to != ours {
		t.Errorf("said by %q to %s, %v", by, to, ok)
	}
	for n := range says {
		if _, _, ok := arpReply(says[:n], theirs); ok {
			t.Errorf("%d bytes are an answer", n)
		}
	}
	if _, _, ok := arpReply(says, ours); ok {
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

// An answer belongs to the question that was asked in its name, however late it
// comes and is read.
func TestQuestions(t *testing.T) {
	ours := netip.MustParseAddr("10.91.4.110")
	var q questions
	for n := range 3 * askers {
		if got := q.add(time.Unix(0, int64(10*(n+1)))); got != n {
			t.Fatalf("question %d is called %d", n, got)
		}
	}
	last := askedAs(ours, askers-1)
	if askedAs(ours, 0) != ours || askedAs(ours, askers) != ours || last.As4()[3] <= ours.As4()[3] {
		t.Errorf("they are asked in the names of %s to %s", ours, last)
	}
	const turn = 10 * askers // of all names
	for _, c := range []struct {
		name     int
		at, want int64
	}{
		{0, 10, 10}, {0, 25, 10}, {1, 25, 20}, {1, 35, 20}, // an answer that later questions have overtaken
		{0, turn + 9, 10}, {0, turn + 10, turn + 10}, {2, turn + 25, 30}, {2, turn + 30, turn + 30},
		{5, 1 << 40, 2*turn + 60},
	} {
		if got, ok := q.answered(c.name, c.at); !ok || got != c.want {
			t.Errorf("at %d in name %d the question of %d is answered, %v, want %d", c.at, c.name, got, ok, c.want)
		}
	}
	for _, c := range [][2]int64{{0, 9}, {3, 35}, {-1, 1 << 40}, {askers, 1 << 40}} {
		if got, ok := q.answered(int(c[0]), c[1]); ok {
			t.Errorf("at %d in name %d the question of %d is answered, and none was asked", c[1], c[0], got)
		}
	}
}
