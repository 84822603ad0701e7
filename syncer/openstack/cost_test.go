package openstack

import (
	"net/http"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// Of what Neutron creates, each costs three requests: it is made, tagged, and
// described. Their answers show all that is to be known of it.
func TestRequestsOfCreations(t *testing.T) {
	east, west := fakecloud.New(t, fakecloud.Options{Seed: 1}), fakecloud.New(t, fakecloud.Options{Seed: 2})
	project := east.Hand().Make("project", fakecloud.Fields{"name": "acme"})
	e := engine(t, site{openSide(t, "east", east.YAML("east"), Options{Site: "east"}), east},
		site{openSide(t, "west", west.YAML("west"), Options{Site: "west"}), west}, func(c *syncer.Config) {
			c.Filter.Kinds = []syncer.Kind{Domain, Project, Network, Subnet, SecurityGroup}
		})
	run := func() {
		t.Helper()
		if r, err := e.Run(t.Context(), syncer.Options{}); err != nil || r.Outcome() != syncer.Clean {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	east.Hand().Make("security_group", fakecloud.Fields{"name": "first", "project_id": project}) // which brings the project's default one
	run()
	network := east.Hand().Make("network", fakecloud.Fields{"name": "web", "project_id": project})
	east.Hand().Make("subnet", fakecloud.Fields{"network_id": network, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24"})
	east.Hand().Make("security_group", fakecloud.Fields{"name": "web", "project_id": project})
	id := regexp.MustCompile(`/[0-9a-f-]{36}`)
	var mu sync.Mutex
	var asked []string
	defer west.OnRequest(func(r fakecloud.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodGet || id.MatchString(r.Path) { // the rest are listings
			asked = append(asked, r.Method+" "+id.ReplaceAllString(r.Path, "/ID"))
		}
	})()
	run()
	slices.Sort(asked)
	var want []string
	for _, kind := range []string{"networks", "security-groups", "subnets"} {
		want = append(want, "POST /network/v2.0/"+kind, "PUT /network/v2.0/"+kind+"/ID", "PUT /network/v2.0/"+kind+"/ID/tags")
	}
	slices.Sort(want)
	if asked = slices.DeleteFunc(asked, func(a string) bool { return a == "POST /identity/v3/auth/tokens" }); !slices.Equal(asked, want) {
		t.Errorf("asked were\n%q\nand not\n%q", asked, want)
	}
}
