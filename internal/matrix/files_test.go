package matrix

import (
	"testing"

	"github.com/draasd/draas/config"
)

// Every column's file is one that draasd takes, and has the budgets that cells
// are bounded by.
func TestFiles(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range columns() {
		if names[c.Name] {
			t.Errorf("two columns are named %q", c.Name)
		}
		names[c.Name] = true
		if c.Peer != nil {
			continue
		}
		parsed, err := config.Parse(c.Name, []byte(c.failoverTOML()))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for _, name := range []string{siteLost, serviceDead} {
			if bound(parsed.RTO(service), name) == 0 {
				t.Errorf("%s: nothing bounds %q", c.Name, name)
			}
		}
	}
}
