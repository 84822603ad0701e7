package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer"
)

// A plan of all that there can be is as it is kept.
func TestPlanText(t *testing.T) {
	key := func(kind, id string) syncer.Key { return syncer.Key{Kind: syncer.Kind(kind), ID: id} }
	p := &syncer.Plan{Source: "primary", Target: "dr", Epoch: daemon.ReplicationEpoch(3, draas.EpochOf(3, 7)), Changes: []syncer.Change{
		{Key: key("role", "1"), Name: "reader", Verb: syncer.Adopt, Reason: "exists at both sites"},
		{Key: key("role", "2"), Name: "admin", Verb: syncer.Adopt, Reason: "exists at both sites"},
		{Key: key("project", "22c7"), Name: "acme", Verb: syncer.Create, Fields: []syncer.FieldChange{{Name: "description"}, {Name: "enabled", New: "true"}, {Name: "name", New: `"acme"`}, {Name: "tags", New: "{}"}}},
		{Key: key("user", "u1"), Name: "ada", Verb: syncer.Create, Lost: []string{"password", "trusts"}},
		{Key: key("image", "i1"), Name: "acme/disk", Verb: syncer.Replace, Bytes: 3 << 20, Reason: "its content changed at the source"},
		{Key: key("network", "n9"), Name: "acme/gone", Verb: syncer.Delete, Reason: "gone at the source"},
		{Key: key("network", "n2"), Name: "acme/web", Verb: syncer.Update, Reason: "changed at the source", Fields: []syncer.FieldChange{
			{Name: "mtu", Old: "1500", New: "1400"}, {Name: "qos", Old: `"x"`}, {Name: "born", New: "1"}, {Name: "", Old: "1 bytes", New: "2 bytes"}}},
		{Key: key("network", "n1"), Name: "acme/db", Verb: syncer.Create, Fields: []syncer.FieldChange{{Name: "project_id", New: "project (new) 22c7"}}, Needs: []syncer.Key{key("project", "22c7")}},
		{Key: key("network", "n3"), Name: "acme/odd", Verb: syncer.Drift, Reason: "changed at the target by others", Fields: []syncer.FieldChange{{Name: "mtu", Old: "9000", New: "1500"}}},
		{Key: key("network", "n4"), Name: "acme/both", Verb: syncer.Conflict, Reason: "changed at both sites"},
		{Key: key("network", "n5"), Name: "public", Verb: syncer.Blocked, Reason: "no mapping says what stands for it"},
		{Key: key("network", "n6"), Name: "vlan\x1b[2J", Verb: syncer.Unsupported, Reason: "VLANs are the operator's"},
		{Key: key("network", "n7"), Name: "old", Verb: syncer.Held, Reason: "gone for 2m"},
		{Key: key("security-group", "g1"), Name: "acme/www", Verb: syncer.Update, Reason: "changed at the source", Later: []syncer.Key{key("network", "n1")}, Fields: []syncer.FieldChange{
			{Name: "rules", Old: "{}", New: "{{port: 443}}", Part: true}, {Name: "tags", Old: `{"a"}`, New: `{"b"}`, Part: true}}},
	}, Kinds: []syncer.KindPlan{{Kind: "image", Bytes: 3 << 20}, {Kind: "zone", Missing: "dr has no service dns"}, {Kind: "router", Unknown: []string{"403 of project ops"}}, {Kind: "user", Left: 4}}}
	for i := range 23 {
		p.Changes = append(p.Changes, syncer.Change{Key: key("object", fmt.Sprint(i)), Name: fmt.Sprintf("acme/docs/%02d", 22-i), Verb: syncer.Create, Bytes: 1 << 10})
	}
	for _, who := range []string{"eve", "dan", "cid", "bob", "ann", "zoe"} {
		p.Lost = append(p.Lost, syncer.Loss{Key: key("user", who), Name: who, Parts: []string{"password", "trusts"}})
	}
	counts := make(map[syncer.Verb]int)
	for _, c := range p.Changes {
		counts[c.Verb]++
	}
	counts[syncer.Unchanged] = 6
	p.Kinds[0].Verbs = counts
	var out bytes.Buffer
	draw := &planText{w: &out, plan: p, names: map[syncer.Key]string{key("project", "22c7"): "acme", key("network", "n1"): "acme/db"}}
	draw.write()
	fmt.Fprintln(&out, "\n=== held, all")
	p.Held, draw.all = "dr was active itself until epoch 7", true
	p.Changes = p.Changes[len(p.Changes)-23:]
	draw.write()
	golden(t, "sync-plan", out.Bytes())
}

// The epoch of a run is told as status tells it, also of a cluster that was
// started anew.
func TestEpochText(t *testing.T) {
	for _, tt := range []struct {
		generation uint64
		epoch      draas.Epoch
		want       string
	}{{0, 3, "3"}, {1, draas.EpochOf(1, 2), "1.2"}, {2, draas.EpochOf(1, 7), "1.7"}} {
		if got := epochText(daemon.ReplicationEpoch(tt.generation, tt.epoch)); got != tt.want {
			t.Errorf("generation %d: %q, want %q", tt.generation, got, tt.want)
		}
	}
}
