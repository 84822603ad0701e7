package fakecloud

import (
	"net/http"
	"slices"
	"strings"
)

// dnsState is what Designate knows.
type dnsState struct {
	zones, sets table
	pending     map[string]int // readings until a zone or set is ACTIVE
	failing     bool           // then it is in ERROR instead
}

// FailDNS makes the name servers fail: what is changed from then on ends in
// ERROR, until it is changed again after they are well.
func (c *Cloud) FailDNS(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dns.failing = on
}

func (c *Cloud) dnsRoutes() {
	c.dns.pending = map[string]int{}
	on := func(method, pattern string, h handler) { c.on(DNS, "/dns", method, pattern, h) }
	c.onRoute(route{service: DNS, pattern: "/{$}", open: true}, "/dns", "GET", func(q *request) (reply, error) {
		return ok(fields{"versions": fields{"values": []any{fields{"id": "v2", "status": "CURRENT",
			"links": []any{fields{"rel": "self", "href": "http://" + q.addr + "/dns/v2"}}}}}})
	})
	on("GET", "/v2/zones", (*request).zoneList)
	on("POST", "/v2/zones", (*request).zoneCreate)
	on("GET", "/v2/zones/{id}", func(q *request) (reply, error) {
		r, err := q.zone()
		if err != nil {
			return reply{}, err
		}
		return ok(q.dnsBody(r))
	})
	on("PATCH", "/v2/zones/{id}", (*request).zoneUpdate)
	on("DELETE", "/v2/zones/{id}", (*request).zoneDelete)
	on("GET", "/v2/recordsets", func(q *request) (reply, error) { return q.setList(nil) })
	const base, one = "/v2/zones/{id}/recordsets", "/v2/zones/{id}/recordsets/{set}"
	on("GET", base, func(q *request) (reply, error) {
		zone, err := q.zone()
		if err != nil {
			return reply{}, err
		}
		return q.setList(zone)
	})
	on("POST", base, (*request).setCreate)
	on("GET", one, func(q *request) (reply, error) {
		_, r, err := q.recordSet()
		if err != nil {
			return reply{}, err
		}
		return ok(q.dnsBody(r))
	})
	on("PUT", one, (*request).setUpdate)
	on("DELETE", one, (*request).setDelete)
}

// tenant is the project a request acts for: an administrator may name another.
func (q *request) tenant() string {
	if id := q.r.Header.Get("X-Auth-Sudo-Project-Id"); id != "" && q.token.admin {
		return id
	}
	if id := q.r.Header.Get("X-Auth-Sudo-Tenant-Id"); id != "" && q.token.admin {
		return id
	}
	return q.token.project
}

// mine tells whether a zone or set may be seen by the request.
func (q *request) mine(r *row) bool {
	every := strings.EqualFold(q.r.Header.Get("X-Auth-All-Projects"), "true") && q.token.admin
	return every || r.project() == q.tenant()
}

func (q *request) zone() (*row, error) {
	if r := q.dns.zones.get(q.id()); r != nil && q.mine(r) {
		return r, nil
	}
	return nil, failedAs(http.StatusNotFound, "zone_not_found", "Could not find Zone")
}

func (q *request) recordSet() (zone, set *row, err error) {
	zone, err = q.zone()
	if err != nil {
		return nil, nil, err
	}
	r := q.dns.sets.get(q.r.PathValue("set"))
	if r == nil || text(r.f, "zone_id") != zone.id() {
		return nil, nil, failedAs(http.StatusNotFound, "recordset_not_found", "Could not find RecordSet")
	}
	return zone, r, nil
}

// dnsBody tells an object, which becomes ACTIVE when it was read often enough.
func (q *request) dnsBody(r *row) fields {
	if text(r.f, "status") == "PENDING" {
		if q.dns.pending[r.id()]--; q.dns.pending[r.id()] < 0 {
			delete(q.dns.pending, r.id())
			if text(r.f, "action") == "DELETE" {
				q.dns.zones.remove(r.id())
				q.dns.sets.remove(r.id())
				return r.f
			}
			r.set("status", "ACTIVE")
			if q.dns.failing {
				r.set("status", "ERROR")
			}
			r.set("action", "NONE")
		}
	}
	return r.f
}

// pend makes an object PENDING, as every change does.
func (q *request) pend(r *row, action string) {
	r.set("status", "PENDING")
	r.set("action", action)
	q.dns.pending[r.id()] = q.opts.PendingDNS
}

