package openstack

import (
	"net/http"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// What of an object is not carried is named, kind by kind.
func TestLostIsNamed(t *testing.T) {
	s := newSite(t, "east", fakecloud.Options{})
	put := func(h api, method, path string, body any) {
		t.Helper()
		if _, err := s.call(t.Context(), h, method, path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	fixed := row{"immutable": true}
	net := s.make(t, neutron, "networks", "network", row{"name": "net", "availability_zone_hints": []string{"nova"}, "vlan_transparent": true})
	out := s.make(t, neutron, "networks", "network", row{"name": "out", "router:external": true})
	sub := s.make(t, neutron, "subnets", "subnet", row{"network_id": net, "ip_version": 4, "cidr": "10.8.0.0/24", "dns_publish_fixed_ip": true})
	s.make(t, neutron, "subnets", "subnet", row{"network_id": out, "ip_version": 4, "cidr": "192.0.2.0/24"})
	kind := s.make(t, cinder, "types", "volume_type", row{"name": "sealed"})
	put(cinder, http.MethodPost, "types/"+kind+"/encryption", map[string]any{"encryption": row{"provider": "luks", "control_location": "front-end"}})
	router := s.make(t, neutron, "routers", "router", row{"name": "gate", "distributed": true, "ha": true, "external_gateway_info": row{"network_id": out}})
	for _, c := range []struct {
		kind syncer.Kind
		id   string
		says []string
	}{
		{Domain, s.make(t, identity, "domains", "domain", row{"name": "d", "options": fixed}), []string{"options"}},
		{Role, s.make(t, identity, "roles", "role", row{"name": "r", "options": fixed}), []string{"options"}},
		{Project, s.make(t, identity, "projects", "project", row{"name": "p", "options": fixed}), []string{"options"}},
		{User, s.make(t, identity, "users", "user", row{"name": "u", "options": row{"lock_password": true}}), []string{"options", "password", "second factor", "EC2 and application credentials", "trusts"}},
		{Network, net, []string{"availability zones: [nova]", "lets VLANs through"}},
		{Subnet, sub, []string{"published by name"}},
		{Router, router, []string{"distributed", "highly available", "the gateway's address"}},
		{FloatingIP, s.make(t, neutron, "floatingips", "floatingip", row{"floating_network_id": out, "dns_name": "www", "dns_domain": "example."}), []string{"its address, which is the other cloud's to give: the map says which: 192.0.2.", "its name: www"}},
		{VolumeType, kind, []string{"encryption: its keys are not the other cloud's: luks"}},
		{Network, s.make(t, neutron, "networks", "network", row{"name": "plain"}), nil},
		{VolumeType, s.make(t, cinder, "types", "volume_type", row{"name": "plain"}), nil},
		{Router, s.make(t, neutron, "routers", "router", row{"name": "plain"}), nil},
		{Project, s.make(t, identity, "projects", "project", row{"name": "plain"}), nil},
	} {
		o, err := s.Read(t.Context(), syncer.Object{Key: syncer.Key{Kind: c.kind, ID: c.id}})
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(o.Lost, "; ")
		for _, part := range c.says {
			if !strings.Contains(all, part) {
				t.Errorf("%s %s does not name %q: %q", c.kind, o.Name, part, all)
			}
		}
		if c.says == nil && all != "" {
			t.Errorf("%s %s: %q", c.kind, o.Name, all)
		}
	}
}
