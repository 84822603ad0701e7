package openstack

import (
	"net/http"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// Rules are made together, and one by one where one of them is there already,
// which makes the service refuse all.
func TestRulesAtOnce(t *testing.T) {
	west := newSite(t, "west", fakecloud.Options{Seed: 2})
	project := west.fake.Hand().Make("project", fakecloud.Fields{"name": "acme"})
	group := west.fake.Hand().Make("security_group", fakecloud.Fields{"name": "web", "project_id": project})
	var rules syncer.Set
	for port := range 5 {
		rules = append(rules, map[string]any{"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 80 + port, "port_range_max": 80 + port})
	}
	posts := func() int {
		return west.fake.Calls()[fakecloud.Call{Service: fakecloud.Network, Method: http.MethodPost, Route: "/v2.0/security-group-rules"}]
	}
	for _, step := range []struct {
		rules syncer.Set
		posts int
	}{{rules[1:3], 1}, {rules, 1 + 1 + len(rules)}, {nil, 1 + 1 + len(rules)}} {
		if err := west.addRules(t.Context(), group, project, step.rules); err != nil {
			t.Fatal(err)
		}
		if n := posts(); n != step.posts {
			t.Errorf("%d requests until %d rules are there, want %d", n, len(step.rules), step.posts)
		}
	}
	shown, err := west.fake.Hand().Show("security_group", group)
	if err != nil {
		t.Fatal(err)
	}
	all := row(shown).rows("security_group_rules")
	if len(all) != len(rules)+2 { // two come with the group
		t.Errorf("the group has %d rules", len(all))
	}
	for _, r := range all {
		if r.text("project_id") != project {
			t.Errorf("rule %s is of project %q", r.text("id"), r.text("project_id"))
		}
	}
}
