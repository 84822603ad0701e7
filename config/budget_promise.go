package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// promised are the budgets that a file can be held to.
func promised(all []RTO) []RTO {
	return slices.DeleteFunc(all, func(r RTO) bool { return r.Disaster == targetLost })
}

// promise refuses a max_rto that cannot hold and names what to change.
func (d *decoder) promise(c *Config, u *Unit) {
	r := slices.MaxFunc(promised(c.RTO(u.ID)), func(a, b RTO) int { return cmp.Compare(a.Worst(), b.Worst()) })
	if r.Worst() <= u.MaxRTO {
		return
	}
	largest := r.Largest()
	d.report(u.path()+".max_rto", fmt.Sprintf("%s cannot hold: %s takes up to %s", short(u.MaxRTO), article(r.Disaster), r),
		fmt.Sprintf("change %s first (%s), or promise %s", largest.Sets, largest.Name, short(roundUp(r.Worst()))))
}

func article(disaster string) string {
	before, after, _ := strings.Cut(disaster, " ")
	return "a " + after + " " + before
}

// roundUp rounds to what a person would write.
func roundUp(d time.Duration) time.Duration {
	step := 100 * time.Millisecond
	if d > 10*time.Second {
		step = time.Second
	}
	return (d + step - 1) / step * step
}
