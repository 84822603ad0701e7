package openstack

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

func onlyNames(c *syncer.Config) {
	c.Filter.Kinds = []syncer.Kind{Domain, Project, Zone, RecordSet}
}

// newZone makes a zone in a project, and gives its id.
func (s site) newZone(t *testing.T, project string, body row) string {
	t.Helper()
	var made row
	if _, err := s.callWith(t.Context(), designate, http.MethodPost, "zones", asProject(project), body, &made); err != nil {
		t.Fatal(err)
	}
	return made.text("id")
}

// dns makes a request in any project.
func (s site) dns(t *testing.T, method, path string, body row) row {
	t.Helper()
	var in any
	if body != nil {
		in = body
	}
	var made row
	if _, err := s.callWith(t.Context(), designate, method, path, everyProject(), in, &made); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return made
}

// sets are the record sets of a site by their names, of those that are carried.
func (s site) sets(t *testing.T) map[string]syncer.Object {
	t.Helper()
	out := make(map[string]syncer.Object)
	for _, o := range s.all(t, RecordSet, syncer.Key{}) {
		out[o.Name] = o
	}
	return out
}

func texts(v any) []string {
	var out []string
	set, _ := v.(syncer.Set)
	for _, e := range set {
		out = append(out, e.(string))
	}
	slices.Sort(out)
	return out
}

func TestZonesAndRecordSets(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{PendingDNS: 2}), newSite(t, "west", fakecloud.Options{PendingDNS: 2})
	project, _ := customer(t, east, "acme")
	id := east.newZone(t, project, row{"name": "acme.example.", "email": "dns@acme.example", "ttl": 600, "description": "ours"})
	east.newZone(t, project, row{"name": "else.example.", "type": secondary, "masters": []string{"192.0.2.1", "192.0.2.2"}})
	path := "zones/" + id + "/recordsets"
	www := east.dns(t, http.MethodPost, path, row{"name": "www.acme.example.", "type": "A", "records": []string{"192.0.2.7", "192.0.2.8"}, "ttl": 60, "description": "the web"}).text("id")
	txt := east.dns(t, http.MethodPost, path, row{"name": "acme.example.", "type": "TXT", "records": []string{`"v=spf1 -all"`}}).text("id")
	east.dns(t, http.MethodPost, path, row{"name": "*.sub.acme.example.", "type": "NS", "records": []string{"ns.other.example."}})
	// What draas moves by itself stays out of it.
	east.dns(t, http.MethodPost, path, row{"name": "_draas.api.acme.example.", "type": "TXT", "records": []string{`"epoch=7"`}})
	east.dns(t, http.MethodPost, path, row{"name": "api.acme.example.", "type": "A", "records": []string{"192.0.2.9"}})
	east.dns(t, http.MethodPost, path, row{"name": "api.acme.example.", "type": "MX", "records": []string{"10 mx.acme.example."}})

	e := engine(t, east, west, onlyNames)
	r := run(t, e, syncer.Options{}, syncer.Unsupported)
	if n := r.Plan.Count(syncer.Unsupported); n != 2 {
		t.Errorf("%d objects are named as not carried: %+v", n, r.Plan.Changes)
	}
	there := west.projectIn(t, "acme")
	zone := west.objectNamed(t, Zone, "acme.example.")
	if d := syncer.Diff(zone.Fields, syncer.Fields{"name": "acme.example.", "type": primary, "email": "dns@acme.example", "ttl": int64(600), "description": "ours",
		"failing": false, "project": syncer.Ref{Key: syncer.Key{Kind: Project, ID: there}}}); d != nil {
		t.Errorf("the zone's copy differs in %v: %+v", d, zone.Fields)
	}
	if other := west.objectNamed(t, Zone, "else.example."); !slices.Equal(texts(other.Fields["masters"]), []string{"192.0.2.1", "192.0.2.2"}) || other.Fields["type"] != secondary {
		t.Errorf("the secondary zone's copy: %+v", other.Fields)
	}
	sets := west.sets(t)
	if len(sets) != 4 {
		t.Errorf("the target has %d record sets: %+v", len(sets), sets)
	}
	if w := sets["www.acme.example. A"]; !slices.Equal(texts(w.Fields["records"]), []string{"192.0.2.7", "192.0.2.8"}) || w.Fields["ttl"] != int64(60) || w.Fields["description"] != "the web" || w.Project != there {
		t.Errorf("www: %+v", w)
	}
	if w := sets["acme.example. TXT"]; !slices.Equal(texts(w.Fields["records"]), []string{`"v=spf1 -all"`}) || w.Fields["ttl"] != nil || w.Fields["description"] != "" {
		t.Errorf("TXT: %+v", w)
	}
	again := run(t, e, syncer.Options{Audit: true}, syncer.Unsupported)
	if again.Plan.Acts() != 0 {
		t.Errorf("a second run has something to do: %+v", again.Plan.Changes)
	}

	// Changes go over, deletions too; what the target was told by hand is named.
	east.dns(t, http.MethodPatch, "zones/"+id, row{"ttl": 900, "description": nil})
	east.dns(t, http.MethodPut, path+"/"+www, row{"records": []string{"192.0.2.8"}, "ttl": nil, "description": nil})
	east.dns(t, http.MethodDelete, path+"/"+txt, nil)
	mx := sets["api.acme.example. MX"]
	zoneID, setID, _ := strings.Cut(mx.ID, "/")
	west.dns(t, http.MethodPut, "zones/"+zoneID+"/recordsets/"+setID, row{"records": []string{"10 hand.example."}})
	r = run(t, e, syncer.Options{}, syncer.Unsupported, syncer.Drift)
	if r.Plan.Count(syncer.Update) != 2 || r.Plan.Count(syncer.Delete) != 1 || r.Plan.Count(syncer.Drift) != 1 {
		t.Errorf("planned: %+v", r.Plan.Changes)
	}
	sets = west.sets(t)
	if w := sets["www.acme.example. A"]; !slices.Equal(texts(w.Fields["records"]), []string{"192.0.2.8"}) || w.Fields["ttl"] != nil || w.Fields["description"] != "" {
		t.Errorf("www: %+v", w)
	}
	if _, left := sets["acme.example. TXT"]; left || len(sets) != 3 {
		t.Errorf("the target has %+v", sets)
	}
	if zone = west.objectNamed(t, Zone, "acme.example."); zone.Fields["ttl"] != int64(900) || zone.Fields["description"] != "" {
		t.Errorf("the zone: %+v", zone.Fields)
	}
	east.dns(t, http.MethodDelete, "zones/"+id, nil)
	run(t, e, syncer.Options{}, syncer.Unsupported, syncer.Held, syncer.Conflict)
	if sets = west.sets(t); len(sets) != 1 || len(west.all(t, Zone, syncer.Key{})) != 2 {
		t.Errorf("what was changed by hand did not stay, and its zone: %+v", sets)
	}
	// Nor does a zone go in which somebody has something.
	west.dns(t, http.MethodDelete, "zones/"+zoneID+"/recordsets/"+setID, nil)
	hand := west.dns(t, http.MethodPost, "zones/"+zoneID+"/recordsets", row{"name": "hand.acme.example.", "type": "A", "records": []string{"192.0.2.1"}}).text("id")
	failed, err := e.Run(t.Context(), syncer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(failed.Failures) != 1 || !strings.Contains(failed.Failures[0].Reason, "hand.acme.example. A") {
		t.Errorf("failures: %+v", failed.Failures)
	}
	west.dns(t, http.MethodDelete, "zones/"+zoneID+"/recordsets/"+hand, nil)
	run(t, e, syncer.Options{Retry: true}, syncer.Unsupported)
	if zones := west.all(t, Zone, syncer.Key{}); len(zones) != 1 {
		t.Errorf("zones that are left: %+v", zones)
	}
}

