package fakecloud

import "net/http"

func (q *request) checkProject(r *row, in fields) error {
	parent := text(in, "parent_id")
	if r != nil {
		if parent != "" && parent != text(r.f, "parent_id") {
			return failed(http.StatusForbidden, "Update of `parent_id` is not allowed.")
		}
		return nil
	}
	if parent == "" {
		return nil
	}
	if p := q.identity.projects.get(parent); p != nil {
		in["domain_id"] = p.f["domain_id"]
		return nil
	}
	if q.identity.domains.get(parent) == nil {
		return failed(http.StatusNotFound, "Could not find project: %s.", parent)
	}
	in["domain_id"] = parent
	return nil
}

func (q *request) removeDomain(r *row) error {
	if flag(r.f, "enabled") {
		return failed(http.StatusForbidden, "Cannot delete a domain that is enabled, please disable it first.")
	}
	s := &q.identity
	of := func(o *row) bool { return text(o.f, "domain_id") == r.id() }
	for _, t := range []*table{&s.projects, &s.users, &s.groups, &s.roles} {
		for _, o := range t.all(of) {
			t.remove(o.id())
			q.dropAssignments(o.id())
		}
	}
	q.dropAssignments(r.id())
	return nil
}

func (q *request) removeProject(r *row) error {
	if q.identity.projects.first(func(o *row) bool { return text(o.f, "parent_id") == r.id() }) != nil {
		return failed(http.StatusForbidden, "Cannot delete the project %s since it is not a leaf in the hierarchy.", r.id())
	}
	q.dropAssignments(r.id())
	return nil
}

func (q *request) removeRole(r *row) error {
	q.dropAssignments(r.id())
	delete(q.identity.implied, r.id())
	for _, set := range q.identity.implied {
		delete(set, r.id())
	}
	return nil
}

func (q *request) removeGroup(r *row) error {
	q.dropAssignments(r.id())
	delete(q.identity.members, r.id())
	return nil
}

func (q *request) removeUser(r *row) error {
	q.dropAssignments(r.id())
	delete(q.identity.passwords, r.id())
	for _, set := range q.identity.members {
		delete(set, r.id())
	}
	return nil
}

func (c *Cloud) projectTagRoutes(on func(method, pattern string, h handler)) {
	change := func(method, pattern string, status int, to func(q *request, tags []string) ([]string, error)) {
		on(method, pattern, func(q *request) (reply, error) {
			if err := q.needAdmin(); err != nil {
				return reply{}, err
			}
			r := q.identity.projects.get(q.id())
			if r == nil {
				return reply{}, failed(http.StatusNotFound, "Could not find project: %s.", q.id())
			}
			tags, err := to(q, texts(r.f, "tags"))
			if err != nil {
				return reply{}, err
			}
			if method != "GET" {
				r.set("tags", anys(tags))
			}
			if status == http.StatusOK {
				return ok(fields{"tags": anys(tags), "links": fields{"self": q.self(), "previous": nil, "next": nil}})
			}
			return reply{status: status}, nil
		})
	}
	tags, one := "/v3/projects/{id}/tags", "/v3/projects/{id}/tags/{tag}"
	change("GET", tags, http.StatusOK, func(_ *request, have []string) ([]string, error) { return have, nil })
	change("DELETE", tags, http.StatusNoContent, func(*request, []string) ([]string, error) { return nil, nil })
	change("PUT", tags, http.StatusOK, func(q *request, _ []string) ([]string, error) {
		in, err := q.input("")
		return texts(in, "tags"), err
	})
	change("PUT", one, http.StatusCreated, func(q *request, have []string) ([]string, error) {
		return withTag(have, q.r.PathValue("tag")), nil
	})
	change("DELETE", one, http.StatusNoContent, func(q *request, have []string) ([]string, error) {
		return withoutTag(have, q.r.PathValue("tag"))
	})
	change("GET", one, http.StatusNoContent, func(q *request, have []string) ([]string, error) {
		_, err := withoutTag(have, q.r.PathValue("tag"))
		return have, err
	})
}
