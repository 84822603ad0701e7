package replication

import (
	"context"
	"errors"
	"fmt"
)

// listing: a plan of a container with very many objects, none of which the
// target has.
func (b *bench) listing(ctx context.Context) (err error) {
	c, err := b.startClouds(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	p, err := b.newPair("listing", c.yaml)
	if err != nil {
		return err
	}
	b.say("a container of %d objects", b.o.Million)
	if err := c.tell(fmt.Sprintf("objects %d", b.o.Million), nil); err != nil {
		return err
	}
	own, _, err := p.sync(ctx, "plan", "--kind", "domain,project,container,object")
	if err != nil {
		return err
	}
	b.add("listing", fmt.Sprintf("plan of %d new objects in one container", b.o.Million), []cost{own}, 0)
	b.note("listing: what is listed is held window by window, what is to be done wholly: %.1f KiB for each new object", float64(own.rss)/float64(b.o.Million))
	return nil
}
