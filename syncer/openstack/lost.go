package openstack

import "fmt"

// drop is a field of a row's that is not kept alike: it means nothing in the
// other cloud, or cannot be set.
type drop struct {
	name string
	says string // what it is, for people
}

// dropped names the fields that say anything.
func dropped(in row, drops []drop) []string {
	var out []string
	for _, d := range drops {
		switch v := in[d.name].(type) {
		case nil, bool:
			if v == true {
				out = append(out, d.says)
			}
		case string:
			if v != "" {
				out = append(out, d.says+": "+v)
			}
		case []any:
			if len(v) > 0 {
				out = append(out, fmt.Sprintf("%s: %v", d.says, v))
			}
		case map[string]any:
			if len(v) > 0 {
				out = append(out, d.says)
			}
		}
	}
	return out
}

// options of Keystone's, as that a row cannot be changed or deleted any more: a
// copy has to be.
var options = drop{"options", "options, as that it cannot be changed"}

// zonesHint is where schedulers put an object: the other cloud has zones of its own.
var zonesHint = drop{"availability_zone_hints", "availability zones"}

var networkDrops = []drop{zonesHint, {"vlan_transparent", "that it lets VLANs through"}, {"segments", "segments of provider networks"}}

var subnetDrops = []drop{{"segment_id", "its segment"}, {"dns_publish_fixed_ip", "that its addresses are published by name"}}

var routerDrops = []drop{zonesHint, {"distributed", "that it is distributed: the other cloud has a default of its own"},
	{"ha", "that it is highly available: the other cloud has a default of its own"}, {"flavor_id", "its flavor"}, {"enable_ndp_proxy", "its NDP proxy"}}

var floatingDrops = []drop{{"floating_ip_address", "its address, which is the other cloud's to give: the map says which"}, {"port_id", "the port that it leads to"},
	{"port_forwardings", "ports that it forwards"}, {"dns_name", "its name"}, {"qos_policy_id", "its QoS policy"}}
