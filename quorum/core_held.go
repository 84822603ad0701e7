package quorum

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// maxHeld bounds the proposals of others that are held at a time.
const maxHeld = 64

// held is a proposal that another member has forwarded to this one, which hands
// over the leadership, or has just done so and has not heard of the next leader.
// Whoever made it is not told that it is lost.
type held struct {
	m     *raftpb.Message
	until time.Duration // boot time: the next leader is heard before, or there is none
}

func (c *Core) hold(m *raftpb.Message) {
	if len(c.held) < maxHeld {
		c.held = append(c.held, held{m, c.now.Boot + c.cfg.Election})
	}
}

// release hands on what is held, if there is a leader again: this member, or the
// one that it forwards to.
func (c *Core) release() error {
	before := c.held
	c.held = nil
	for _, h := range before {
		switch err := c.node.Step(h.m); {
		case errors.Is(err, raft.ErrProposalDropped):
			if c.now.Boot < h.until {
				c.held = append(c.held, h)
			}
		case err != nil:
			return fmt.Errorf("step %s: %w", h.m.GetType(), err)
		}
	}
	return nil
}
