package soak

import (
	"fmt"
	"strings"
	"sync"
)

// cut is what does not pass the router. A place is a name in prefixOf; an
// empty one is every place but the other end.
type cut struct {
	From, To string
	Port     uint16 // of either end; 0: all
	Percent  int    // of the packets; 0: all
}

// cutsOf are the cuts that a fault makes.
func cutsOf(f Fault) []cut {
	c := cut{From: f.Member, To: f.Other, Port: f.Port, Percent: f.Percent}
	back := cut{From: f.Other, To: f.Member, Port: f.Port, Percent: f.Percent}
	switch f.Kind {
	case Cut, CutPort, Loss, Isolate, Abandon, Strand:
		return []cut{c, back}
	case CutOneWay, Mute:
		return []cut{c}
	case Deaf:
		return []cut{back}
	}
	return nil
}

// rules writes the router's ruleset, to be loaded in one transaction.
func rules(cuts []cut) string {
	var b strings.Builder
	b.WriteString("table inet faults {}\ndelete table inet faults\ntable inet faults {\n chain forward {\n  type filter hook forward priority filter; policy accept;\n")
	for _, c := range cuts {
		match := c.ends()
		tail := "drop\n"
		if c.Percent != 0 {
			tail = fmt.Sprintf("numgen random mod 100 < %d drop\n", c.Percent)
		}
		if c.Port == 0 {
			b.WriteString("  " + match + tail)
			continue
		}
		for _, end := range []string{"sport", "dport"} {
			fmt.Fprintf(&b, "  %smeta l4proto { tcp, udp } th %s %d %s", match, end, c.Port, tail)
		}
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// ends matches who sends and who receives.
func (c cut) ends() string {
	switch {
	case c.From == "":
		return fmt.Sprintf("ip saddr != %s ip daddr %s ", prefixOf[c.To], prefixOf[c.To])
	case c.To == "":
		return fmt.Sprintf("ip saddr %s ip daddr != %s ", prefixOf[c.From], prefixOf[c.From])
	}
	return fmt.Sprintf("ip saddr %s ip daddr %s ", prefixOf[c.From], prefixOf[c.To])
}

// cuts are those in force. Faults overlap: each adds its own and takes its own
// back.
type cuts struct {
	load func(ruleset string) error

	mu    sync.Mutex
	next  int
	force map[int][]cut
}

// add puts cuts in force, until the function that it returns is called.
func (c *cuts) add(these []cut) (remove func() error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.next
	c.next++
	if c.force == nil {
		c.force = make(map[int][]cut)
	}
	c.force[id] = these
	return func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.force, id)
		return c.reload()
	}, c.reload()
}

func (c *cuts) reload() error {
	var all []cut
	for id := range c.next {
		all = append(all, c.force[id]...)
	}
	return c.load(rules(all))
}
