package fakecloud

import (
	"net/http"
	"net/netip"
	"slices"
)

// setRoutes serve what Neutron changes by adding to a set and taking from it:
// the addresses of an address group, the prefixes of a subnet pool.
func (c *Cloud) setRoutes(on func(method, pattern string, h handler)) {
	for _, verb := range []string{"add", "remove"} {
		on("PUT", "/v2.0/address-groups/{id}/"+verb+"_addresses", func(q *request) (reply, error) {
			r, err := q.networkRow(q.networks("address_groups"))
			if err != nil {
				return reply{}, err
			}
			in, err := q.input("")
			if err != nil {
				return reply{}, err
			}
			if err := addresses(in); err != nil {
				return reply{}, err
			}
			r.set("addresses", anys(changeSet(texts(r.f, "addresses"), texts(in, "addresses"), verb == "add")))
			q.touch(r)
			return ok(fields{"address_group": r.f})
		})
		on("PUT", "/v2.0/subnetpools/{id}/"+verb+"_prefixes", func(q *request) (reply, error) {
			r, err := q.networkRow(q.networks("subnetpools"))
			if err != nil {
				return reply{}, err
			}
			in, err := q.input("")
			if err != nil {
				return reply{}, err
			}
			if verb == "remove" && q.poolUses(r, texts(in, "prefixes")) {
				return reply{}, inUse("IllegalSubnetPoolPrefixUpdate", "Illegal update to prefixes: a prefix is in use.")
			}
			prefixes := anys(changeSet(texts(r.f, "prefixes"), texts(in, "prefixes"), verb == "add"))
			r.set("prefixes", prefixes)
			q.touch(r)
			return ok(fields{"prefixes": prefixes})
		})
	}
}

// changeSet adds members to a set, or takes them away.
func changeSet(have, change []string, add bool) []string {
	out := slices.Clone(have)
	for _, s := range change {
		out = slices.DeleteFunc(out, func(o string) bool { return o == s })
		if add {
			out = append(out, s)
		}
	}
	return out
}

// poolUses tells whether a subnet was cut from one of the prefixes.
func (q *request) poolUses(pool *row, prefixes []string) bool {
	for _, s := range prefixes {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			continue
		}
		if q.networks("subnets").rows.first(func(r *row) bool {
			cidr, err := netip.ParsePrefix(text(r.f, "cidr"))
			return err == nil && text(r.f, "subnetpool_id") == pool.id() && p.Overlaps(cidr)
		}) != nil {
			return true
		}
	}
	return false
}

// addresses checks the addresses of a group and writes them as prefixes.
func addresses(f fields) error {
	var out []string
	for _, s := range texts(f, "addresses") {
		p, err := netip.ParsePrefix(s)
		if a, bare := netip.ParseAddr(s); bare == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return bad("HTTPBadRequest", "Invalid input for addresses. Reason: '%s' is not a valid IP subnet.", s)
		}
		out = append(out, p.Masked().String())
	}
	f["addresses"] = anys(out)
	return nil
}

func (q *request) newAddressGroup(f fields) error { return addresses(f) }

func (q *request) removeAddressGroup(r *row) error {
	if q.networks("security_group_rules").rows.first(func(o *row) bool { return text(o.f, "remote_address_group_id") == r.id() }) != nil {
		return inUse("AddressGroupInUse", "Address group %s is in use on one or more security group rules", r.id())
	}
	return nil
}

func (q *request) addressGroupExists(f fields) error {
	id := text(f, "remote_address_group_id")
	if id != "" && q.networks("address_groups").rows.get(id) == nil {
		return failedAs(http.StatusNotFound, "AddressGroupNotFound", "Address group %s could not be found.", id)
	}
	return nil
}
