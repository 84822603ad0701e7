package replication

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// creation is one object of the two hundred that are created.
type creation struct {
	what string
	argv []string // for the openstack command line
}

// Of one set: projects, and in each of them networks with a subnet, groups, and
// rules of each group. Two hundred in all.
const (
	setProjects = 10
	setNetworks = 5
	setGroups   = 3
	setRules    = 2
	setSize     = setProjects * (1 + 2*setNetworks + setGroups + setGroups*setRules)
)

// set makes the objects at a site, by requests, and gives what the command line
// would be told to make them again under other names.
func (p *place) set(ctx context.Context, name string) ([]creation, error) {
	var out []creation
	add := func(what string, argv ...string) { out = append(out, creation{what, argv}) }
	for i := range setProjects {
		project := fmt.Sprintf("%s-%d", name, i)
		id, err := p.make(ctx, "identity", "projects", "project", map[string]any{"name": project})
		if err != nil {
			return nil, err
		}
		add("project", "project", "create", "cli-"+project)
		for n := range setNetworks {
			network := fmt.Sprintf("%s-net-%d", project, n)
			at, err := p.make(ctx, "network", "networks", "network", map[string]any{"name": network, "project_id": id})
			if err != nil {
				return nil, err
			}
			add("network", "network", "create", "--project", project, "cli-"+network)
			cidr := fmt.Sprintf("10.%d.%d.0/24", i, n)
			if _, err := p.make(ctx, "network", "subnets", "subnet", map[string]any{"name": "subnet", "network_id": at, "project_id": id, "ip_version": 4, "cidr": cidr}); err != nil {
				return nil, err
			}
			add("subnet", "subnet", "create", "--project", project, "--network", network, "--subnet-range", fmt.Sprintf("172.16.%d.0/24", i*setNetworks+n), "cli-subnet")
		}
		for g := range setGroups {
			group := fmt.Sprintf("%s-group-%d", project, g)
			at, err := p.make(ctx, "network", "security-groups", "security_group", map[string]any{"name": group, "project_id": id})
			if err != nil {
				return nil, err
			}
			add("group", "security", "group", "create", "--project", project, "cli-"+group)
			for r := range setRules {
				if _, err := p.make(ctx, "network", "security-group-rules", "security_group_rule", map[string]any{"security_group_id": at, "project_id": id,
					"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 80 + r, "port_range_max": 80 + r}); err != nil {
					return nil, err
				}
				add("rule", "security", "group", "rule", "create", "--project", project, "--protocol", "tcp", "--dst-port", fmt.Sprint(8080+r), group)
			}
		}
	}
	return out, nil
}

// creates: two hundred objects beside the openstack command line, of which some
// are made by it, spread evenly over the kinds, and counted as many times.
func (s *sites) creates(ctx context.Context) error {
	p, err := s.b.newPair("creates", s.yaml)
	if err != nil {
		return err
	}
	var ours []cost
	var sample []creation
	for round := range s.b.o.SiteRounds {
		s.b.say("creates, round %d of %d", round+1, s.b.o.SiteRounds)
		all, err := s.east.set(ctx, fmt.Sprintf("bench-%d-%d", os.Getpid(), round))
		if err != nil {
			return err
		}
		c, _, err := p.sync(ctx, "run", "--kind", "domain,project,network,subnet,security-group")
		if err != nil {
			return err
		}
		ours = append(ours, c)
		if round == 0 {
			sample = every(all, s.b.o.Sample)
		}
	}
	s.b.say("creates: %d commands", len(sample))
	var commands []cost
	for _, c := range sample {
		one, said, err := s.west.tool(ctx, s.b.dir, slices.Concat([]string{"openstack"}, c.argv, []string{"-f", "value"})...)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", c.what, err, said)
		}
		commands = append(commands, one)
	}
	// Each of the commands stands for as many.
	total := cost{}
	for _, c := range commands {
		total.wall += c.wall
		total.cpu += c.cpu
		total.rss = max(total.rss, c.rss)
	}
	times := float64(setSize) / float64(len(commands))
	total.wall, total.cpu = time.Duration(float64(total.wall)*times), time.Duration(float64(total.cpu)*times)
	own := s.b.add("creates", fmt.Sprintf("draasd sync run, %d objects", setSize), ours, 0)
	s.b.add("creates", fmt.Sprintf("openstack, %d commands counted for %d", len(commands), setSize), []cost{total}, 0)
	one := rounds.RangeOf(each(commands, seconds))
	s.b.note("creates: one command of openstack takes %s s", spell(one))
	all := total.wall.Seconds()
	s.b.target("creates: openstack to draasd", rounds.Range{Median: all / own.Seconds.Median, Min: all / own.Seconds.Max, Max: all / own.Seconds.Min}, atLeast, 10, "times")
	return nil
}

// every takes one of so many, another one of the kinds each time.
func every(all []creation, n int) []creation {
	var out []creation
	for i := range int(math.Ceil(float64(len(all)) / float64(n))) {
		out = append(out, all[min(i*n+i%n, len(all)-1)])
	}
	return out
}
