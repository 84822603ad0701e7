package openstack

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// ground is what the objects of the samples refer to: each is made when one of
// them asks for it. seq tells grounds of one cloud apart, which are many on a real
// one.
type ground struct {
	seq                                       int
	domain, project, other, user, group, role func() string
	net, sub, peer, image, opened             func() string
	users, projects                           [3]func() string
	box, zone                                 func() string
}

// newGround makes objects by the APIs.
func newGround(t *testing.T, s site, seq int) *ground {
	g := &ground{seq: seq}
	once := func(h api, path, one string, body func() row) func() string {
		return sync.OnceValue(func() string {
			t.Helper()
			return s.make(t, h, path, one, body())
		})
	}
	named := func(name string, more row) row {
		body := row{"name": fmt.Sprintf("%s-%d", name, seq)}
		maps.Copy(body, more)
		return body
	}
	g.domain = once(identity, "domains", "domain", func() row { return named("ground", nil) })
	inDomain := func(path, one, name string) func() string {
		return once(identity, path, one, func() row { return named(name, row{"domain_id": g.domain()}) })
	}
	g.project, g.other = inDomain("projects", "project", "one"), inDomain("projects", "project", "two")
	g.user, g.group = inDomain("users", "user", "ann"), inDomain("groups", "group", "ops")
	g.role = once(identity, "roles", "role", func() row { return named("operator", nil) })
	for i, name := range []string{"bea", "cid", "dan"} {
		g.users[i], g.projects[i] = inDomain("users", "user", name), inDomain("projects", "project", name)
	}
	inProject := func(path, one string, more func() row) func() string {
		return once(neutron, path, one, func() row {
			body := named(one, more())
			body["project_id"] = g.project()
			return body
		})
	}
	g.net = inProject("networks", "network", func() row { return row{} })
	g.sub = inProject("subnets", "subnet", func() row { return row{"network_id": g.net(), "ip_version": 4, "cidr": "10.8.0.0/24"} })
	g.peer = inProject("security-groups", "security_group", func() row { return row{} })
	g.opened = sync.OnceValue(func() string { return g.admit(t, s) })
	g.storeGround(t, s)
	g.image = sync.OnceValue(func() string {
		return makeImage(t, s, "ground", "some content", row{"visibility": "shared", "owner": g.project()})
	})
	return g
}

