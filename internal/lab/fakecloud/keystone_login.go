package fakecloud

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// token is what a login gave.
type token struct {
	id      string
	user    string
	project string
	domain  string
	system  bool
	roles   []string // ids
	names   []string
	admin   bool
	expires time.Time
	issued  time.Time
	methods []any
	seen    map[string]time.Time // by service: when it has asked about the token
}

// domainOf is the domain a token acts in when a request names none.
func (t *token) domainOf(c *Cloud) any {
	if t.domain != "" {
		return t.domain
	}
	if p := c.identity.projects.get(t.project); p != nil {
		return p.f["domain_id"]
	}
	return "default"
}

// authenticate is authenticated for those who do not hold the lock.
func (q *request) authenticate() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.authenticated()
}

// authenticated finds the request's token and refuses one that is not, or is
// no longer, valid.
func (q *request) authenticated() error {
	if hand, byHand := q.r.Context().Value(handKey{}).(Hand); byHand {
		q.token = hand.token()
		return nil
	}
	if q.open {
		return nil
	}
	t := q.identity.tokens[q.r.Header.Get("X-Auth-Token")]
	if err := q.needDatabase(t); err != nil {
		return err
	}
	if t == nil || !q.now().Before(t.expires) {
		return failed(http.StatusUnauthorized, "The request you have made requires authentication.")
	}
	q.token = t
	return nil
}

// ExpireTokens ends every token that was given so far.
func (c *Cloud) ExpireTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.identity.tokens)
}

func (q *request) login() (reply, error) {
	if err := q.needDatabase(nil); err != nil {
		return reply{}, err
	}
	in, err := q.input("auth")
	if err != nil {
		return reply{}, err
	}
	identity, _ := in["identity"].(fields)
	user, methods, credential, err := q.whoIs(identity)
	if err != nil {
		return reply{}, err
	}
	t := &token{user: user.id(), methods: methods, issued: q.now(), expires: q.now().Add(q.opts.TokenLife)}
	t.id = q.hexID() + q.hexID()
	if credential != nil {
		t.project = credential.project()
		t.roles = texts(credential.f, "role_ids")
	} else if err := q.scope(t, in["scope"], user); err != nil {
		return reply{}, err
	}
	for _, id := range t.roles {
		if r := q.identity.roles.get(id); r != nil {
			t.names = append(t.names, r.name())
		}
	}
	t.admin = slices.Contains(t.names, "admin")
	q.identity.tokens[t.id] = t
	out := reply{status: http.StatusCreated, body: fields{"token": q.tokenBody(t)}}
	out.set("X-Subject-Token", t.id)
	return out, nil
}

var errLogin = &apiError{status: http.StatusUnauthorized, text: "The request you have made requires authentication."}

// whoIs checks the credentials of a login.
func (q *request) whoIs(identity fields) (user *row, methods []any, credential *row, err error) {
	methods, _ = identity["methods"].([]any)
	for _, method := range texts(identity, "methods") {
		in, _ := identity[method].(fields)
		switch method {
		case "password":
			who, _ := in["user"].(fields)
			user = q.findUser(who)
			if user == nil || q.identity.passwords[user.id()] != text(who, "password") || text(who, "password") == "" {
				return nil, nil, nil, errLogin
			}
		case "token":
			t := q.identity.tokens[text(in, "id")]
			if t == nil || !q.now().Before(t.expires) {
				return nil, nil, nil, errLogin
			}
			user = q.identity.users.get(t.user)
		case "application_credential":
			credential = q.findAppCredential(in)
			if credential == nil || q.identity.passwords[credential.id()] != text(in, "secret") {
				return nil, nil, nil, errLogin
			}
			user = q.identity.users.get(text(credential.f, "user_id"))
		}
	}
	if user == nil || !flag(user.f, "enabled") {
		return nil, nil, nil, errLogin
	}
	return user, methods, credential, nil
}

