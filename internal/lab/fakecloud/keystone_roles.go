package fakecloud

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// assignment gives a role to a user or group on a target.
type assignment struct {
	role      string
	actor     string
	group     bool
	kind      string // "project", "domain" or "system"
	target    string // "all" for the system
	inherited bool
}

func (c *Cloud) dropAssignments(id string) {
	c.identity.assignments = slices.DeleteFunc(c.identity.assignments, func(a assignment) bool {
		return a.role == id || a.actor == id || a.target == id
	})
}

// rolesOn lists the roles a user has on a target: own and by groups, direct
// and inherited, with those which they imply.
func (c *Cloud) rolesOn(user, kind, target string) []string {
	s := &c.identity
	above := map[string]bool{}
	if kind == "project" {
		for p := s.projects.get(target); p != nil; p = s.projects.get(text(p.f, "parent_id")) {
			above[text(p.f, "parent_id")] = true
			above[text(p.f, "domain_id")] = true
		}
	}
	set := map[string]bool{}
	for _, a := range s.assignments {
		mine := a.actor == user
		if a.group {
			mine = s.members[a.actor][user]
		}
		here := !a.inherited && a.kind == kind && a.target == target || a.inherited && above[a.target]
		if mine && here {
			c.imply(a.role, set)
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (c *Cloud) imply(role string, set map[string]bool) {
	if set[role] {
		return
	}
	set[role] = true
	for next := range c.identity.implied[role] {
		c.imply(next, set)
	}
}

func (c *Cloud) membershipRoutes(on func(method, pattern string, h handler)) {
	const one = "/v3/groups/{id}/users/{user}"
	member := func(q *request) (set map[string]bool, user string, err error) {
		user = q.r.PathValue("user")
		if q.identity.groups.get(q.id()) == nil {
			return nil, "", failed(http.StatusNotFound, "Could not find group: %s.", q.id())
		}
		if q.identity.users.get(user) == nil {
			return nil, "", failed(http.StatusNotFound, "Could not find user: %s.", user)
		}
		if q.identity.members[q.id()] == nil {
			q.identity.members[q.id()] = map[string]bool{}
		}
		return q.identity.members[q.id()], user, q.needAdmin()
	}
	on("PUT", one, func(q *request) (reply, error) {
		set, user, err := member(q)
		if err != nil {
			return reply{}, err
		}
		set[user] = true
		return gone()
	})
	leave := func(q *request) (reply, error) {
		set, user, err := member(q)
		if err != nil {
			return reply{}, err
		}
		if !set[user] {
			return reply{}, failed(http.StatusNotFound, "User '%s' not found in group '%s'.", user, q.id())
		}
		if q.r.Method == http.MethodDelete {
			delete(set, user)
		}
		return gone()
	}
	on("DELETE", one, leave)
	on("HEAD", one, leave)
	on("GET", "/v3/groups/{id}/users", func(q *request) (reply, error) {
		if q.identity.groups.get(q.id()) == nil {
			return reply{}, failed(http.StatusNotFound, "Could not find group: %s.", q.id())
		}
		rows := q.identity.users.all(func(r *row) bool { return q.identity.members[q.id()][r.id()] })
		return ok(fields{"users": array(q.whole(rows), nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
	})
	on("GET", "/v3/users/{id}/groups", func(q *request) (reply, error) {
		rows := q.identity.groups.all(func(r *row) bool { return q.identity.members[r.id()][q.id()] })
		return ok(fields{"groups": array(q.whole(rows), nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
	})
}

func (c *Cloud) assignmentRoutes(on func(method, pattern string, h handler)) {
	for _, actor := range []string{"user", "group"} {
		for _, kind := range []string{"project", "domain"} {
			base := "/" + kind + "s/{target}/" + actor + "s/{actor}/roles"
			for _, inherited := range []bool{false, true} {
				one, all := "/v3"+base+"/{role}", "/v3"+base
				if inherited {
					one, all = "/v3/OS-INHERIT"+base+"/{role}/inherited_to_projects", "/v3/OS-INHERIT"+base+"/inherited_to_projects"
				}
				c.assignmentRoute(on, one, all, assignment{group: actor == "group", kind: kind, inherited: inherited})
			}
		}
		base := "/v3/system/" + actor + "s/{actor}/roles"
		c.assignmentRoute(on, base+"/{role}", base, assignment{group: actor == "group", kind: "system", target: "all"})
	}
	on("GET", "/v3/role_assignments", (*request).listAssignments)
	const rule = "/v3/roles/{id}/implies/{implied}"
	on("GET", "/v3/role_inferences", (*request).listInferences)
	on("PUT", rule, func(q *request) (reply, error) { return q.inference(http.StatusCreated) })
	on("GET", rule, func(q *request) (reply, error) { return q.inference(http.StatusOK) })
	on("DELETE", rule, func(q *request) (reply, error) { return q.inference(http.StatusNoContent) })
}

func (c *Cloud) assignmentRoute(on func(method, pattern string, h handler), one, all string, like assignment) {
	on("GET", all, func(q *request) (reply, error) {
		var rows []*row
		for _, a := range q.identity.assignments {
			want := q.assignmentOf(like)
			want.role = a.role
			if r := q.identity.roles.get(a.role); a == want && r != nil {
				rows = append(rows, r)
			}
		}
		return ok(fields{"roles": array(rows, nil), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
	})
	at := func(method string, do func(q *request, a assignment, has bool) error) {
		on(method, one, func(q *request) (reply, error) {
			if err := q.needAdmin(); err != nil {
				return reply{}, err
			}
			a := q.assignmentOf(like)
			if err := q.checkAssignment(a); err != nil {
				return reply{}, err
			}
			if err := do(q, a, slices.Contains(q.identity.assignments, a)); err != nil {
				return reply{}, err
			}
			return gone()
		})
	}
	missing := func(a assignment) error {
		return failed(http.StatusNotFound, "Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s.", a.role, a.actor, a.target)
	}
	at("PUT", func(q *request, a assignment, has bool) error {
		if !has {
			q.identity.assignments = append(q.identity.assignments, a)
		}
		return nil
	})
	at("HEAD", func(_ *request, a assignment, has bool) error {
		if !has {
			return missing(a)
		}
		return nil
	})
	at("DELETE", func(q *request, a assignment, has bool) error {
		if !has {
			return missing(a)
		}
		q.identity.assignments = slices.DeleteFunc(q.identity.assignments, func(b assignment) bool { return a == b })
		return nil
	})
}

func (q *request) assignmentOf(like assignment) assignment {
	like.role, like.actor = q.r.PathValue("role"), q.r.PathValue("actor")
	if like.target == "" {
		like.target = q.r.PathValue("target")
	}
	return like
}

func (q *request) checkAssignment(a assignment) error {
	s := &q.identity
	actors, targets := &s.users, &s.projects
	if a.group {
		actors = &s.groups
	}
	if a.kind == "domain" {
		targets = &s.domains
	}
	switch {
	case s.roles.get(a.role) == nil:
		return failed(http.StatusNotFound, "Could not find role: %s.", a.role)
	case actors.get(a.actor) == nil:
		return failed(http.StatusNotFound, "Could not find user or group: %s.", a.actor)
	case a.kind != "system" && targets.get(a.target) == nil:
		return failed(http.StatusNotFound, "Could not find %s: %s.", a.kind, a.target)
	}
	return nil
}

func (q *request) listAssignments() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	query := q.query()
	names := query.Has("include_names") && !strings.EqualFold(query.Get("include_names"), "false") && query.Get("include_names") != "0"
	fits := func(key, value string) bool { return !query.Has(key) || query.Get(key) == value }
	list := []any{}
	for _, a := range q.identity.assignments {
		user, group, project, domain := a.actor, "", "", ""
		if a.group {
			user, group = "", a.actor
		}
		switch a.kind {
		case "project":
			project = a.target
		case "domain":
			domain = a.target
		}
		system := query.Has("scope.system") && a.kind != "system"
		inherit := query.Has("scope.OS-INHERIT:inherited_to") && !a.inherited
		if fits("role.id", a.role) && fits("user.id", user) && fits("group.id", group) && fits("scope.project.id", project) &&
			fits("scope.domain.id", domain) && !system && !inherit {
			list = append(list, q.assignmentBody(a, names))
		}
	}
	from, to := q.bend(0, len(list), len(list), len(list))
	list = list[from:to]
	return ok(fields{"role_assignments": list, "links": fields{"self": q.self(), "previous": nil, "next": nil}})
}

func (q *request) assignmentBody(a assignment, names bool) fields {
	s := &q.identity
	ref := func(t *table, id string, inDomain bool) fields {
		f := fields{"id": id}
		r := t.get(id)
		if !names || r == nil {
			return f
		}
		f["name"] = r.name()
		if d := text(r.f, "domain_id"); inDomain && d != "" {
			f["domain"] = q.named(&s.domains, d)
		}
		return f
	}
	scope := fields{}
	switch a.kind {
	case "project":
		scope["project"] = ref(&s.projects, a.target, true)
	case "domain":
		scope["domain"] = ref(&s.domains, a.target, false)
	case "system":
		scope["system"] = fields{"all": true}
	}
	actor, actors := "user", &s.users
	if a.group {
		actor, actors = "group", &s.groups
	}
	path := "/" + a.kind + "s/" + a.target
	if a.kind == "system" {
		path = "/system"
	}
	link := q.URL() + path + "/" + actor + "s/" + a.actor + "/roles/" + a.role
	if a.inherited {
		scope["OS-INHERIT:inherited_to"] = "projects"
		link = q.URL() + "/OS-INHERIT" + path + "/" + actor + "s/" + a.actor + "/roles/" + a.role + "/inherited_to_projects"
	}
	return fields{"role": ref(&s.roles, a.role, true), actor: ref(actors, a.actor, true), "scope": scope, "links": fields{"assignment": link}}
}

func (q *request) roleRef(id string) fields {
	f := q.named(&q.identity.roles, id)
	f["links"] = q.links("roles", id)
	return f
}

func (q *request) listInferences() (reply, error) {
	list := []any{}
	for _, prior := range q.identity.roles.rows {
		set := q.identity.implied[prior.id()]
		if len(set) == 0 {
			continue
		}
		var implies []any
		for _, id := range slices.Sorted(maps.Keys(set)) {
			implies = append(implies, q.roleRef(id))
		}
		list = append(list, fields{"prior_role": q.roleRef(prior.id()), "implies": implies})
	}
	return ok(fields{"role_inferences": list, "links": fields{"self": q.self(), "previous": nil, "next": nil}})
}

func (q *request) inference(status int) (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	prior, implied := q.id(), q.r.PathValue("implied")
	for _, id := range []string{prior, implied} {
		if q.identity.roles.get(id) == nil {
			return reply{}, failed(http.StatusNotFound, "Could not find role: %s.", id)
		}
	}
	set := q.identity.implied[prior]
	if status == http.StatusCreated {
		if set == nil {
			set = map[string]bool{}
			q.identity.implied[prior] = set
		}
		set[implied] = true
	} else if !set[implied] {
		return reply{}, failed(http.StatusNotFound, "%s does not imply %s", prior, implied)
	}
	if status == http.StatusNoContent {
		delete(set, implied)
		return gone()
	}
	return reply{status: status, body: fields{"role_inference": fields{"prior_role": q.roleRef(prior), "implies": q.roleRef(implied)},
		"links": fields{"self": q.self()}}}, nil
}