// admit lets the admin into the project: what is made in a project's own name
// needs that.
func (g *ground) admit(t *testing.T, s site) string {
	t.Helper()
	for _, r := range s.all(t, Role, syncer.Key{}) {
		if r.Name == "admin" {
			path := "projects/" + g.project() + "/users/" + s.session.Identity().UserID + "/roles/" + r.ID
			if _, err := s.call(t.Context(), identity, http.MethodPut, path, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return g.project()
}

func ref(kind syncer.Kind, id string) syncer.Ref {
	return syncer.Ref{Key: syncer.Key{Kind: kind, ID: id}}
}

// sample makes objects with these fields, of which name is numbered; natural are
// the fields of its natural key.
func (g *ground) sample(kind syncer.Kind, fields func(n int) syncer.Fields, natural []string, changes ...syncertest.Change) syncertest.Sample {
	return syncertest.Sample{Kind: kind, Changes: changes, Fixed: len(changes) == 0, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
		o := syncer.Object{Key: syncer.Key{Kind: kind, ID: fmt.Sprintf("%024x%04x%04x", 0xabc, g.seq, n)}, Fields: fields(n)}
		o.Name, _ = o.Fields["name"].(string)
		for _, f := range natural {
			o.Natural = append(o.Natural, o.Fields[f])
		}
		return o, nil
	}}
}

// set is a change of one field.
func set(name string, v any) syncertest.Change { return setTo(name, func() any { return v }) }

// setTo is set with a value that has to be made first.
func setTo(name string, to func() any) syncertest.Change {
	return syncertest.Change{Name: name, Make: func(_ *testing.T, o *syncer.Object) {
		v := to()
		o.Fields[name] = v
		for i, part := range o.Natural {
			if text, ok := part.(string); ok && name == "name" && text == o.Name {
				o.Natural[i] = v
			}
		}
	}}
}

func (g *ground) named(prefix string, n int) string { return fmt.Sprintf("%s-%d-%d", prefix, g.seq, n) }

// samples are of all kinds but those that come with others (quotas, the default
// group), which Create only takes over.
func samples(g *ground) []syncertest.Sample {
	all := append(identitySamples(g), networkSamples(g)...)
	all = append(append(all, otherSamples(g)...), storeSamples(g)...)
	return append(all, dnsSamples(g)...)
}

func identitySamples(g *ground) []syncertest.Sample {
	domain := func() syncer.Ref { return ref(Domain, g.domain()) }
	inDomain := func(prefix string) func(int) syncer.Fields {
		return func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named(prefix, n), "description": "some", "domain_id": domain()}
		}
	}
	return []syncertest.Sample{
		g.sample(Domain, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("domain", n), "description": "a customer", "enabled": true}
		}, []string{"name"}, set("name", g.named("renamed", 0)), set("description", ""), set("enabled", false)),
		g.sample(Role, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("role", n), "description": "may do it", "domain_id": nil, "implies": syncer.Set{}}
		}, []string{"name", "domain_id"}, set("name", g.named("renamed", 0)), set("description", "may not"),
			setTo("implies", func() any { return syncer.Set{ref(Role, g.role())} })),
		g.sample(Project, func(n int) syncer.Fields {
			f := inDomain("project")(n)
			f["enabled"], f["parent_id"], f["tags"] = true, ref(Project, g.project()), syncer.Set{"gold", "a tag"}
			return f
		}, []string{"name", "domain_id"}, set("name", g.named("renamed", 0)), set("enabled", false), set("tags", syncer.Set{"silver"})),
		g.sample(Group, inDomain("group"), []string{"name", "domain_id"}, set("name", g.named("renamed", 0)), set("description", "")),
		g.sample(User, func(n int) syncer.Fields {
			f := inDomain("user")(n)
			f["email"], f["default_project_id"], f["enabled"] = "ann@example.org", ref(Project, g.project()), true
			return f
		}, []string{"name", "domain_id"}, set("email", "ann@example.net"), set("enabled", false), setTo("default_project_id", func() any { return ref(Project, g.other()) })),
		linkSample(Assignment, func() syncer.Key { return syncer.Key{} }, func(n int) syncer.Fields {
			return syncer.Fields{"role": ref(Role, g.role()), "actor": []syncer.Ref{ref(User, g.user()), ref(Group, g.group())}[n%2],
				"scope": []any{ref(Project, g.project()), ref(Domain, g.domain())}[n/2%2]}
		}),
		linkSample(Membership, func() syncer.Key { return syncer.Key{Kind: Group, ID: g.group()} }, func(n int) syncer.Fields {
			return syncer.Fields{"group": ref(Group, g.group()), "user": ref(User, g.users[n%3]())}
		}),
	}
}

func linkSample(kind syncer.Kind, within func() syncer.Key, fields func(n int) syncer.Fields, changes ...syncertest.Change) syncertest.Sample {
	return syncertest.Sample{Kind: kind, Fixed: len(changes) == 0, Changes: changes, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
		return linked(kind, fields(n), within(), "a link"), nil
	}}
}