func (q *request) findUser(who fields) *row {
	if id := text(who, "id"); id != "" {
		return q.identity.users.get(id)
	}
	domain, _ := who["domain"].(fields)
	id := q.domainID(domain)
	return q.identity.users.first(func(r *row) bool { return r.name() == text(who, "name") && text(r.f, "domain_id") == id })
}

func (q *request) domainID(in fields) string {
	if id := text(in, "id"); id != "" {
		return id
	}
	if r := q.identity.domains.first(func(r *row) bool { return r.name() == text(in, "name") }); r != nil {
		return r.id()
	}
	return ""
}

func (q *request) findAppCredential(in fields) *row {
	if id := text(in, "id"); id != "" {
		return q.identity.appCredentials.get(id)
	}
	who, _ := in["user"].(fields)
	user := q.findUser(who)
	if user == nil {
		return nil
	}
	return q.identity.appCredentials.first(func(r *row) bool { return r.name() == text(in, "name") && text(r.f, "user_id") == user.id() })
}

// scope gives a token the project, domain or system it was asked for; the
// user must have a role there.
func (q *request) scope(t *token, asked any, user *row) error {
	if asked == "unscoped" {
		return nil
	}
	in, _ := asked.(fields)
	switch {
	case in["project"] != nil:
		p, _ := in["project"].(fields)
		project := q.findProject(p)
		if project == nil || !flag(project.f, "enabled") {
			return errLogin
		}
		t.project = project.id()
		t.roles = q.rolesOn(user.id(), "project", t.project)
	case in["domain"] != nil:
		d, _ := in["domain"].(fields)
		t.domain = q.domainID(d)
		t.roles = q.rolesOn(user.id(), "domain", t.domain)
	case in["system"] != nil:
		t.system = true
		t.roles = q.rolesOn(user.id(), "system", "all")
	default:
		if own := text(user.f, "default_project_id"); own != "" {
			if roles := q.rolesOn(user.id(), "project", own); len(roles) > 0 {
				t.project, t.roles = own, roles
			}
		}
		return nil
	}
	if len(t.roles) == 0 {
		return errLogin
	}
	return nil
}

func (q *request) findProject(in fields) *row {
	if id := text(in, "id"); id != "" {
		return q.identity.projects.get(id)
	}
	d, _ := in["domain"].(fields)
	domain := q.domainID(d)
	return q.identity.projects.first(func(r *row) bool { return r.name() == text(in, "name") && text(r.f, "domain_id") == domain })
}

func (q *request) tokenBody(t *token) fields {
	user := q.identity.users.get(t.user)
	body := fields{"methods": t.methods, "issued_at": q.fullStamp(t.issued), "expires_at": q.fullStamp(t.expires),
		"audit_ids": []any{t.id[:22]}, "is_domain": false,
		"user": fields{"id": t.user, "name": user.name(), "domain": q.named(&q.identity.domains, text(user.f, "domain_id")), "password_expires_at": nil}}
	switch {
	case t.project != "":
		p := q.identity.projects.get(t.project)
		body["project"] = fields{"id": t.project, "name": p.name(), "domain": q.named(&q.identity.domains, text(p.f, "domain_id"))}
	case t.domain != "":
		body["domain"] = q.named(&q.identity.domains, t.domain)
	case t.system:
		body["system"] = fields{"all": true}
	default:
		return body // unscoped: neither roles nor catalog
	}
	roles := make([]any, len(t.names))
	for i := range t.names {
		roles[i] = fields{"id": t.roles[i], "name": t.names[i]}
	}
	body["roles"] = roles
	body["catalog"] = q.catalog(t.project)
	return body
}

// named is an entity as others refer to it.
func (c *Cloud) named(t *table, id string) fields {
	f := fields{"id": id}
	if r := t.get(id); r != nil {
		f["name"] = r.name()
	}
	return f
}

