package fakecloud

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// networkState is what Neutron knows.
type networkState struct {
	kinds  map[string]*networkKind        // by plural
	quotas map[string]fields              // what differs from the default, by project
	used   map[string]map[netip.Addr]bool // addresses that ports hold, by network
	next   map[string]netip.Addr          // where to look for the next free one, by subnet
	macs   map[string]bool                // by network and address
	ports  map[string][]*row              // by network
	subnet map[string][]*row              // by network
	vlan   int64
}

// networkKind is one of Neutron's collections. Its attributes say what may
// be set when, as in Neutron's own attribute maps.
type networkKind struct {
	one, many string
	path      string
	attrs     []attr
	byName    map[string]*attr
	standard  bool // has description, tags, time stamps and a revision
	quota     string
	rows      table

	// create completes and checks a new object; update checks and makes the
	// changes that are more than setting fields. after runs once it stands.
	create func(q *request, f fields) error
	after  func(q *request, r *row) error
	update func(q *request, r *row, in fields) error
	remove func(q *request, r *row) error
	sees   func(q *request, r *row) bool
}

func (c *Cloud) networkRoutes() {
	s := &c.network
	s.kinds, s.quotas, s.used = map[string]*networkKind{}, map[string]fields{}, map[string]map[netip.Addr]bool{}
	s.next, s.macs = map[string]netip.Addr{}, map[string]bool{}
	s.ports, s.subnet = map[string][]*row{}, map[string][]*row{}
	on := func(method, pattern string, h handler) { c.on(Network, "/network", method, pattern, h) }
	c.onRoute(route{service: Network, pattern: "/{$}", open: true}, "/network", "GET", func(q *request) (reply, error) {
		return ok(fields{"versions": []any{fields{"id": "v2.0", "status": "CURRENT",
			"links": []any{fields{"rel": "self", "href": "http://" + q.addr + "/network/v2.0/"}}}}})
	})
	on("GET", "/v2.0/extensions", (*request).extensions)
	for _, k := range networkKinds() {
		c.addKind(k)
		base := "/v2.0" + k.path
		on("GET", base, func(q *request) (reply, error) { return q.networkList(k) })
		on("POST", base, func(q *request) (reply, error) { return q.networkPost(k) })
		on("GET", base+"/{id}", func(q *request) (reply, error) { return q.networkShow(k) })
		if k.many != "security_group_rules" {
			on("PUT", base+"/{id}", func(q *request) (reply, error) { return q.networkPut(k) })
		}
		on("DELETE", base+"/{id}", func(q *request) (reply, error) { return q.networkDelete(k) })
		if k.standard {
			tagged := base
			if k.many == "policies" { // below the name of the collection, not of its path
				tagged = "/v2.0/policies"
			}
			c.networkTagRoutes(on, k, tagged+"/{id}/tags")
		}
	}
	c.routerRoutes(on)
	c.qosRuleRoutes(on)
	c.networkQuotaRoutes(on)
	c.setRoutes(on)
}

func (c *Cloud) addKind(k *networkKind) {
	k.attrs = append([]attr{ro("id", nil), co("project_id", nil), co("tenant_id", nil)}, k.attrs...)
	if k.standard {
		k.attrs = append(k.attrs, rw("description", ""), ro("tags", []any{}),
			ro("created_at", nil), ro("updated_at", nil), ro("revision_number", int64(0)))
	}
	k.byName = make(map[string]*attr, len(k.attrs))
	for i := range k.attrs {
		k.byName[k.attrs[i].name] = &k.attrs[i]
	}
	c.network.kinds[k.many] = k
}

func (c *Cloud) networks(many string) *networkKind { return c.network.kinds[many] }

func (q *request) extensions() (reply, error) {
	var list []any
	for _, alias := range []string{"address-scope", "default-subnetpools", "ext-gw-mode", "external-net", "extraroute", "extraroute-atomic",
		"filter-validation", "net-mtu", "pagination", "port-security", "project-id", "provider", "qos", "quotas", "rbac-policies",
		"revision-if-match", "router", "security-group", "sorting", "standard-attr-description", "standard-attr-revisions",
		"standard-attr-tag", "standard-attr-timestamp", "stateful-security-group", "subnet_allocation"} {
		list = append(list, fields{"alias": alias, "name": alias, "description": "", "updated": "2016-01-01T00:00:00-00:00", "links": []any{}})
	}
	return ok(fields{"extensions": list})
}

// sees tells whether the token may see an object: an administrator all, others
// their project's and what is shared with them.
func (q *request) sees(k *networkKind, r *row) bool {
	if q.token.admin || r.project() == q.token.project || flag(r.f, "shared") || flag(r.f, "router:external") {
		return true
	}
	return k.sees != nil && k.sees(q, r)
}

func (q *request) networkRow(k *networkKind) (*row, error) {
	if r := k.rows.get(q.id()); r != nil && q.sees(k, r) {
		return r, nil
	}
	return nil, notFound(k, q.id())
}

