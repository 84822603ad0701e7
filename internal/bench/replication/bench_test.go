package replication

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// Each round is set beside the same round of the other.
func TestRatio(t *testing.T) {
	costs := func(seconds ...int) (l Line) {
		for _, s := range seconds {
			l.costs = append(l.costs, cost{wall: time.Duration(s) * time.Second})
		}
		return l
	}
	if r := ratio(costs(10, 20, 40), costs(1, 4, 2), seconds); r != (rounds.Range{Median: 10, Min: 5, Max: 20}) {
		t.Errorf("%+v", r)
	}
}

func TestParseStat(t *testing.T) {
	d, err := parseStat("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20")
	if err != nil || d != 2*time.Second {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := parseStat("12 (a) S 1"); err == nil {
		t.Error("a short line is read")
	}
}

// The targets are met by the median, above or below.
func TestTargets(t *testing.T) {
	b := &bench{r: &Result{}}
	b.target("a", rounds.Range{Median: 2, Min: 1, Max: 9}, atLeast, 2, "")
	b.target("b", rounds.Range{Median: 2, Min: 1, Max: 9}, atMost, 1.9, "s")
	var out bytes.Buffer
	b.r.write(&out)
	if !b.r.Targets[0].Met || b.r.Targets[1].Met || !strings.Contains(out.String(), "| b | 2.00 (1.00 to 9.00) | at most 1.9 s | **no** |") {
		t.Errorf("%+v\n%s", b.r.Targets, out.String())
	}
}

// The clouds obey, and count what they were asked.
func TestServeClouds(t *testing.T) {
	var out bytes.Buffer
	if err := ServeClouds(strings.NewReader("latency 1ms\nobjects 3\nrequests\n"), &out); err != nil {
		t.Fatal(err)
	}
	_, said, _ := strings.Cut(out.String(), "end\n")
	if said != "done\n3\n0\n" || !strings.HasPrefix(out.String(), "clouds:\n  east:") {
		t.Errorf("%q", out.String())
	}
	if err := ServeClouds(strings.NewReader("dance\n"), io.Discard); err == nil {
		t.Error("an order that nobody knows is obeyed")
	}
}

// Every so many of a list, all its kinds in turn.
func TestEvery(t *testing.T) {
	all := make([]creation, setSize)
	if n := len(every(all, 10)); n != setSize/10 || setSize != 200 {
		t.Errorf("%d of %d", n, setSize)
	}
}
