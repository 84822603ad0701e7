package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Kinds of Keystone's.
const (
	Domain     syncer.Kind = "domain"
	Role       syncer.Kind = "role"
	Project    syncer.Kind = "project"
	Group      syncer.Kind = "group"
	User       syncer.Kind = "user"
	Membership syncer.Kind = "membership"
	Assignment syncer.Kind = "assignment"
)

var identity = api{service: "identity"}

// defaultDomain has this id in every Keystone that was bootstrapped.
const defaultDomain = "default"

// everywhere are the names that clouds have by themselves.
func everywhere(kind syncer.Kind) []string {
	switch kind {
	case Domain:
		return []string{"Default", "heat", "heat_user_domain", "magnum"}
	case Role:
		return []string{"admin", "member", "reader", "manager", "service", "_member_", "ResellerAdmin", "swiftoperator",
			"heat_stack_owner", "heat_stack_user", "load-balancer_admin", "load-balancer_member", "load-balancer_observer",
			"load-balancer_global_observer", "load-balancer_quota_admin", "creator", "observer", "audit", "key-manager:service-admin"}
	case Project:
		return []string{"admin", "service", "services", "demo", "invisible_to_admin"}
	case User:
		return []string{"admin", "keystone", "glance", "nova", "neutron", "placement", "cinder", "cinderv2", "cinderv3", "swift", "designate",
			"heat", "heat_domain_admin", "octavia", "barbican", "manila", "ironic", "ironic-inspector", "magnum", "ceilometer", "gnocchi",
			"aodh", "trove", "mistral", "zaqar", "masakari", "cyborg", "watcher", "cloudkitty", "blazar", "zun", "kuryr", "tacker", "ceph_rgw"}
	}
	return nil
}

// given tells whether an object of that name, in the default domain if it is in
// one, exists at both sites by itself.
func given(kind syncer.Kind) func(*Side, row) syncer.Stance {
	return func(s *Side, r row) syncer.Stance {
		in := r.text("domain_id")
		if kind != Domain && in != "" && in != defaultDomain {
			return syncer.Carried
		}
		name := r.text("name")
		if r.text("id") == defaultDomain && kind == Domain || slices.Contains(everywhere(kind), name) || slices.Contains(s.options.Given[kind], name) {
			return syncer.Given
		}
		return syncer.Carried
	}
}

func identityKinds() []handler {
	return []handler{domains(), roles(), projects(), groups(), users(), memberships(), assignments()}
}

func domains() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Domain, Unique: true}, api: identity, drops: []drop{options}, path: "domains", one: "domain", many: "domains",
		method: http.MethodPatch, marked: asExtra, natural: []string{"name"}, stance: given(Domain),
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "enabled", none: true}},
		encode: func(want syncer.Object, body row, create bool) error {
			if create { // the same id, where that can be one: users from a directory have ids that are made of it
				if id := want.ID; len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" {
					body["explicit_domain_id"] = id
				}
			}
			return nil
		},
		clear: func(ctx context.Context, s *Side, have syncer.Object) error {
			// A domain that is enabled cannot be deleted.
			_, err := s.call(ctx, identity, http.MethodPatch, "domains/"+url.PathEscape(have.ID), map[string]any{"domain": row{"enabled": false}}, nil)
			return err
		},
	}
}

func roles() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Role, Unique: true}, api: identity, drops: []drop{options}, path: "roles", one: "role", many: "roles",
		method: http.MethodPatch, marked: asExtra, natural: []string{"name", "domain_id"}, stance: given(Role),
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "domain_id", ref: Domain, once: true}, {name: "implies", later: true}},
		prepare: func(ctx context.Context, s *Side, _ string) (func(row) error, error) {
			return s.inferences(ctx)
		},
		more: func(_ *Side, r row, o *syncer.Object) {
			implied := syncer.Set{}
			for _, id := range r.texts("implies") {
				// Weak: it may be made later, and imply this one.
				implied = append(implied, syncer.Ref{Key: syncer.Key{Kind: Role, ID: id}, Weak: true})
			}
			o.Fields["implies"] = implied
		},
		children: setImplied,
	}
}

// inferences asks which roles come with others.
func (s *Side) inferences(ctx context.Context) (func(row) error, error) {
	var answer row
	if _, err := s.call(ctx, identity, http.MethodGet, "role_inferences", nil, &answer); err != nil {
		return nil, err
	}
	implied := make(map[string][]any)
	for _, rule := range answer.rows("role_inferences") {
		prior := rule.row("prior_role").text("id")
		for _, role := range rule.rows("implies") {
			implied[prior] = append(implied[prior], role.text("id"))
		}
	}
	return func(r row) error {
		r["implies"] = implied[r.text("id")]
		return nil
	}, nil
}

