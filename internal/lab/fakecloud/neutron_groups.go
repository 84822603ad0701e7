package fakecloud

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ensureDefaultGroup gives a project its security group default, as Neutron
// does when a network, port or group is made, or groups are listed.
func (q *request) ensureDefaultGroup(project string) *row {
	k := q.networks("security_groups")
	if r := k.rows.first(func(r *row) bool { return r.project() == project && r.name() == "default" }); r != nil {
		return r
	}
	r := k.rows.add(q.groupFields(project, "default", "Default security group"))
	q.openBy(r, "egress", nil)
	q.openBy(r, "ingress", r.id())
	return r
}

func (q *request) groupFields(project, name, description string) fields {
	f := fields{"id": q.uuid(), "project_id": project, "tenant_id": project, "name": name, "description": description,
		"revision_number": int64(1), "created_at": q.stampNow(), "updated_at": q.stampNow()}
	for _, a := range q.networks("security_groups").attrs {
		if _, given := f[a.name]; !given {
			f[a.name] = a.def
		}
	}
	return f
}

// openBy adds a rule for either version of IP.
func (q *request) openBy(group *row, direction string, remote any) {
	k := q.networks("security_group_rules")
	for _, version := range []string{"IPv4", "IPv6"} {
		f := fields{}
		for _, a := range k.attrs {
			f[a.name] = a.def
		}
		for key, value := range (fields{"id": q.uuid(), "project_id": group.project(), "tenant_id": group.project(), "direction": direction,
			"ethertype": version, "security_group_id": group.id(), "remote_group_id": remote, "description": "",
			"created_at": q.stampNow(), "updated_at": q.stampNow()}) {
			f[key] = value
		}
		q.listRule(k.rows.add(f))
	}
}

// listRule shows a rule within its group.
func (q *request) listRule(rule *row) {
	group := q.networks("security_groups").rows.get(text(rule.f, "security_group_id"))
	list, _ := group.f["security_group_rules"].([]any)
	group.set("security_group_rules", append(slices.Clip(list), rule.f))
}

