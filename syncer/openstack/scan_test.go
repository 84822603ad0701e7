package openstack

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

var pageSeeds = []string{
	`{"rows": [{"id": "a", "revision_number": 7, "tags": ["x"], "name": "n\u00e4\"\\"}, {"id":"b","deep":{"a":[1,{"b":"]}"}]}}], "rows_links": [{"rel":"next","href":"h"}]}`,
	` { "rows" : [ ] , "links" : {"next": null} } `, `{"rows":[{}]}`, `{"rows":[]}trailing`, `{"rows":[{"id":"a"},]}`, `{"rows":[{"id":"a"}`,
	`{"rows":[1]}`, `{"rows":{}}`, `[]`, ``, `{"rows":[{"id":"\`, `{"r\u006fws":[{"id":true,"id":false}]}`, `{"rows":[{"id":-1.5E+3}]}`, `{"":[]}`,
}

// A page that is parted says what it says decoded at once, or that it is none.
func FuzzPage(f *testing.F) {
	for _, s := range pageSeeds {
		f.Add(s)
	}
	wanted := map[string]bool{"id": true, "tags": true, "name": true, "revision_number": true}
	f.Fuzz(func(t *testing.T, text string) {
		var want map[string]any
		whole := json.Valid([]byte(text)) && decode([]byte(strings.TrimSpace(text)), &want) == nil && want != nil
		rows, rest, err := splitPage([]byte(text), "rows")
		list, listed := want["rows"].([]any)
		switch {
		case err == nil && !whole:
			// Only what is within the rows may be wrong still.
			for _, r := range rows {
				if _, err := decodeRow(r); err != nil {
					return
				}
			}
			t.Fatalf("%q was parted, and is no JSON", text)
		case err != nil && whole:
			objects := !slices.ContainsFunc(list, func(e any) bool { _, ok := e.(map[string]any); return !ok })
			if objects && !strings.Contains(text, strings.Repeat("[", 20)) && !strings.Contains(text, strings.Repeat("{", 20)) && !strings.Contains(err.Error(), "no object") {
				t.Fatalf("%q is JSON, and was not parted: %v", text, err)
			}
			return
		case err != nil:
			return
		}
		if strings.Count(text, "rows") > 1 || strings.Contains(text, `\`) || !listed {
			return // one key twice, or in two ways
		}
		if len(rows) != len(list) {
			t.Fatalf("%q has %d rows, and was parted into %d", text, len(list), len(rows))
		}
		some := row{"of": "the row before"}
		for i, r := range rows {
			got, err := decodeRow(r)
			if err != nil || !reflect.DeepEqual(map[string]any(got), list[i]) {
				t.Errorf("row %d of %q: %v, %v", i, text, got, err)
			}
			if err := decodeSome(r, wanted, some); err != nil {
				t.Errorf("row %d of %q: %v", i, text, err)
			}
			for name := range wanted {
				if !reflect.DeepEqual(some[name], got[name]) {
					t.Errorf("row %d of %q: %s is %#v, and decoded %#v", i, text, name, some[name], got[name])
				}
			}
		}
		for name, v := range rest {
			if !reflect.DeepEqual(v, want[name]) {
				t.Errorf("%q: %s is %#v", text, name, v)
			}
		}
	})
}

// What is cut off or is no JSON is an error, and not a shorter listing.
func TestPageIsWholeOrNone(t *testing.T) {
	text := pageSeeds[0]
	if rows, rest, err := splitPage([]byte(text), "rows"); err != nil || len(rows) != 2 || rest["rows_links"] == nil {
		t.Fatalf("%d rows, %v, %v", len(rows), rest, err)
	}
	for n := range len(text) {
		if rows, _, err := splitPage([]byte(text[:n]), "rows"); err == nil {
			t.Errorf("%d bytes of %d are taken for %d rows", n, len(text), len(rows))
		}
	}
	for _, bad := range []string{`{"rows":[{"a":1}{"b":2}]}`, `{"rows":[{"a" 1}]}`, `{"rows":[{"a":}]}`, `{"rows":[],}`, `{"rows":[}`, `{"rows":["a"]}`, `x`,
		`{"rows":[{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}]}`} {
		if rows, _, err := splitPage([]byte(bad), "rows"); err == nil {
			t.Errorf("%.40q is taken for %d rows", bad, len(rows))
		}
	}
}

// Of Neutron's kinds a listing tells the stance, the name and what else the
// engine looks at without the whole row.
func TestListedTellsWhatTheWholeTells(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{Seed: 1})
	tenant(t, east, "acme")
	h := east.fake.Hand()
	outside := h.Make("network", fakecloud.Fields{"name": "outside", "router:external": true, "provider:network_type": "flat", "provider:physical_network": "p"})
	h.Make("subnet", fakecloud.Fields{"network_id": outside, "ip_version": 4, "cidr": "198.51.100.0/24"})
	h.Make("floatingip", fakecloud.Fields{"floating_network_id": outside})
	h.Make("policy", fakecloud.Fields{"name": "gold"})
	h.Make("subnetpool", fakecloud.Fields{"name": "pool", "prefixes": []any{"10.0.0.0/8"}})
	seen := make(map[syncer.Kind]int)
	stances := make(map[syncer.Stance]bool)
	for _, k := range []syncer.Kind{SubnetPool, QoSPolicy, Network, Subnet, SecurityGroup, Router, FloatingIP} {
		if _, err := east.List(t.Context(), k, syncer.Key{}, func(o syncer.Object) error {
			if o.Whole == nil || o.Fields != nil {
				return fmt.Errorf("%s is listed with %d fields", o.Key, len(o.Fields))
			}
			all, err := o.Whole()
			if err != nil {
				return err
			}
			read, err := east.Read(t.Context(), o)
			if err != nil {
				return err
			}
			if names := syncer.Diff(all.Fields, read.Fields); len(names) > 0 || len(all.Fields) == 0 {
				t.Errorf("%s: listed and read differ in %q", o.Key, names)
			}
			all.Fields, all.Lost, o.Whole = nil, nil, nil
			if !reflect.DeepEqual(o, all) {
				t.Errorf("listed %+v\nthe whole is %+v", o, all)
			}
			seen[k]++
			stances[o.Stance] = true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if seen[k] == 0 {
			t.Errorf("there is no %s", k)
		}
	}
	if !stances[syncer.Outside] || !stances[syncer.Adopted] || !stances[syncer.Carried] {
		t.Errorf("only stances %v", stances)
	}
}