// dnsGo deletes an object, which stays in listings until the name servers have
// let it go.
func (q *request) dnsGo(from *table, r *row) {
	q.pend(r, "DELETE")
	if q.opts.PendingDNS == 0 {
		from.remove(r.id())
	}
}

func (q *request) dnsList(many string, rows []*row) (reply, error) {
	query := q.query()
	if key := query.Get("sort_key"); key != "" {
		sorted(rows, []string{key}, []string{query.Get("sort_dir")}, false)
	}
	page, next, err := q.cut(rows, paging{standard: 20, most: 1000, lost: http.StatusBadRequest})
	if err != nil {
		return reply{}, err
	}
	list := []any{}
	for _, r := range page {
		list = append(list, q.dnsBody(r))
	}
	links := fields{"self": q.self()}
	if next != "" {
		links["next"] = q.next(next)
	}
	return ok(fields{many: list, "links": links, "metadata": fields{"total_count": len(rows)}})
}

func (q *request) dnsMatch(r *row, keys ...string) bool {
	query := q.query()
	for _, key := range keys {
		want := query.Get(key)
		if star, found := strings.CutSuffix(want, "*"); found && strings.HasPrefix(text(r.f, key), star) {
			continue
		}
		if query.Has(key) && !sameText(r.f[key], want) {
			return false
		}
	}
	return q.mine(r)
}

func (q *request) zoneList() (reply, error) {
	return q.dnsList("zones", q.dns.zones.all(func(r *row) bool {
		return q.dnsMatch(r, "name", "type", "email", "status", "ttl", "description")
	}))
}

// invalid is Designate's answer to what does not fit its schema.
func invalid(format string, args ...any) error {
	return failedAs(http.StatusBadRequest, "invalid_object", format, args...)
}

func (q *request) zoneCreate() (reply, error) {
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	name := strings.ToLower(text(in, "name"))
	kind := text(in, "type")
	if kind == "" {
		kind = "PRIMARY"
	}
	switch {
	case !strings.HasSuffix(name, "."):
		return reply{}, invalid("Provided object does not match schema: '%s' is not a 'zonename'", name)
	case kind == "PRIMARY" && text(in, "email") == "":
		return reply{}, invalid("'email' is a required property")
	case kind == "SECONDARY" && len(texts(in, "masters")) == 0:
		return reply{}, invalid("'masters' is a required property")
	}
	if q.dns.zones.first(func(r *row) bool { return r.name() == name }) != nil {
		return reply{}, failedAs(http.StatusConflict, "duplicate_zone", "Duplicate Zone")
	}
	r := q.newZone(q.tenant(), name, kind, in)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}

func (q *request) newZone(project, name, kind string, in fields) *row {
	ttl := int64(3600)
	if n := number(in, "ttl"); n > 0 {
		ttl = n
	}
	masters := anys(texts(in, "masters"))
	r := q.dns.zones.add(fields{"id": q.uuid(), "pool_id": "794ccc2c-d751-44fe-b57f-8894c9f5c842", "project_id": project, "name": name,
		"email": in["email"], "ttl": ttl, "serial": q.now().Unix(), "status": "PENDING", "action": "CREATE", "version": int64(1), "type": kind,
		"masters": masters, "description": in["description"], "attributes": fields{}, "transferred_at": nil,
		"created_at": q.dnsStamp(), "updated_at": nil, "shared": false})
	r.set("links", fields{"self": "http://" + q.addr + "/dns/v2/zones/" + r.id()})
	q.pend(r, "CREATE")
	email := strings.Replace(text(in, "email"), "@", ".", 1)
	q.newSet(r, fields{"name": name, "type": "SOA", "managed": true, "records": []any{"ns1." + name + " " + email + ". 1 3600 600 86400 3600"}})
	q.newSet(r, fields{"name": name, "type": "NS", "managed": true, "records": []any{"ns1.cloud.test."}})
	return r
}

func (q *request) dnsStamp() string { return q.now().UTC().Format("2006-01-02T15:04:05.000000") }

// changed moves a zone's serial, as any change in it does.
func (q *request) changed(zone *row) {
	zone.set("serial", max(q.now().Unix(), number(zone.f, "serial")+1))
	zone.set("updated_at", q.dnsStamp())
	zone.set("version", number(zone.f, "version")+1)
	q.pend(zone, "UPDATE")
}

