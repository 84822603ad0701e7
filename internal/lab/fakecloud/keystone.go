package fakecloud

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// identityState is what Keystone knows.
type identityState struct {
	domains, projects, roles, groups, users table
	appCredentials, credentials             table

	passwords   map[string]string          // by user id; never readable
	members     map[string]map[string]bool // group id to user ids
	implied     map[string]map[string]bool // prior role id to implied ones
	assignments []assignment
	tokens      map[string]*token

	databaseStopped bool
}

// uuid is a new id, as all services but Keystone write it.
func (c *Cloud) uuid() string {
	h := c.hexID()
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// hexID is a new id of Keystone's.
func (c *Cloud) hexID() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	return hex.EncodeToString(b[:])
}

// bootstrap makes what keystone-manage bootstrap makes, and a user admin who
// has admin, member and ResellerAdmin in the project admin.
func (c *Cloud) bootstrap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.identity
	s.passwords, s.members = map[string]string{}, map[string]map[string]bool{}
	s.implied, s.tokens = map[string]map[string]bool{}, map[string]*token{}
	c.newDomain(fields{"id": "default", "name": "Default", "description": "The default domain"})
	admin := c.newProject(fields{"name": "admin", "domain_id": "default", "description": "Bootstrap project for initializing the cloud."})
	c.newProject(fields{"name": "service", "domain_id": "default"})
	roles := map[string]*row{}
	for _, name := range []string{"admin", "member", "reader", "ResellerAdmin"} {
		roles[name] = c.newRole(fields{"name": name})
	}
	s.implied[roles["admin"].id()] = map[string]bool{roles["member"].id(): true}
	s.implied[roles["member"].id()] = map[string]bool{roles["reader"].id(): true}
	user := c.newUser(fields{"name": "admin", "domain_id": "default", "password": c.opts.Password})
	for _, name := range []string{"admin", "member", "ResellerAdmin"} {
		s.assignments = append(s.assignments, assignment{role: roles[name].id(), actor: user.id(), target: admin.id(), kind: "project"})
	}
	s.assignments = append(s.assignments, assignment{role: roles["admin"].id(), actor: user.id(), target: "all", kind: "system"})
}

// AdminProject is the id of the project admin.
func (c *Cloud) AdminProject() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity.projects.first(func(r *row) bool { return r.name() == "admin" }).id()
}

// identityKind is one of Keystone's collections.
type identityKind struct {
	one, many string
	rows      *table
	filters   []string
	make      func(fields) *row
	perDomain bool // names are unique in a domain
	check     func(q *request, r *row, in fields) error
	remove    func(q *request, r *row) error
}

func (c *Cloud) identityKinds() []identityKind {
	s := &c.identity
	return []identityKind{
		{one: "domain", many: "domains", rows: &s.domains, filters: []string{"name", "enabled"}, make: c.newDomain, remove: (*request).removeDomain},
		{one: "project", many: "projects", rows: &s.projects, filters: []string{"name", "domain_id", "enabled", "parent_id", "is_domain"},
			make: c.newProject, perDomain: true, check: (*request).checkProject, remove: (*request).removeProject},
		{one: "role", many: "roles", rows: &s.roles, filters: []string{"name"}, make: c.newRole, perDomain: true, remove: (*request).removeRole},
		{one: "group", many: "groups", rows: &s.groups, filters: []string{"name", "domain_id"}, make: c.newGroup, perDomain: true, remove: (*request).removeGroup},
		{one: "user", many: "users", rows: &s.users, filters: []string{"name", "domain_id", "enabled"}, make: c.newUser, perDomain: true, remove: (*request).removeUser},
	}
}

func (c *Cloud) identityRoutes() {
	on := func(method, pattern string, h handler) { c.on(Identity, "/identity", method, pattern, h) }
	for _, root := range []string{"/{$}", "/v3/{$}", "/v3"} {
		c.onRoute(route{service: Identity, pattern: root, open: true}, "/identity", "GET", (*request).identityVersions)
	}
	c.onRoute(route{service: Identity, pattern: "/v3/auth/tokens", open: true}, "/identity", "POST", (*request).login)
	on("GET", "/v3/auth/tokens", (*request).showToken)
	on("DELETE", "/v3/auth/tokens", (*request).revokeToken)
	on("GET", "/v3/auth/projects", (*request).ownProjects)
	on("GET", "/v3/users/{id}/projects", (*request).ownProjects)
	for _, k := range c.identityKinds() {
		on("GET", "/v3/"+k.many, func(q *request) (reply, error) { return q.identityList(k) })
		on("POST", "/v3/"+k.many, func(q *request) (reply, error) { return q.identityCreate(k) })
		on("GET", "/v3/"+k.many+"/{id}", func(q *request) (reply, error) { return q.identityShow(k) })
		on("PATCH", "/v3/"+k.many+"/{id}", func(q *request) (reply, error) { return q.identityUpdate(k) })
		on("DELETE", "/v3/"+k.many+"/{id}", func(q *request) (reply, error) { return q.identityDelete(k) })
	}
	c.projectTagRoutes(on)
	c.membershipRoutes(on)
	c.assignmentRoutes(on)
	c.credentialRoutes(on)
}

