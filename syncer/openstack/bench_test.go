package openstack

import (
	"fmt"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// estate fills a cloud with about ten thousand objects of mixed kinds.
func estate(h fakecloud.Hand) (networks []string) {
	h.Make("role", fakecloud.Fields{"name": "operator"})
	for p := range 100 {
		project := h.Make("project", fakecloud.Fields{"name": fmt.Sprintf("project-%d", p)})
		for u := range 5 {
			user := h.Make("user", fakecloud.Fields{"name": fmt.Sprintf("user-%d-%d", p, u)})
			if err := h.Assign("operator", user, project); err != nil {
				panic(err)
			}
		}
		for n := range 35 {
			id := h.Make("network", fakecloud.Fields{"name": fmt.Sprintf("net-%d", n), "project_id": project})
			h.Make("subnet", fakecloud.Fields{"network_id": id, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24"})
			networks = append(networks, id)
		}
		for g := range 9 {
			h.Make("security_group", fakecloud.Fields{"name": fmt.Sprintf("group-%d", g), "project_id": project})
		}
		for r := range 10 {
			h.Make("router", fakecloud.Fields{"name": fmt.Sprintf("router-%d", r), "project_id": project})
		}
	}
	return networks
}

// What a run costs: the first of ten thousand objects, one in which nothing has
// changed, and one in which ten have; at services that need 1 ms for a request.
// The ratios are what counts.
func BenchmarkRuns(b *testing.B) {
	for b.Loop() {
		east, west := fakecloud.New(b, fakecloud.Options{Seed: 1}), fakecloud.New(b, fakecloud.Options{Seed: 2})
		networks := estate(east.Hand())
		for _, c := range []*fakecloud.Cloud{east, west} {
			c.SetLatency(time.Millisecond)
		}
		e := engine(b, site{openSide(b, "east", east.YAML("east"), Options{Site: "east"}), east},
			site{openSide(b, "west", west.YAML("west"), Options{Site: "west"}), west}, func(c *syncer.Config) {
				c.Filter.Kinds = []syncer.Kind{Domain, Role, Project, User, Assignment, Network, Subnet, SecurityGroup, Router}
			})
		cost := func() (time.Duration, float64) {
			b.Helper()
			before, began := east.Requests()+west.Requests(), time.Now()
			r, err := e.Run(b.Context(), syncer.Options{})
			if err != nil || r.Outcome() != syncer.Clean {
				b.Fatalf("%v, %d failures", err, len(r.Failures))
			}
			return time.Since(began), float64(east.Requests() + west.Requests() - before)
		}
		first, firstRequests := cost()
		still, stillRequests := cost()
		for _, id := range networks[:10] {
			if err := east.Hand().Change("network", id, fakecloud.Fields{"description": "changed"}); err != nil {
				b.Fatal(err)
			}
		}
		ten, tenRequests := cost()
		b.ReportMetric(first.Seconds(), "s/first")
		b.ReportMetric(still.Seconds(), "s/unchanged")
		b.ReportMetric(ten.Seconds(), "s/ten")
		b.ReportMetric(first.Seconds()/still.Seconds(), "first/unchanged")
		b.ReportMetric(ten.Seconds()/still.Seconds(), "ten/unchanged")
		b.ReportMetric(firstRequests, "requests/first")
		b.ReportMetric(stillRequests, "requests/unchanged")
		b.ReportMetric(tenRequests, "requests/ten")
	}
}
