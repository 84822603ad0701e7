package quorum_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// Leadership goes from one member to another while a third proposes, once each:
// what it forwards to a leader that hands over, or has just done so, is not lost.
func TestHandOverLosesNoProposal(t *testing.T) {
	for seed := range uint64(20) {
		c := newCluster(t, seed, nil)
		from := c.elect()
		c.run(3 * time.Second) // all are known to answer
		others := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == from })
		to, asker := others[0], others[1]
		for _, n := range c.nodes {
			n.order = []draas.MemberID{to.id}
		}
		var proposed []string
		for until := c.now + 5*time.Second; c.now < until && !slices.Contains(proposed, "led by the other"); {
			data := fmt.Sprintf("at %v", c.now)
			if c.leader() == to && asker.core.Status().Leader == to.id {
				data = "led by the other"
			}
			if asker.core.Propose([]byte(data)) == nil {
				proposed = append(proposed, data)
			}
			asker.due = c.now
			c.run(100 * time.Microsecond)
		}
		c.run(time.Second)
		for _, data := range proposed {
			if !slices.Contains(asker.machine.entries, data) {
				t.Errorf("seed %d: the proposal %q of %s was lost while %s handed over to %s", seed, data, asker.id, from.id, to.id)
			}
		}
		if !slices.Contains(proposed, "led by the other") {
			t.Errorf("seed %d: %s does not lead", seed, to.id)
		}
		c.agree()
	}
}