func (c *Cloud) catalog(project string) []any {
	names := map[string]string{Identity: "keystone", Image: "glance", Network: "neutron", Compute: "nova",
		BlockStorage: "cinderv3", ObjectStore: "swift", DNS: "designate"}
	var out []any
	for _, service := range slices.Sorted(maps.Keys(names)) {
		if !c.Has(service) {
			continue
		}
		var endpoints []any
		for _, face := range []string{"admin", "internal", "public"} {
			endpoints = append(endpoints, fields{"id": names[service] + "-" + face, "interface": face,
				"region": c.opts.Region, "region_id": c.opts.Region, "url": c.endpointURL(service, project)})
		}
		out = append(out, fields{"id": names[service], "type": service, "name": names[service], "endpoints": endpoints})
	}
	return out
}

func (c *Cloud) endpointURL(service, project string) string {
	if service == Identity {
		return c.URL()
	}
	return c.Endpoint(service, project)
}

func (q *request) showToken() (reply, error) {
	t := q.identity.tokens[q.r.Header.Get("X-Subject-Token")]
	if t == nil || !q.now().Before(t.expires) {
		return reply{}, failed(http.StatusNotFound, "Failed to validate token")
	}
	out := reply{status: http.StatusOK, body: fields{"token": q.tokenBody(t)}}
	out.set("X-Subject-Token", t.id)
	return out, nil
}

func (q *request) revokeToken() (reply, error) {
	delete(q.identity.tokens, q.r.Header.Get("X-Subject-Token"))
	return gone()
}

// ownProjects lists where a user has a role: the one of the path, or oneself.
func (q *request) ownProjects() (reply, error) {
	user := q.id()
	if user == "" {
		user = q.token.user
	}
	if user != q.token.user {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
	}
	rows := q.identity.projects.all(func(r *row) bool { return len(q.rolesOn(user, "project", r.id())) > 0 })
	return ok(fields{"projects": array(rows, nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
}

func (c *Cloud) credentialRoutes(on func(method, pattern string, h handler)) {
	const base = "/v3/users/{id}/application_credentials"
	list := func(t *table, key string) handler {
		return func(q *request) (reply, error) {
			user := q.id()
			if user == "" {
				user = q.query().Get("user_id")
			}
			rows := t.all(func(r *row) bool { return user == "" || text(r.f, "user_id") == user })
			return ok(fields{key: array(rows, nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
		}
	}
	on("GET", base, list(&c.identity.appCredentials, "application_credentials"))
	on("GET", "/v3/credentials", list(&c.identity.credentials, "credentials"))
	on("GET", "/v3/users/{id}/credentials/OS-EC2", list(&c.identity.credentials, "credentials"))
	on("POST", base, func(q *request) (reply, error) {
		in, err := q.input("application_credential")
		if err != nil {
			return reply{}, err
		}
		if q.id() != q.token.user || q.token.project == "" {
			return reply{}, failed(http.StatusForbidden, "You are not authorized to perform the requested action: identity:create_application_credential.")
		}
		secret := text(in, "secret")
		if secret == "" {
			secret = q.hexID() + q.hexID()
		}
		body := maps.Clone(q.newAppCredential(q.token.user, q.token.project, text(in, "name"), secret, q.token.roles).f)
		body["secret"] = secret
		return created(fields{"application_credential": body})
	})
	on("DELETE", base+"/{credential}", func(q *request) (reply, error) {
		q.identity.appCredentials.remove(q.r.PathValue("credential"))
		return gone()
	})
}

func (c *Cloud) newAppCredential(user, project, name, secret string, roles []string) *row {
	id := c.hexID()
	c.identity.passwords[id] = secret
	var list []any
	for _, role := range roles {
		list = append(list, c.named(&c.identity.roles, role))
	}
	return c.identity.appCredentials.add(fields{"id": id, "name": name, "user_id": user, "project_id": project,
		"description": nil, "expires_at": nil, "unrestricted": false, "system": nil, "roles": list, "role_ids": anys(roles)})
}