func (q *request) identityVersions() (reply, error) {
	v3 := fields{"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links": []any{fields{"rel": "self", "href": q.URL() + "/"}}}
	if strings.Contains(q.pattern, "v3") {
		return ok(fields{"version": v3})
	}
	return reply{status: http.StatusMultipleChoices, body: fields{"versions": fields{"values": []any{v3}}}}, nil
}

// needAdmin refuses who is no administrator.
func (q *request) needAdmin() error {
	if q.token.admin {
		return nil
	}
	return failedAs(http.StatusForbidden, "PolicyNotAuthorized", "You are not authorized to perform the requested action: %s %s.", q.r.Method, q.pattern)
}

// links is the object of links that every entity of Keystone carries.
func (c *Cloud) links(many, id string) fields {
	return fields{"self": c.URL() + "/" + many + "/" + id}
}

// fresh completes a new entity: what came from the client wins over the
// defaults, an id of the client's does not.
func (c *Cloud) fresh(many string, in, defaults fields) fields {
	f := maps.Clone(defaults)
	maps.Copy(f, in)
	if f["id"] == nil {
		f["id"] = c.hexID()
	}
	f["links"] = c.links(many, text(f, "id"))
	return f
}

func (c *Cloud) newDomain(in fields) *row {
	in = maps.Clone(in)
	if id := text(in, "explicit_domain_id"); id != "" {
		in["id"] = id
		delete(in, "explicit_domain_id")
	}
	return c.identity.domains.add(c.fresh("domains", in, fields{"description": "", "enabled": true, "options": fields{}, "tags": []any{}}))
}

func (c *Cloud) newProject(in fields) *row {
	f := c.fresh("projects", in, fields{"description": "", "enabled": true, "is_domain": false, "options": fields{}, "tags": []any{}})
	if f["parent_id"] == nil {
		f["parent_id"] = f["domain_id"]
	}
	return c.identity.projects.add(f)
}

func (c *Cloud) newRole(in fields) *row {
	return c.identity.roles.add(c.fresh("roles", in, fields{"description": nil, "domain_id": nil, "options": fields{}}))
}

func (c *Cloud) newGroup(in fields) *row {
	return c.identity.groups.add(c.fresh("groups", in, fields{"description": ""}))
}

func (c *Cloud) newUser(in fields) *row {
	f := c.fresh("users", in, fields{"enabled": true, "options": fields{}, "password_expires_at": nil})
	if p, ok := f["password"].(string); ok {
		c.identity.passwords[text(f, "id")] = p
	}
	delete(f, "password")
	return c.identity.users.add(f)
}

