package fakecloud

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"testing"
)

// junk is what a client might send where something else belongs.
func junk() []any {
	return []any{nil, 5, -1, 2.5, "", "x", true, []any{}, []any{nil}, []any{5}, []any{"x"}, []any{fields{}}, fields{}, fields{"x": 5}, fields{"id": 5}}
}

// whole makes one object of each kind that can be made from a name.
func whole(t *testing.T, h Hand) map[string]string {
	t.Helper()
	ids := map[string]string{}
	key, _ := madeKey("0123456789abcdef0123456789abcdef")
	network := h.Make("network", fields{"name": "n", "router:external": true})
	subnet := h.Make("subnet", fields{"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4})
	inputs := map[string]fields{
		"subnetpool": {"name": "x", "prefixes": []any{"10.1.0.0/16"}}, "address_scope": {"name": "x", "ip_version": 4}, "port": {"network_id": network},
		"router": {"external_gateway_info": fields{"network_id": network}}, "floatingip": {"floating_network_id": network},
		"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 1}, "keypair": {"name": "x", "public_key": key}, "server_group": {"name": "x", "policy": "affinity"},
		"zone": {"name": "x.example.", "email": "a@b.c"}, "security_group": {"name": "x"},
		"rbac_policy": {"object_type": "network", "object_id": network, "action": "access_as_shared", "target_tenant": h.project},
		"image":       {"name": "x", "disk_format": "raw", "container_format": "bare"}, "address_group": {"name": "x"},
	}
	ids["network"], ids["subnet"] = network, subnet
	for _, kind := range slices.Sorted(maps.Keys(handKinds)) {
		switch kind {
		case "network", "subnet", "security_group_rule":
			continue
		}
		in := inputs[kind]
		if in == nil {
			in = fields{"name": "x"}
		}
		ids[kind] = h.Make(kind, in)
	}
	ids["security_group_rule"] = h.Make("security_group_rule", fields{"security_group_id": ids["security_group"], "direction": "ingress"})
	return ids
}

// Whatever is sent, the cloud answers: a fake that falls over would look like
// a network that fails.
func TestJunk(t *testing.T) {
	c := New(t, Options{Seed: 1})
	h := c.Hand()
	ids := whole(t, h)
	said := 0
	send := func(k handKind, method, path string, body any) {
		t.Helper()
		defer func() {
			if err := recover(); err != nil {
				t.Errorf("%s %s with %s: %v", method, path, encode(body), err)
			}
		}()
		if _, err := h.Do(k.service, method, path, body); err == nil {
			said++
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(handKinds)) {
		k := handKinds[kind]
		shown, err := h.Show(kind, ids[kind])
		if err != nil && kind != "keypair" {
			t.Fatal(err)
		}
		for _, v := range junk() {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			send(k, http.MethodPost, k.path, json.RawMessage(raw))
			send(k, http.MethodPost, k.path, fields{k.one: v})
			for key := range shown {
				send(k, http.MethodPost, k.path, k.wrap(fields{"name": "y", key: v}))
				if kind == "image" {
					send(k, k.update, k.path+"/"+ids[kind], []any{fields{"op": "add", "path": "/" + key, "value": v}, v})
					continue
				}
				send(k, k.update, k.path+"/"+ids[kind], k.wrap(fields{key: v}))
			}
		}
		send(k, http.MethodGet, k.path, nil)
		send(k, http.MethodGet, k.path+"?limit=x&marker=y&sort_key=z", nil)
	}
	if said == 0 {
		t.Error("nothing went well")
	}
	if len(c.Dump(nil)) == 0 {
		t.Error("nothing to dump")
	}
	for _, kind := range slices.Sorted(maps.Keys(handKinds)) {
		send(handKinds[kind], http.MethodDelete, handKinds[kind].path+"/"+ids[kind], nil)
	}
}