func networkSamples(g *ground) []syncertest.Sample {
	project := func() syncer.Ref { return ref(Project, g.project()) }
	web := map[string]any{"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443,
		"description": nil, "remote_ip_prefix": "192.0.2.0/24", "remote_group_id": nil}
	peers := func() any {
		return map[string]any{"direction": "ingress", "ethertype": "IPv6", "protocol": nil, "port_range_min": nil, "port_range_max": nil,
			"description": "the peers", "remote_ip_prefix": nil, "remote_group_id": syncer.Ref{Key: syncer.Key{Kind: SecurityGroup, ID: g.peer()}, Weak: true}}
	}
	return []syncertest.Sample{
		g.sample(AddressScope, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("scope", n), "ip_version": 4, "shared": false, "project_id": project()}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0))),
		g.sample(SubnetPool, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("pool", n), "description": "", "prefixes": syncer.Set{fmt.Sprintf("10.%d.%d.0/20", 100+n/16, n%16*16)}, "default_prefixlen": 26,
				"min_prefixlen": 24, "max_prefixlen": 28, "default_quota": nil, "is_default": false, "shared": false, "address_scope_id": nil,
				"project_id": project(), "tags": syncer.Set{}}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0)), set("default_prefixlen", 25), set("tags", syncer.Set{"blue"})),
		g.sample(Network, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("net", n), "description": "a net", "admin_state_up": true, "mtu": 1400, "port_security_enabled": true,
				"project_id": project(), "tags": syncer.Set{"blue"}}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0)), set("description", ""), set("admin_state_up", false), set("mtu", 1300),
			set("port_security_enabled", false), set("tags", syncer.Set{}), set("tags", syncer.Set{"blue", "green"})),
		g.sample(Subnet, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("sub", n), "description": "", "network_id": ref(Network, g.net()), "ip_version": 4, "cidr": fmt.Sprintf("10.10.%d.0/24", n%250),
				"gateway_ip": nil, "enable_dhcp": true, "allocation_pools": syncer.Set{map[string]any{"start": fmt.Sprintf("10.10.%d.10", n%250), "end": fmt.Sprintf("10.10.%d.20", n%250)}},
				"dns_nameservers": []any{"192.0.2.53", "192.0.2.9"}, "host_routes": syncer.Set{}, "ipv6_ra_mode": nil, "ipv6_address_mode": nil,
				"subnetpool_id": nil, "service_types": syncer.Set{}, "project_id": project(), "tags": syncer.Set{}}
		}, []string{"network_id", "cidr"}, set("name", g.named("renamed", 0)), set("enable_dhcp", false), set("dns_nameservers", []any{"192.0.2.9", "192.0.2.53"}),
			set("host_routes", syncer.Set{map[string]any{"destination": "10.77.0.0/16", "nexthop": "10.10.100.12"}})),
		g.sample(SecurityGroup, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("sg", n), "description": "a group", "stateful": true, "rules": syncer.Set{web, peers()}, "project_id": project(), "tags": syncer.Set{}}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0)), set("rules", syncer.Set{web}), set("rules", syncer.Set{}), set("tags", syncer.Set{"blue"})),
		g.sample(Router, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("router", n), "description": "", "admin_state_up": true, "gateway": nil, "snat": nil,
				"interfaces": syncer.Set{map[string]any{"subnet": ref(Subnet, g.sub()), "address": fmt.Sprintf("10.8.0.%d", 10+n%10+n/100*10)}},
				"routes":     syncer.Set{map[string]any{"destination": "10.99.0.0/16", "nexthop": "10.8.0.250"}}, "project_id": project(), "tags": syncer.Set{}}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0)), set("admin_state_up", false), set("routes", syncer.Set{}),
			syncertest.Change{Name: "interfaces", Make: func(_ *testing.T, o *syncer.Object) {
				o.Fields["interfaces"], o.Fields["routes"] = syncer.Set{}, syncer.Set{}
			}}),
		g.sample(RBACPolicy, func(n int) syncer.Fields {
			return syncer.Fields{"object_type": "network", "object_id": ref(Network, g.net()), "action": "access_as_shared",
				"target": []any{ref(Project, g.other()), ref(Project, g.project())}[n%2], "project_id": project()}
		}, []string{"object_type", "object_id", "action", "target"}),
		g.sample(QoSPolicy, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("qos", n), "description": "", "shared": false, "is_default": false, "project_id": project(), "tags": syncer.Set{},
				"rules": syncer.Set{map[string]any{"type": "bandwidth_limit", "max_kbps": 1000, "max_burst_kbps": 100, "direction": "egress"}, map[string]any{"type": "dscp_marking", "dscp_mark": 26}}}
		}, []string{"project_id", "name"}, set("name", g.named("renamed", 0)), set("rules", syncer.Set{map[string]any{"type": "dscp_marking", "dscp_mark": 14}})),
	}
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ann@example"