func (q *request) identityList(k identityKind) (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	query := q.query()
	rows := k.rows.all(func(r *row) bool {
		for _, key := range k.filters {
			if query.Has(key) && !sameText(r.f[key], query.Get(key)) {
				return false
			}
		}
		if k.one == "role" && text(r.f, "domain_id") != query.Get("domain_id") {
			return false // without domain_id only the roles of no domain
		}
		return tagged(r, query)
	})
	rows = q.whole(rows)
	return ok(fields{k.many: array(rows, nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
}

// whole is a listing without pages: only faults cut it.
func (q *request) whole(rows []*row) []*row {
	from, to := q.bend(0, len(rows), len(rows), len(rows))
	return rows[from:to]
}

func (q *request) identityCreate(k identityKind) (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	in, err := q.input(k.one)
	if err != nil {
		return reply{}, err
	}
	if in["name"] == nil {
		return reply{}, failed(http.StatusBadRequest, "'name' is a required property")
	}
	if err := fits(in); err != nil {
		return reply{}, err
	}
	delete(in, "id") // always the server's own
	if k.perDomain && k.one != "role" && in["domain_id"] == nil {
		in["domain_id"] = q.token.domainOf(q.Cloud)
	}
	if k.check != nil {
		if err := k.check(q, nil, in); err != nil {
			return reply{}, err
		}
	}
	if err := q.identityUnique(k, nil, in); err != nil {
		return reply{}, err
	}
	return created(fields{k.one: k.make(in).f})
}

// fits checks the fields that Keystone's schemas know; the others may be
// anything.
func fits(in fields) error {
	for key, value := range in {
		good := true
		switch key {
		case "name":
			s, isText := value.(string)
			good = isText && s != "" && len(s) <= 255
		case "enabled", "is_domain":
			_, good = value.(bool)
		case "domain_id", "parent_id", "description", "password", "explicit_domain_id":
			_, isText := value.(string)
			good = isText || value == nil
		case "tags":
			_, good = value.([]any)
		}
		if !good {
			return failed(http.StatusBadRequest, "Invalid input for field '%s': %v is not valid", key, value)
		}
	}
	return nil
}

func (q *request) identityUnique(k identityKind, self *row, in fields) error {
	domain := text(in, "domain_id")
	if self != nil && in["domain_id"] == nil {
		domain = text(self.f, "domain_id")
	}
	taken := k.rows.first(func(r *row) bool {
		return r != self && r.name() == text(in, "name") && (!k.perDomain || text(r.f, "domain_id") == domain)
	})
	if taken == nil && k.one == "domain" && self == nil && k.rows.get(text(in, "explicit_domain_id")) != nil {
		return failed(http.StatusConflict, "Conflict occurred attempting to store domain - Duplicate ID, %s.", text(in, "explicit_domain_id"))
	}
	if taken != nil {
		return failed(http.StatusConflict, "Conflict occurred attempting to store %s - Duplicate entry found with name %s at domain ID %s.", k.one, text(in, "name"), domain)
	}
	if d := text(in, "domain_id"); k.perDomain && d != "" && q.identity.domains.get(d) == nil {
		return failed(http.StatusNotFound, "Could not find domain: %s.", d)
	}
	return nil
}

func (q *request) identityRow(k identityKind) (*row, error) {
	if r := k.rows.get(q.id()); r != nil {
		return r, nil
	}
	return nil, failed(http.StatusNotFound, "Could not find %s: %s.", k.one, q.id())
}

func (q *request) identityShow(k identityKind) (reply, error) {
	own := k.one == "project" && q.id() == q.token.project || k.one == "user" && q.id() == q.token.user
	if !own {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
	}
	r, err := q.identityRow(k)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{k.one: r.f})
}

func (q *request) identityUpdate(k identityKind) (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.identityRow(k)
	if err != nil {
		return reply{}, err
	}
	in, err := q.input(k.one)
	if err != nil {
		return reply{}, err
	}
	if err := fits(in); err != nil {
		return reply{}, err
	}
	if d := in["domain_id"]; d != nil && d != r.f["domain_id"] {
		return reply{}, failed(http.StatusBadRequest, "Cannot change Domain ID")
	}
	if k.check != nil {
		if err := k.check(q, r, in); err != nil {
			return reply{}, err
		}
	}
	if in["name"] != nil {
		if err := q.identityUnique(k, r, in); err != nil {
			return reply{}, err
		}
	}
	if p, ok := in["password"].(string); ok {
		q.identity.passwords[r.id()] = p
	}
	delete(in, "password")
	delete(in, "id")
	delete(in, "links")
	for key, value := range in {
		r.set(key, value)
	}
	return ok(fields{k.one: r.f})
}

func (q *request) identityDelete(k identityKind) (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.identityRow(k)
	if err != nil {
		return reply{}, err
	}
	if err := k.remove(q, r); err != nil {
		return reply{}, err
	}
	k.rows.remove(r.id())
	return gone()
}

// tagged applies the filters tags, tags-any, not-tags and not-tags-any.
func tagged(r *row, query map[string][]string) bool {
	if query["tags"] == nil && query["tags-any"] == nil && query["not-tags"] == nil && query["not-tags-any"] == nil {
		return true
	}
	have := texts(r.f, "tags")
	count := func(key string) (hits, wanted int) {
		if query[key] == nil {
			return 0, 0
		}
		for tag := range strings.SplitSeq(query[key][0], ",") {
			wanted++
			if slices.Contains(have, tag) {
				hits++
			}
		}
		return hits, wanted
	}
	hits, wanted := count("tags")
	some, someWanted := count("tags-any")
	not, notWanted := count("not-tags")
	notAny, _ := count("not-tags-any")
	return hits == wanted && (someWanted == 0 || some > 0) && (notWanted == 0 || not < notWanted) && notAny == 0
}

func withTag(have []string, tag string) []string {
	if slices.Contains(have, tag) {
		return have
	}
	return append(slices.Clone(have), tag)
}

func withoutTag(have []string, tag string) ([]string, error) {
	i := slices.Index(have, tag)
	if i < 0 {
		return nil, failedAs(http.StatusNotFound, "TagNotFound", "Tag %s could not be found.", tag)
	}
	return slices.Delete(slices.Clone(have), i, i+1), nil
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// stamp writes a time as the services do: UTC, whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func (c *Cloud) stampNow() string { return stamp(c.now()) }

func (c *Cloud) fullStamp(t time.Time) string {
	return fmt.Sprintf("%s.000000Z", t.UTC().Format("2006-01-02T15:04:05"))
}