func (q *request) newSet(zone *row, in fields) *row {
	managed := flag(in, "managed")
	r := q.dns.sets.add(fields{"id": q.uuid(), "zone_id": zone.id(), "zone_name": zone.name(), "project_id": zone.project(), "name": in["name"],
		"type": in["type"], "records": in["records"], "ttl": in["ttl"], "description": in["description"], "status": "PENDING", "action": "CREATE",
		"version": int64(1), "created_at": q.dnsStamp(), "updated_at": nil, "managed": managed})
	r.set("links", fields{"self": "http://" + q.addr + "/dns/v2/zones/" + zone.id() + "/recordsets/" + r.id()})
	delete(r.f, "managed")
	q.pend(r, "CREATE")
	return r
}

func (q *request) zoneUpdate() (reply, error) {
	r, err := q.zone()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	for key := range in {
		if !slices.Contains([]string{"email", "ttl", "description", "masters"}, key) {
			return reply{}, invalid("'%s' is a read-only field", key)
		}
	}
	for key, value := range in {
		r.set(key, value)
	}
	q.changed(r)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}

func (q *request) zoneDelete() (reply, error) {
	r, err := q.zone()
	if err != nil {
		return reply{}, err
	}
	for _, set := range q.dns.sets.all(func(o *row) bool { return text(o.f, "zone_id") == r.id() }) {
		q.dns.sets.remove(set.id())
	}
	q.dnsGo(&q.dns.zones, r)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}

func (q *request) setList(zone *row) (reply, error) {
	return q.dnsList("recordsets", q.dns.sets.all(func(r *row) bool {
		return (zone == nil || text(r.f, "zone_id") == zone.id()) && q.dnsMatch(r, "name", "type", "ttl", "status", "description", "zone_id")
	}))
}

// isManaged tells whether a set belongs to the zone itself.
func isManaged(zone, set *row) bool {
	return text(set.f, "type") == "SOA" || text(set.f, "type") == "NS" && set.name() == zone.name()
}

func (q *request) setCreate() (reply, error) {
	zone, err := q.zone()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	name := strings.ToLower(text(in, "name"))
	in["name"] = name
	switch {
	case text(zone.f, "type") == "SECONDARY":
		return reply{}, failedAs(http.StatusForbidden, "forbidden", "Not allowed on SECONDARY zones.")
	case !strings.HasSuffix(name, "."+zone.name()) && name != zone.name():
		return reply{}, failedAs(http.StatusBadRequest, "invalid_recordset_location", "RecordSet is not contained within it's parent zone")
	case text(in, "type") == "SOA":
		return reply{}, failedAs(http.StatusBadRequest, "bad_request", "Creating a SOA recordset is not allowed")
	case len(texts(in, "records")) == 0:
		return reply{}, invalid("Provided object is not valid. 'records' is a required property")
	}
	for _, other := range q.dns.sets.rows {
		if text(other.f, "zone_id") != zone.id() || other.name() != name {
			continue
		}
		if other.f["type"] == in["type"] {
			return reply{}, failedAs(http.StatusConflict, "duplicate_recordset", "Duplicate RecordSet")
		}
		if other.f["type"] == "CNAME" || in["type"] == "CNAME" {
			return reply{}, failedAs(http.StatusBadRequest, "invalid_recordset_location", "CNAME recordsets may not share a name with any other records")
		}
	}
	r := q.newSet(zone, in)
	q.changed(zone)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}

func (q *request) setUpdate() (reply, error) {
	zone, r, err := q.recordSet()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	if isManaged(zone, r) {
		return reply{}, failedAs(http.StatusForbidden, "forbidden", "Updating a managed recordset is not allowed")
	}
	for key := range in {
		if !slices.Contains([]string{"records", "ttl", "description"}, key) {
			return reply{}, invalid("'%s' is an immutable field", key)
		}
	}
	for key, value := range in {
		r.set(key, value)
	}
	r.set("updated_at", q.dnsStamp())
	r.set("version", number(r.f, "version")+1)
	q.pend(r, "UPDATE")
	q.changed(zone)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}

func (q *request) setDelete() (reply, error) {
	zone, r, err := q.recordSet()
	if err != nil {
		return reply{}, err
	}
	if isManaged(zone, r) {
		return reply{}, failedAs(http.StatusForbidden, "forbidden", "Deleting a managed recordset is not allowed")
	}
	q.changed(zone)
	q.dnsGo(&q.dns.sets, r)
	return reply{status: http.StatusAccepted, body: r.f}, nil
}