// A zone that its name servers do not serve is a failure by name, and told to
// them again; the next run is clean once they do.
func TestZoneInError(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{PendingDNS: 1})
	project, _ := customer(t, east, "acme")
	east.newZone(t, project, row{"name": "acme.example.", "email": "dns@acme.example"})
	west.fake.FailDNS(true)
	e := engine(t, east, west, onlyNames)
	r, err := e.Run(t.Context(), syncer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failures) != 1 || r.Failures[0].Key.Kind != Zone || !strings.Contains(r.Failures[0].Reason, "acme.example. is there, but its name servers do not serve it") {
		t.Errorf("failures: %+v", r.Failures)
	}
	if len(west.all(t, Zone, syncer.Key{})) != 1 {
		t.Error("the zone was made more than once, or not at all")
	}
	west.fake.FailDNS(false)
	run(t, e, syncer.Options{Retry: true})
	if zone := west.objectNamed(t, Zone, "acme.example."); zone.Fields["failing"] != false {
		t.Errorf("the zone: %+v", zone.Fields)
	}
	quiet(t, e)
}

// Listings that are cut short, and answers that are lost.
func TestNamesUnderFaults(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	id := east.newZone(t, project, row{"name": "acme.example.", "email": "dns@acme.example"})
	for _, name := range []string{"a", "b", "c"} {
		east.dns(t, http.MethodPost, "zones/"+id+"/recordsets", row{"name": name + ".acme.example.", "type": "A", "records": []string{"192.0.2.7"}})
	}
	e := engine(t, east, west, onlyNames)
	for _, path := range []string{"/v2/zones$", "/recordsets$"} {
		west.fake.Inject(fakecloud.Fault{Service: fakecloud.DNS, Method: "POST", Path: path, Nth: 1, What: fakecloud.Drop, Late: true})
	}
	run(t, e, syncer.Options{})
	if n := len(west.sets(t)); n != 3 {
		t.Fatalf("%d record sets after lost answers", n)
	}
	for _, what := range []fakecloud.What{fakecloud.ShortPage, fakecloud.EmptyPage} {
		for _, path := range []string{"/v2/zones\\?limit", "/v2/recordsets\\?limit"} {
			f := east.fake.Inject(fakecloud.Fault{Service: fakecloud.DNS, Method: "GET", Path: path, What: what})
			r, err := e.Run(t.Context(), syncer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if f.Hits() == 0 || r.Plan.Acts() != 0 || r.Plan.Count(syncer.Held) != 0 {
				t.Errorf("fault %d at %s, %d times: %+v", what, path, f.Hits(), r.Plan.Changes)
			}
			unknown := 0
			for _, k := range r.Plan.Kinds {
				unknown += len(k.Unknown)
			}
			if unknown == 0 {
				t.Errorf("fault %d at %s: nothing is said to be not known", what, path)
			}
			f.Remove()
		}
	}
	quiet(t, e)
}

// Credentials that may not act for others become one of them.
func TestZoneWithoutSudo(t *testing.T) {
	west := newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, west, "acme")
	admin := west.session.Identity()
	var roles struct{ Roles []row }
	if _, err := west.call(t.Context(), identity, http.MethodGet, "roles?name=admin", nil, &roles); err != nil {
		t.Fatal(err)
	}
	grant := "projects/" + project + "/users/" + admin.UserID + "/roles/" + roles.Roles[0].text("id")
	if _, err := west.call(t.Context(), identity, http.MethodPut, grant, nil, nil); err != nil {
		t.Fatal(err)
	}
	f := west.fake.Inject(fakecloud.Fault{Service: fakecloud.DNS, Method: "POST", Path: "/v2/zones$", Times: 1, What: fakecloud.Answer, Status: http.StatusForbidden})
	want := syncer.Object{Key: syncer.Key{Kind: Zone, ID: "theirs"}, Natural: []any{"acme.example."}, Fields: syncer.Fields{"name": "acme.example.", "type": primary,
		"email": "a@acme.example", "ttl": int64(60), "description": "", "project": syncer.Ref{Key: syncer.Key{Kind: Project, ID: project}}, "failing": false}}
	made, err := west.Create(t.Context(), want, nil)
	if err != nil || f.Hits() != 1 || made.Project != project || syncer.Diff(made.Fields, want.Fields) != nil {
		t.Errorf("made %+v, %v, after %d refusals", made, err, f.Hits())
	}
	if _, err := west.Create(t.Context(), want, nil); !errors.Is(err, syncer.ErrTaken) {
		t.Errorf("a second of that name: %v", err)
	}
	found, err := west.Find(t.Context(), want)
	if err != nil || found.ID != made.ID {
		t.Errorf("found %+v, %v", found, err)
	}
}

// The records of a zone that comes from its masters are theirs: they are not
// carried, and go with the zone.
func TestRecordsOfMasters(t *testing.T) {
	// The cloud in memory transfers no zones: one of its own is called one.
	east := throughTo(t, "east", "dns_endpoint_override", "/dns", func(r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "type=SECONDARY") {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, secondary, primary, 1)
		}
	}, func(*http.Response) {})
	id := east.newZone(t, east.session.Identity().ProjectID, row{"name": "acme.example.", "email": "dns@acme.example"})
	east.dns(t, http.MethodPost, "zones/"+id+"/recordsets", row{"name": "a.acme.example.", "type": "A", "records": []string{"192.0.2.7"}})
	if sets := east.sets(t); len(sets) != 0 {
		t.Errorf("a master's records are listed: %+v", sets)
	}
	zone := east.objectNamed(t, Zone, "acme.example.")
	if err := east.Delete(t.Context(), zone); !errors.Is(err, syncer.ErrInUse) {
		t.Errorf("a zone of ours with a record: %v", err)
	}
	zone.Fields["type"] = secondary
	if err := east.Delete(t.Context(), zone); err != nil {
		t.Errorf("a master's zone: %v", err)
	}
	if left := east.all(t, Zone, syncer.Key{}); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}