func notFound(k *networkKind, id string) error {
	word := ""
	for part := range strings.SplitSeq(k.one, "_") {
		word += strings.ToUpper(part[:1]) + part[1:]
	}
	return failedAs(http.StatusNotFound, word+"NotFound", "%s %s could not be found.", word, id)
}

// shown gives the fields an answer tells: those asked for, less those which
// only administrators see. nil is all.
func (q *request) shown(k *networkKind) []string {
	only := q.query()["fields"]
	if only == nil && q.token.admin {
		return nil
	}
	var out []string
	for _, a := range k.attrs {
		if !a.hidden && (only == nil || slices.Contains(only, a.name)) && (!a.admin || q.token.admin) {
			out = append(out, a.name)
		}
	}
	return out
}

func (q *request) networkList(k *networkKind) (reply, error) {
	query := q.query()
	match, err := k.filter(query)
	if err != nil {
		return reply{}, err
	}
	if k.many == "security_groups" {
		project := query.Get("project_id")
		if project == "" {
			project = query.Get("tenant_id")
		}
		if project == "" {
			project = q.token.project
		}
		q.ensureDefaultGroup(project)
	}
	rows := k.rows.all(func(r *row) bool { return q.sees(k, r) && match(r) })
	if keys := query["sort_key"]; keys != nil {
		for _, key := range keys {
			if a := k.byName[key]; a == nil || slices.Contains([]string{"created_at", "updated_at", "tags"}, key) {
				return reply{}, failedAs(http.StatusBadRequest, "HTTPBadRequest", "['%s'] is invalid attribute for sort_keys", key)
			}
		}
		sorted(rows, keys, query["sort_dir"], false)
	}
	page, next, err := q.cut(rows, paging{lost: http.StatusNotFound})
	if err != nil {
		return reply{}, err
	}
	body := fields{k.many: array(page, q.shown(k))}
	// A full page has a next link even when nothing follows.
	if limit, _ := strconv.Atoi(query.Get("limit")); limit > 0 && len(page) == limit && !q.cutShort() {
		next = page[len(page)-1].id()
	}
	if next != "" {
		body[k.many+"_links"] = []any{fields{"rel": "next", "href": q.next(next)}}
	}
	return ok(body)
}

// filter compiles a query into a test of rows. An attribute that Neutron
// cannot filter by is refused.
func (k *networkKind) filter(query url.Values) (func(*row) bool, error) {
	var tests []func(*row) bool
	for key, values := range query {
		switch key {
		case "fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir":
			continue
		case "tags", "tags-any", "not-tags", "not-tags-any":
			tests = append(tests, func(r *row) bool { return tagged(r, url.Values{key: values}) })
			continue
		case "fixed_ips":
			tests = append(tests, func(r *row) bool { return hasFixed(r, values) })
			continue
		}
		a := k.byName[key]
		if a == nil || key == "created_at" || key == "updated_at" {
			return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "[{'%s'}] is invalid attribute for filtering", key)
		}
		tests = append(tests, func(r *row) bool {
			return slices.ContainsFunc(values, func(want string) bool {
				if list := texts(r.f, key); list != nil {
					return slices.Contains(list, want)
				}
				return sameText(r.f[key], want)
			})
		})
	}
	return func(r *row) bool {
		for _, test := range tests {
			if !test(r) {
				return false
			}
		}
		return true
	}, nil
}

func hasFixed(r *row, wants []string) bool {
	for _, want := range wants {
		key, value, _ := strings.Cut(want, "=")
		found := slices.ContainsFunc(objects(r.f, "fixed_ips"), func(ip fields) bool { return text(ip, key) == value })
		if !found {
			return false
		}
	}
	return true
}

// objects is a field that is a list of objects.
func objects(f fields, key string) []fields {
	list, _ := f[key].([]any)
	out := make([]fields, 0, len(list))
	for _, v := range list {
		if o, ok := v.(fields); ok {
			out = append(out, o)
		}
	}
	return out
}

func (q *request) networkShow(k *networkKind) (reply, error) {
	r, err := q.networkRow(k)
	if err != nil {
		return reply{}, err
	}
	if only := q.shown(k); only != nil {
		return ok(fields{k.one: subset(r.f, only)})
	}
	return ok(fields{k.one: r.f})
}

// networkPost creates one object, or a list of them of which all or none
// come to be.
func (q *request) networkPost(k *networkKind) (reply, error) {
	all, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	bulk := objects(all, k.many)
	if bulk == nil || all[k.many] == nil {
		in, err := q.input(k.one)
		if err != nil {
			return reply{}, err
		}
		r, err := q.networkCreate(k, in)
		if err != nil {
			return reply{}, err
		}
		return created(fields{k.one: subset(r.f, q.visible(k))})
	}
	var made []*row
	for _, in := range bulk {
		r, err := q.networkCreate(k, in)
		if err != nil {
			for _, r := range made {
				q.networkErase(k, r)
			}
			return reply{}, err
		}
		made = append(made, r)
	}
	return created(fields{k.many: array(made, q.visible(k))})
}

