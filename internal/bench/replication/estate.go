package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// What the estate's lines are called.
const (
	first     = "first run"
	unchanged = "nothing changed"
	ten       = "ten changed"
	all       = "nothing changed, all kinds"
)

// estateKinds are those that the estate has.
const estateKinds = "domain,role,project,user,assignment,network,subnet,security-group,router"

// estate: a run costs what has changed, not what there is. Each round begins
// with empty clouds.
func (b *bench) estate(ctx context.Context) error {
	costs := make(map[string][]cost)
	clouds := make(map[string][]cost) // of the clouds meanwhile
	for round := range b.o.Rounds {
		b.say("estate, round %d of %d", round+1, b.o.Rounds)
		if err := b.estateRound(ctx, round, costs, clouds); err != nil {
			return err
		}
	}
	lines := make(map[string]Line)
	for _, what := range []string{first, unchanged, ten, all} {
		lines[what] = b.add("estate", what, costs[what], 0)
	}
	served := rounds.RangeOf(each(clouds[unchanged], func(c cost) float64 { return c.cpu.Seconds() }))
	b.note("the estate with nothing changed: the clouds themselves needed %.2f s of processor time to list it", served.Median)
	b.note("estate, all kinds: each user's keypairs and each project's quotas and containers are a request of their own in every run")
	b.target("estate: first run to nothing changed", ratio(lines[first], lines[unchanged], seconds), atLeast, 20, "times")
	b.target("estate: ten changed to nothing changed", ratio(lines[ten], lines[unchanged], seconds), atMost, 1.5, "times")
	return nil
}

// stills is how often a round repeats what takes little time.
const stills = 3

func (b *bench) estateRound(ctx context.Context, round int, costs, served map[string][]cost) (err error) {
	c, err := b.startClouds(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	p, err := b.newPair(fmt.Sprintf("estate-%d", round), c.yaml)
	if err != nil {
		return err
	}
	objects := 0
	if err := errors.Join(c.tell("estate", &objects), c.tell("latency "+b.o.Latency.String(), nil)); err != nil {
		return err
	}
	measure := func(what string) (cost, cost, error) {
		before, err := c.cpu()
		if err != nil {
			return cost{}, cost{}, err
		}
		requests := 0
		if err := c.tell("requests", &requests); err != nil {
			return cost{}, cost{}, err
		}
		kinds := []string{"--kind", estateKinds}
		if what == all {
			kinds = nil
		}
		own, _, err := p.sync(ctx, "run", kinds...)
		if err != nil {
			return cost{}, cost{}, fmt.Errorf("%s: %w", what, err)
		}
		after, err := c.cpu()
		return own, cost{cpu: after - before}, errors.Join(err, c.tell("requests", &own.requests))
	}
	own, theirs, err := measure(first)
	if err != nil {
		return err
	}
	costs[first], served[first] = append(costs[first], own), append(served[first], theirs)
	for _, what := range []string{unchanged, ten, all} {
		if what == all { // which takes over what the others need
			if _, _, err := measure(all); err != nil {
				return err
			}
		}
		var repeated, others []cost
		for range stills {
			if what == ten {
				if err := c.tell("change 10", nil); err != nil {
					return err
				}
			}
			own, theirs, err := measure(what)
			if err != nil {
				return err
			}
			repeated, others = append(repeated, own), append(others, theirs)
		}
		costs[what], served[what] = append(costs[what], median(repeated)), append(served[what], median(others))
	}
	if round == 0 {
		b.note("the estate: %d objects (projects, users, assignments, networks, subnets, groups with rules, routers), %v a request", objects, b.o.Latency)
	}
	return nil
}

// median of what was repeated within a round, each figure by itself.
func median(all []cost) cost {
	return cost{
		wall:     time.Duration(rounds.RangeOf(each(all, func(c cost) float64 { return float64(c.wall) })).Median),
		cpu:      time.Duration(rounds.RangeOf(each(all, func(c cost) float64 { return float64(c.cpu) })).Median),
		rss:      int64(rounds.RangeOf(each(all, func(c cost) float64 { return float64(c.rss) })).Median),
		requests: int(rounds.RangeOf(each(all, func(c cost) float64 { return float64(c.requests) })).Median),
	}
}