func (q *request) newGroupOfRules(f fields) error {
	f["revision_number"] = int64(1)
	if text(f, "name") == "default" {
		return inUse("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	return nil
}

// openEgress adds the two rules that every new group has without being asked.
func (q *request) openEgress(r *row) error {
	q.openBy(r, "egress", nil)
	return nil
}

func (q *request) changeGroup(r *row, in fields) error {
	if r.name() == "default" && in["name"] != nil && in["name"] != "default" {
		return inUse("SecurityGroupCannotUpdateDefault", "Updating the default security group not allowed.")
	}
	return nil
}

func (q *request) removeGroupOfRules(r *row) error {
	if r.name() == "default" && !q.token.admin {
		return inUse("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
	}
	for _, ports := range q.network.ports {
		if slices.ContainsFunc(ports, func(p *row) bool { return slices.Contains(texts(p.f, "security_groups"), r.id()) }) {
			return inUse("SecurityGroupInUse", "Security Group %s in use.", r.id())
		}
	}
	rules := &q.networks("security_group_rules").rows
	for _, rule := range rules.all(func(o *row) bool {
		return text(o.f, "security_group_id") == r.id() || text(o.f, "remote_group_id") == r.id()
	}) {
		if text(rule.f, "security_group_id") != r.id() {
			if err := q.removeRule(rule); err != nil { // a rule elsewhere that let this group in goes with it
				return err
			}
		}
		rules.remove(rule.id())
	}
	return nil
}

// ruleKeys are the fields that make a rule the same as another.
func ruleKeys() []string {
	return []string{"security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
		"remote_ip_prefix", "remote_group_id", "remote_address_group_id", "project_id"}
}

func (q *request) newRule(f fields) error {
	group := q.networks("security_groups").rows.get(text(f, "security_group_id"))
	if group == nil {
		return failedAs(http.StatusNotFound, "SecurityGroupNotFound", "Security group %s does not exist", text(f, "security_group_id"))
	}
	if d := text(f, "direction"); d != "ingress" && d != "egress" {
		return bad("HTTPBadRequest", "Invalid input for direction. Reason: '%s' is not in ['ingress', 'egress'].", d)
	}
	switch strings.ToLower(text(f, "ethertype")) {
	case "ipv4":
		f["ethertype"] = "IPv4"
	case "ipv6":
		f["ethertype"] = "IPv6"
	default:
		return bad("SecurityGroupRuleInvalidEtherType", "Security group rule for ethertype '%v' not supported.", f["ethertype"])
	}
	if id := text(f, "remote_group_id"); id != "" && q.networks("security_groups").rows.get(id) == nil {
		return failedAs(http.StatusNotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
	}
	if err := q.addressGroupExists(f); err != nil {
		return err
	}
	remotes := 0
	for _, key := range []string{"remote_group_id", "remote_ip_prefix", "remote_address_group_id"} {
		if f[key] != nil {
			remotes++
		}
	}
	if remotes > 1 {
		return bad("SecurityGroupMultipleRemoteEntites", "Only remote_ip_prefix, remote_group_id or remote_address_group_id may be provided.")
	}
	if err := rulePorts(f); err != nil {
		return err
	}
	if s := text(f, "remote_ip_prefix"); s != "" {
		if !strings.Contains(s, "/") {
			if a, err := netip.ParseAddr(s); err == nil {
				s += "/" + strconv.Itoa(a.BitLen())
			}
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return bad("InvalidCIDR", "Invalid CIDR %s given as IP prefix.", s)
		}
		if p.Addr().Is4() != (f["ethertype"] == "IPv4") {
			return bad("SecurityGroupRuleParameterConflict", "Conflicting value ethertype %v for CIDR %s", f["ethertype"], s)
		}
		f["remote_ip_prefix"], f["normalized_cidr"] = s, p.Masked().String()
	}
	same := q.networks("security_group_rules").rows.first(func(r *row) bool {
		for _, key := range ruleKeys() {
			if r.f[key] != f[key] {
				return false
			}
		}
		return true
	})
	if same != nil {
		return inUse("SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", same.id())
	}
	return nil
}

// rulePorts writes protocol and ports as Neutron keeps them.
func rulePorts(f fields) error {
	switch p := f["protocol"].(type) {
	case int64:
		f["protocol"] = strconv.FormatInt(p, 10)
	case string:
		f["protocol"] = strings.ToLower(p)
		if p == "" || strings.EqualFold(p, "any") {
			f["protocol"] = nil
		}
	}
	if f["port_range_min"] == nil && f["port_range_max"] == nil {
		return nil
	}
	switch f["protocol"] {
	case nil:
		return bad("SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	case "tcp", "udp", "6", "17", "sctp", "dccp", "udplite":
		if number(f, "port_range_min") > number(f, "port_range_max") || f["port_range_min"] == nil || f["port_range_max"] == nil {
			return bad("SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
		}
	}
	return nil
}

func (q *request) joinRule(r *row) error {
	q.listRule(r)
	q.touch(q.networks("security_groups").rows.get(text(r.f, "security_group_id")))
	return nil
}

func (q *request) removeRule(r *row) error {
	group := q.networks("security_groups").rows.get(text(r.f, "security_group_id"))
	left := []any{}
	for _, rule := range objects(group.f, "security_group_rules") {
		if text(rule, "id") != r.id() {
			left = append(left, rule)
		}
	}
	group.set("security_group_rules", left)
	q.touch(group)
	return nil
}

func (q *request) ofOwnGroup(r *row) bool {
	group := q.networks("security_groups").rows.get(text(r.f, "security_group_id"))
	return group != nil && group.project() == q.token.project
}

// QoS rules live under their policy, in its list.

func (c *Cloud) qosRuleRoutes(on func(method, pattern string, h handler)) {
	kinds := map[string]fields{
		"bandwidth_limit":   {"max_kbps": nil, "max_burst_kbps": int64(0), "direction": "egress"},
		"dscp_marking":      {"dscp_mark": nil},
		"minimum_bandwidth": {"min_kbps": nil, "direction": "egress"},
	}
	for kind, defaults := range kinds {
		base := "/v2.0/qos/policies/{id}/" + kind + "_rules"
		on("GET", base, func(q *request) (reply, error) { return q.qosRules(kind) })
		on("POST", base, func(q *request) (reply, error) { return q.newQoSRule(kind, defaults) })
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			on(method, base+"/{rule}", func(q *request) (reply, error) { return q.qosRule(kind, method) })
		}
	}
}

func (q *request) qosRules(kind string) (reply, error) {
	policy, err := q.networkRow(q.networks("policies"))
	if err != nil {
		return reply{}, err
	}
	list := []any{}
	for _, rule := range objects(policy.f, "rules") {
		if rule["type"] == kind {
			list = append(list, rule)
		}
	}
	return ok(fields{kind + "_rules": list})
}

func (q *request) newQoSRule(kind string, defaults fields) (reply, error) {
	policy, err := q.networkRow(q.networks("policies"))
	if err != nil {
		return reply{}, err
	}
	in, err := q.input(kind + "_rule")
	if err != nil {
		return reply{}, err
	}
	f := fields{"id": q.uuid(), "qos_policy_id": policy.id(), "type": kind}
	for key, value := range defaults {
		f[key] = value
		if v, given := in[key]; given {
			f[key] = v
		}
		if f[key] == nil {
			return reply{}, bad("HTTPBadRequest", "Failed to parse request. Required attribute '%s' not specified", key)
		}
	}
	for _, rule := range objects(policy.f, "rules") {
		if rule["type"] == kind && rule["direction"] == f["direction"] {
			return reply{}, inUse("QoSRulesConflict", "Rule %s conflicts with rule %s which already exists in QoS Policy %s.", kind, text(rule, "id"), policy.id())
		}
	}
	rules, _ := policy.f["rules"].([]any)
	policy.set("rules", append(slices.Clip(rules), f))
	q.touch(policy)
	return created(fields{kind + "_rule": f})
}

func (q *request) qosRule(kind, method string) (reply, error) {
	policy, err := q.networkRow(q.networks("policies"))
	if err != nil {
		return reply{}, err
	}
	rules := objects(policy.f, "rules")
	i := slices.IndexFunc(rules, func(f fields) bool { return text(f, "id") == q.r.PathValue("rule") && f["type"] == kind })
	if i < 0 {
		return reply{}, failedAs(http.StatusNotFound, "QosRuleNotFound", "QoS rule %s for policy %s could not be found.", q.r.PathValue("rule"), policy.id())
	}
	rule := rules[i]
	left := []any{}
	for j, other := range rules {
		if j != i {
			left = append(left, other)
		}
	}
	switch method {
	case "DELETE":
		policy.set("rules", left)
		q.touch(policy)
		return gone()
	case "PUT":
		in, err := q.input(kind + "_rule")
		if err != nil {
			return reply{}, err
		}
		rule = subset(rule, []string{"id", "qos_policy_id", "type", "max_kbps", "max_burst_kbps", "direction", "dscp_mark", "min_kbps"})
		for key, value := range in {
			rule[key] = value
		}
		policy.set("rules", append(left, rule))
		q.touch(policy)
	}
	return ok(fields{kind + "_rule": rule})
}

func (q *request) removePolicy(r *row) error {
	for _, many := range []string{"networks", "ports"} {
		if q.networks(many).rows.first(func(o *row) bool { return text(o.f, "qos_policy_id") == r.id() }) != nil {
			return inUse("QosPolicyInUse", "QoS Policy %s is used by %s.", r.id(), many)
		}
	}
	return nil
}