func (q *request) visible(k *networkKind) []string {
	var out []string
	for _, a := range k.attrs {
		if !a.hidden && (!a.admin || q.token.admin) {
			out = append(out, a.name)
		}
	}
	return out
}

func (q *request) networkCreate(k *networkKind, in fields) (*row, error) {
	f, err := q.networkFields(k, in)
	if err != nil {
		return nil, err
	}
	project := text(f, "project_id")
	if err := q.withinQuota(k, project); err != nil {
		return nil, err
	}
	if k.many == "networks" || k.many == "ports" || k.many == "security_groups" {
		q.ensureDefaultGroup(project)
	}
	if k.create != nil {
		if err := k.create(q, f); err != nil {
			return nil, err
		}
	}
	for _, a := range k.attrs {
		if a.hidden {
			delete(f, a.name)
		}
	}
	r := k.rows.add(f)
	if k.after != nil {
		if err := k.after(q, r); err != nil {
			k.rows.remove(r.id())
			return nil, err
		}
	}
	return r, nil
}

// networkFields checks the input of a POST and completes it with defaults.
func (q *request) networkFields(k *networkKind, in fields) (fields, error) {
	for key := range in {
		a := k.byName[key]
		if a == nil {
			return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", key)
		}
		if !a.post {
			return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Attribute '%s' not allowed in POST", key)
		}
	}
	f := make(fields, len(k.attrs))
	for _, a := range k.attrs {
		v, given := in[a.name]
		if a.need && (!given || v == nil) {
			return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Failed to parse request. Required attribute '%s' not specified", a.name)
		}
		if !given {
			f[a.name] = a.def
			continue
		}
		var err error
		if f[a.name], err = a.convert(v); err != nil {
			return nil, err
		}
	}
	project := text(in, "project_id")
	if project == "" {
		project = text(in, "tenant_id")
	}
	if project == "" {
		project = q.token.project
	}
	if project != q.token.project && !q.token.admin {
		return nil, bad("HTTPBadRequest", "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin or advsvc privileges")
	}
	f["id"], f["project_id"], f["tenant_id"] = q.uuid(), project, project
	if k.standard {
		f["created_at"], f["updated_at"] = q.stampNow(), q.stampNow()
	}
	return f, nil
}

// touch moves an object's revision and time stamp.
func (c *Cloud) touch(r *row) {
	if r == nil || r.f["revision_number"] == nil {
		return
	}
	r.set("revision_number", number(r.f, "revision_number")+1)
	r.set("updated_at", c.stampNow())
}

func (q *request) networkPut(k *networkKind) (reply, error) {
	r, err := q.networkRow(k)
	if err != nil {
		return reply{}, err
	}
	if err := q.ifMatch(r); err != nil {
		return reply{}, err
	}
	in, err := q.input(k.one)
	if err != nil {
		return reply{}, err
	}
	for key, value := range in {
		a := k.byName[key]
		if a == nil {
			return reply{}, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", key)
		}
		if !a.put {
			return reply{}, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Cannot update read-only attribute %s", key)
		}
		if in[key], err = a.convert(value); err != nil {
			return reply{}, err
		}
	}
	if !q.token.admin && r.project() != q.token.project {
		return reply{}, failedAs(http.StatusForbidden, "PolicyNotAuthorized", "rule:update_%s is disallowed by policy", k.one)
	}
	if k.update != nil {
		if err := k.update(q, r, in); err != nil {
			return reply{}, err
		}
	}
	for key, value := range in {
		r.set(key, value)
	}
	q.touch(r)
	if k.many == "subnets" {
		q.touch(q.networks("networks").rows.get(text(r.f, "network_id")))
	}
	return ok(fields{k.one: subset(r.f, q.visible(k))})
}

// ifMatch holds a change back when the object is no longer what the client
// saw.
func (q *request) ifMatch(r *row) error {
	want, given := strings.CutPrefix(q.r.Header.Get("If-Match"), "revision_number=")
	if given && want != fmt.Sprint(r.f["revision_number"]) {
		return failedAs(http.StatusPreconditionFailed, "RevisionNumberConstraintFailed",
			"Constrained to %s, but current revision is %v", want, r.f["revision_number"])
	}
	return nil
}

func (q *request) networkDelete(k *networkKind) (reply, error) {
	r, err := q.networkRow(k)
	if err != nil {
		return reply{}, err
	}
	if err := q.ifMatch(r); err != nil {
		return reply{}, err
	}
	if !q.token.admin && r.project() != q.token.project {
		return reply{}, failedAs(http.StatusForbidden, "PolicyNotAuthorized", "rule:delete_%s is disallowed by policy", k.one)
	}
	if k.remove != nil {
		if err := k.remove(q, r); err != nil {
			return reply{}, err
		}
	}
	k.rows.remove(r.id())
	return gone()
}

// networkErase removes an object that was made a moment ago.
func (q *request) networkErase(k *networkKind, r *row) {
	if k.remove == nil || k.remove(q, r) == nil {
		k.rows.remove(r.id())
	}
}