// setImplied writes which roles come with one.
func setImplied(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error {
	if !slices.Contains(fields, "implies") {
		return nil
	}
	var is []string
	if have != nil {
		is = refIDs(have.Fields["implies"])
	}
	wanted := refIDs(want.Fields["implies"])
	path := "roles/" + url.PathEscape(id) + "/implies/"
	for _, role := range without(wanted, is) {
		if _, err := s.call(ctx, identity, http.MethodPut, path+url.PathEscape(role), nil, nil); err != nil && !cloud.Conflict(err) {
			return err // a conflict: it does already
		}
	}
	for _, role := range without(is, wanted) {
		if _, err := s.call(ctx, identity, http.MethodDelete, path+url.PathEscape(role), nil, nil); err != nil && !cloud.NotFound(err) {
			return err
		}
	}
	return nil
}

func projects() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Project, Unique: true}, api: identity, drops: []drop{options}, path: "projects", one: "project", many: "projects",
		method: http.MethodPatch, marked: asExtra, natural: []string{"name", "domain_id"}, stance: given(Project),
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "enabled", none: true},
			{name: "domain_id", ref: Domain, once: true}, {name: "parent_id", ref: Project, once: true, later: true},
			{name: "tags", set: true, none: []any{}}},
		skip: func(_ *Side, r row) bool { return r.yes("is_domain") },
		more: func(s *Side, r row, o *syncer.Object) {
			o.Project, o.Tags = o.ID, r.texts("tags")
			// The parent of a project at the top is its domain.
			o.Fields["parent_id"] = nil
			if parent := r.text("parent_id"); parent != "" && parent != r.text("domain_id") {
				o.Fields["parent_id"] = syncer.Ref{Key: syncer.Key{Kind: Project, ID: parent}}
			}
			s.named(o.ID, o.Name)
		},
		encode: func(want syncer.Object, body row, create bool) error {
			if parent, ok := want.Fields["parent_id"].(syncer.Ref); ok && create {
				body["parent_id"] = parent.ID
			}
			return nil
		},
	}
}

// learnNames reads the projects' names, if all of them were not listed yet, or
// waits for whoever does: a filter goes by them.
func (s *Side) learnNames(ctx context.Context) error {
	s.learning.Lock()
	defer s.learning.Unlock()
	if s.learned {
		return nil
	}
	err := s.kinds[Project].list(ctx, s, syncer.Key{}, func(syncer.Object) error { return nil })
	s.learned = err == nil
	return err
}

// forgetNames has them learnt anew: there may be more by now, and others.
func (s *Side) forgetNames() {
	s.learning.Lock()
	defer s.learning.Unlock()
	s.learned = false
}

// ProjectIDs are the ids of projects that are named by id or by name.
func (s *Side) ProjectIDs(ctx context.Context, which []string) ([]string, error) {
	if len(which) == 0 {
		return nil, nil
	}
	if err := s.learnNames(ctx); err != nil {
		return nil, fmt.Errorf("look for projects: %w", classify(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, w := range which {
		before := len(ids)
		for id, name := range s.names {
			if id == w || name == w {
				ids = append(ids, id)
			}
		}
		if len(ids) == before {
			return nil, fmt.Errorf("look for projects: %s has none that is called %q", s.options.Site, w)
		}
	}
	return ids, nil
}

// named keeps a project's name for people.
func (s *Side) named(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[id] = name
}

// inProject is a name with its project's before it.
func (s *Side) inProject(project, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.names[project]; ok {
		return p + "/" + name
	}
	return name
}

func groups() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Group, Unique: true}, api: identity, drops: []drop{options}, path: "groups", one: "group", many: "groups",
		method: http.MethodPatch, marked: asExtra, natural: []string{"name", "domain_id"}, stance: given(Group),
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "domain_id", ref: Domain, once: true}},
	}
}

// wasEnabled keeps, at a user that draas made, whether the source's was: the
// copy stays disabled until its site is active.
const wasEnabled = "draas_enabled"

func users() handler {
	return &resource{
		Traits: syncer.Traits{Kind: User, Unique: true}, api: identity, drops: []drop{options, {"federated", "federated identities"}}, path: "users", one: "user", many: "users",
		method: http.MethodPatch, marked: asExtra, natural: []string{"name", "domain_id"}, stance: given(User),
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "email", none: ""}, {name: "domain_id", ref: Domain, once: true},
			{name: "default_project_id", ref: Project}, {name: "enabled", later: true}},
		more: func(_ *Side, r row, o *syncer.Object) {
			enabled := r["enabled"] != false
			if was, there := r[wasEnabled].(bool); there && !enabled {
				enabled = was
			}
			o.Fields["enabled"] = enabled
		},
		encode: func(want syncer.Object, body row, create bool) error {
			if create {
				body["enabled"] = false
			}
			if enabled, there := want.Fields["enabled"]; there {
				body[wasEnabled] = enabled
			}
			return nil
		},
		lost: func(row) []string {
			return []string{"password", "second factor", "EC2 and application credentials", "trusts"}
		},
	}
}
