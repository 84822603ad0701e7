package cloudtest

import (
	"context"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/recordsets"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/zones"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func dnsFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a zone becomes active":                            zoneActive,
		"a zone's name is unique":                          zoneName,
		"a zone comes with SOA and NS that are not ours":   zoneManaged,
		"a record set is there once per name and type":     setOnce,
		"a change of a record set moves the zone's serial": setSerial,
		"name and type of a record set stay":               setFixed,
		"zones of all projects are listed when asked for":  zonesOfAll,
		"an administrator may act for a project":           zoneFor,
		"pages have a marker and a next link":              zonePages,
		"a name outside the zone is refused":               setOutside,
	}
}

func (f *fact) zoneName(s string) string { return f.name(s) + ".example." }

func (f *fact) newZone(s string) *zones.Zone {
	f.Helper()
	z, err := zones.Create(f.ctx, f.DNS, zones.CreateOpts{Name: f.zoneName(s), Email: "admin@example.org", TTL: 300}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		_, err := zones.Delete(ctx, f.DNS, z.ID).Extract()
		return err
	})
	return z
}

func (f *fact) newSet(zone *zones.Zone, name, kind string, records ...string) *recordsets.RecordSet {
	f.Helper()
	s, err := recordsets.Create(f.ctx, f.DNS, zone.ID, recordsets.CreateOpts{Name: name + "." + zone.Name, Type: kind, Records: records, TTL: 60}).Extract()
	f.ok(err)
	return s
}

func zoneActive(f *fact) {
	z := f.newZone("z")
	same(f, "its status", z.Status, "PENDING")
	same(f, "its TTL", z.TTL, 300)
	f.until("the zone is active", func() bool {
		now, err := zones.Get(f.ctx, f.DNS, z.ID).Extract()
		f.ok(err)
		return now.Status == "ACTIVE"
	})
}

func zoneName(f *fact) {
	z := f.newZone("z")
	_, err := zones.Create(f.ctx, f.DNS, zones.CreateOpts{Name: z.Name, Email: "a@example.org"}).Extract()
	f.refused(err, http.StatusConflict)
	_, err = zones.Create(f.ctx, f.DNS, zones.CreateOpts{Name: "no-dot", Email: "a@example.org"}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func (f *fact) sets(zone string) map[string]recordsets.RecordSet {
	f.Helper()
	out := map[string]recordsets.RecordSet{}
	for _, s := range list(f, recordsets.ListByZone(f.DNS, zone, nil), recordsets.ExtractRecordSets) {
		out[s.Type] = s
	}
	return out
}

func zoneManaged(f *fact) {
	z := f.newZone("z")
	sets := f.sets(z.ID)
	same(f, "record sets", len(sets), 2)
	for _, kind := range []string{"SOA", "NS"} {
		if code := codeOf(recordsets.Delete(f.ctx, f.DNS, z.ID, sets[kind].ID).ExtractErr()); code < 400 {
			f.Fatalf("%s is deleted", kind)
		}
	}
}

func setOnce(f *fact) {
	z := f.newZone("z")
	s := f.newSet(z, "www", "A", "192.0.2.1", "192.0.2.2")
	same(f, "its TTL", s.TTL, 60)
	_, err := recordsets.Create(f.ctx, f.DNS, z.ID, recordsets.CreateOpts{Name: "www." + z.Name, Type: "A", Records: []string{"192.0.2.3"}}).Extract()
	f.refused(err, http.StatusConflict)
	f.newSet(z, "www", "TXT", `"text"`)
}

func setSerial(f *fact) {
	z := f.newZone("z")
	s := f.newSet(z, "www", "A", "192.0.2.1")
	f.until("the zone is active", func() bool {
		now, err := zones.Get(f.ctx, f.DNS, z.ID).Extract()
		f.ok(err)
		return now.Status == "ACTIVE"
	})
	before, err := zones.Get(f.ctx, f.DNS, z.ID).Extract()
	f.ok(err)
	changed, err := recordsets.Update(f.ctx, f.DNS, z.ID, s.ID, recordsets.UpdateOpts{Records: []string{"192.0.2.9"}}).Extract()
	f.ok(err)
	same(f, "the record", strings.Join(changed.Records, " "), "192.0.2.9")
	f.until("the serial has moved", func() bool {
		after, err := zones.Get(f.ctx, f.DNS, z.ID).Extract()
		f.ok(err)
		return after.Serial > before.Serial
	})
}

func setFixed(f *fact) {
	z := f.newZone("z")
	s := f.newSet(z, "www", "A", "192.0.2.1")
	f.call(f.DNS, "PUT", "zones/"+z.ID+"/recordsets/"+s.ID, object{"name": "other." + z.Name}, http.StatusBadRequest)
	f.call(f.DNS, "PUT", "zones/"+z.ID+"/recordsets/"+s.ID, object{"type": "TXT"}, http.StatusBadRequest)
}

func zonesOfAll(f *fact) {
	z, p := f.newZone("z"), f.newProject("p")
	theirs := f.scoped(p.ID)
	same(f, "in another project", len(list(f, zones.List(theirs.DNS, zones.ListOpts{Name: z.Name}), zones.ExtractZones)), 0)
	same(f, "in all", len(list(f, zones.List(theirs.DNS, zones.ListOpts{Name: z.Name, AllProjects: true}), zones.ExtractZones)), 1)
}

func zoneFor(f *fact) {
	p := f.newProject("p")
	sudo := map[string]string{"X-Auth-Sudo-Project-Id": p.ID}
	body, _ := f.callWith(f.DNS, "POST", "zones", object{"name": f.zoneName("z"), "email": "a@example.org"}, sudo, http.StatusAccepted)
	same(f, "its project", text(body, "project_id"), p.ID)
	f.callWith(f.DNS, "DELETE", "zones/"+text(body, "id"), nil, sudo, http.StatusAccepted)
}

func zonePages(f *fact) {
	for _, name := range []string{"a", "b", "c"} {
		f.newZone(name)
	}
	pages, count := f.pages(zones.List(f.DNS, zones.ListOpts{Name: f.name("") + "*", Limit: 2}), func(p pagination.Page) int {
		rows, err := zones.ExtractZones(p)
		f.ok(err)
		return len(rows)
	})
	same(f, "rows", count, 3)
	same(f, "pages", pages, 2)
}

func setOutside(f *fact) {
	z := f.newZone("z")
	_, err := recordsets.Create(f.ctx, f.DNS, z.ID, recordsets.CreateOpts{Name: "www.elsewhere.", Type: "A", Records: []string{"192.0.2.1"}}).Extract()
	f.refused(err, http.StatusBadRequest)
}