func otherSamples(g *ground) []syncertest.Sample {
	project := func() syncer.Ref { return ref(Project, g.project()) }
	image := syncertest.Sample{Kind: Image, Changes: []syncertest.Change{set("name", g.named("renamed", 0)), set("protected", true), set("tags", syncer.Set{"new"}),
		set("visibility", "public"), set("os_hidden", true), set("properties", map[string]any{"os_distro": "debian", "a/b~c": "escaped"}), set("min_ram", 64)},
		Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
			body := []byte(fmt.Sprintf("the content of image %d", n))
			sum := sha512.Sum512(body)
			id := fmt.Sprintf("00000000-0000-4000-%04x-%012x", 0x8000+g.seq, n)
			return syncer.Object{Key: syncer.Key{Kind: Image, ID: id}, Natural: []any{id}, Content: syncer.Content{Size: int64(len(body)), Sum: "sha512:" + hex.EncodeToString(sum[:])},
				Fields: syncer.Fields{"name": g.named("image", n), "visibility": "private", "os_hidden": false, "protected": false, "tags": syncer.Set{"old"}, "container_format": "bare",
					"disk_format": "raw", "min_disk": 0, "min_ram": 0, "owner": project(), "properties": map[string]any{"os_distro": "cirros"}}}, body
		}}
	return []syncertest.Sample{
		image,
		linkSample(ImageMember, func() syncer.Key { return syncer.Key{Kind: Image, ID: g.image()} }, func(n int) syncer.Fields {
			return syncer.Fields{"image": ref(Image, g.image()), "member": ref(Project, g.projects[n%3]()), status: "accepted"}
		}, set(status, "rejected")),
		g.sample(Flavor, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("flavor", n), "ram": 64, "vcpus": 1, "disk": 1, "OS-FLV-EXT-DATA:ephemeral": 0, "swap": 0, "rxtx_factor": 1,
				"os-flavor-access:is_public": false, "description": "small", "extra_specs": map[string]any{"hw:cpu_policy": "shared"}, "access": syncer.Set{project()}}
		}, []string{"name"}, set("description", "smaller"), set("extra_specs", map[string]any{"quota:cpu_shares": "10"}), setTo("access", func() any { return syncer.Set{ref(Project, g.other())} })),
		{Kind: Keypair, Fixed: true, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
			return keypair(syncer.Key{Kind: User, ID: g.user()}, row{"name": g.named("key", n), "type": "ssh", "public_key": publicKey}), nil
		}},
		g.sample(ServerGroup, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("spread", n), "policy": "anti-affinity", "rules": map[string]any{}, "project": ref(Project, g.opened())}
		}, []string{"project", "name"}),
		g.sample(VolumeQoS, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("qos", n), "consumer": "front-end", "specs": map[string]any{"total_iops_sec": "100"}}
		}, []string{"name"}, set("consumer", "back-end"), set("specs", map[string]any{"read_iops_sec": "10"})),
		g.sample(VolumeType, func(n int) syncer.Fields {
			return syncer.Fields{"name": g.named("type", n), "description": "fast", "os-volume-type-access:is_public": false, "qos_specs_id": nil,
				"extra_specs": map[string]any{"key": "value", backendSpec: ref(Backend, "lvm")}, "access": syncer.Set{project()}}
		}, []string{"name"}, set("name", g.named("renamed", 0)), set("description", "slow"), set("extra_specs", map[string]any{"other": "value"}), set("access", syncer.Set{})),
	}
}
