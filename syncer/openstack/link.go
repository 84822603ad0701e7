package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// link is a kind whose objects are nothing but that others belong together:
// they are set by PUT, which may be repeated, and taken away by DELETE. They
// bear no marker.
type link struct {
	syncer.Traits
	api
	rows func(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error
	path func(fields syncer.Fields) string
	// set is for those that more than a PUT makes.
	set func(ctx context.Context, s *Side, path string, fields syncer.Fields) error
	// show reads what may change of one, which is then asked for by GET.
	show func(answer row, fields syncer.Fields)
}

func (l *link) traits() syncer.Traits { return l.Traits }

func (l *link) service() string { return l.api.service }

func (l *link) list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
	return l.rows(ctx, s, within, each)
}

func (l *link) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	return l.there(ctx, s, o)
}

func (l *link) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	return l.there(ctx, s, linked(want.Kind, want.Fields, want.Within, want.Name))
}

// there asks whether the link stands.
func (l *link) there(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	var err error
	if l.show == nil {
		_, err = s.call(ctx, l.api, http.MethodHead, l.path(o.Fields), nil, nil)
	} else {
		var answer row
		if _, err = s.call(ctx, l.api, http.MethodGet, l.path(o.Fields), nil, &answer); err == nil {
			o.Fields = maps.Clone(o.Fields)
			l.show(answer, o.Fields)
		}
	}
	if cloud.NotFound(err) {
		return syncer.Object{}, syncer.ErrGone
	}
	return o, err
}

func (l *link) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	// A PUT of what is there succeeds, and would make it ours.
	switch _, err := l.there(ctx, s, want); {
	case err == nil:
		return syncer.Object{}, fmt.Errorf("it is so already: %w", syncer.ErrTaken)
	case !errors.Is(err, syncer.ErrGone):
		return syncer.Object{}, err
	}
	made, err := l.put(ctx, s, want)
	if err != nil && l.set != nil { // the first of its requests may have made it
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return made, err
}

func (l *link) put(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	set := l.set
	if set == nil {
		set = func(ctx context.Context, s *Side, path string, _ syncer.Fields) error {
			_, err := s.call(ctx, l.api, http.MethodPut, path, nil, nil)
			return err
		}
	}
	if err := set(ctx, s, l.path(want.Fields), want.Fields); err != nil {
		return syncer.Object{}, err
	}
	return linked(want.Kind, want.Fields, want.Within, want.Name), nil
}

func (l *link) update(ctx context.Context, s *Side, have, want syncer.Object, _ []string, _ io.Reader) (syncer.Object, error) {
	if l.path(have.Fields) == l.path(want.Fields) {
		if _, err := l.there(ctx, s, have); err != nil {
			return syncer.Object{}, err
		}
		return l.put(ctx, s, want)
	}
	made, err := l.create(ctx, s, want, nil)
	if err != nil {
		return syncer.Object{}, err
	}
	return made, l.remove(ctx, s, have)
}

func (l *link) remove(ctx context.Context, s *Side, have syncer.Object) error {
	_, err := s.call(ctx, l.api, http.MethodDelete, l.path(have.Fields), nil, nil)
	return err
}

// status is the field of a link that may change.
const status = "status"

// linked makes a link of what it ties: its id and its natural key are that.
func linked(kind syncer.Kind, fields syncer.Fields, within syncer.Key, name string) syncer.Object {
	o := syncer.Object{Key: syncer.Key{Kind: kind}, Fields: fields, Within: within, Name: name, Revision: "set"}
	var parts []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		v := fields[field]
		if field == status {
			continue // of it, and no part of what it is
		}
		o.Natural = append(o.Natural, v)
		switch v := v.(type) {
		case syncer.Ref:
			parts = append(parts, v.ID)
		case string:
			parts = append(parts, v)
		}
	}
	o.ID = strings.Join(parts, "/")
	if _, changes := fields[status]; changes {
		o.Revision = ""
	}
	return o
}

// memberships tie users to groups. A listing costs a request for each group.
func memberships() handler {
	return &link{
		Traits: syncer.Traits{Kind: Membership, Within: Group, Unique: true, Slow: true}, api: identity,
		rows: func(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
			return s.pages(ctx, identity, "groups/"+url.PathEscape(within.ID)+"/users", "users", nil, func(u row) error {
				return each(linked(Membership, syncer.Fields{
					"group": syncer.Ref{Key: within},
					"user":  syncer.Ref{Key: syncer.Key{Kind: User, ID: u.text("id")}},
				}, within, u.text("name")))
			})
		},
		path: func(f syncer.Fields) string {
			return "groups/" + escaped(f["group"]) + "/users/" + escaped(f["user"])
		},
	}
}

// escaped is the id of a Ref, for a path.
func escaped(v any) string {
	ref, _ := v.(syncer.Ref)
	return url.PathEscape(ref.ID)
}

// assignments tie a role to a user or a group, in a project, in a domain or in
// all of the system. One listing has all of them.
func assignments() handler {
	return &link{
		Traits: syncer.Traits{Kind: Assignment, Unique: true}, api: identity,
		rows: func(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
			query := url.Values{"include_names": {"true"}}
			return s.pages(ctx, identity, "role_assignments", "role_assignments", query, func(r row) error {
				if actor := r.row("user"); actor != nil && given(User)(s, row{"name": actor["name"], "domain_id": actor.row("domain").text("id")}) == syncer.Given {
					return nil // the services' own, at either site
				}
				return each(assignment(r))
			})
		},
		path: assignmentPath,
	}
}

func assignment(r row) syncer.Object {
	fields := syncer.Fields{"role": syncer.Ref{Key: syncer.Key{Kind: Role, ID: r.row("role").text("id")}}}
	name := r.row("role").text("name")
	for _, actor := range []struct {
		as   string
		kind syncer.Kind
	}{{"user", User}, {"group", Group}} {
		if a := r.row(actor.as); a != nil {
			fields["actor"] = syncer.Ref{Key: syncer.Key{Kind: actor.kind, ID: a.text("id")}}
			name += " for " + a.text("name")
		}
	}
	scope := r.row("scope")
	var project string
	switch {
	case scope.row("project") != nil:
		project = scope.row("project").text("id")
		fields["scope"] = syncer.Ref{Key: syncer.Key{Kind: Project, ID: project}}
		name += " in " + scope.row("project").text("name")
	case scope.row("domain") != nil:
		fields["scope"] = syncer.Ref{Key: syncer.Key{Kind: Domain, ID: scope.row("domain").text("id")}}
		name += " in domain " + scope.row("domain").text("name")
	default:
		fields["scope"] = "system"
		name += " in the system"
	}
	if scope.text("OS-INHERIT:inherited_to") != "" {
		fields["inherited"] = "inherited"
		name += " and below"
	}
	o := linked(Assignment, fields, syncer.Key{}, name)
	o.Project = project
	return o
}

func assignmentPath(f syncer.Fields) string {
	actor, _ := f["actor"].(syncer.Ref)
	who := string(actor.Kind) + "s/" + url.PathEscape(actor.ID) + "/roles/" + escaped(f["role"])
	scope, ok := f["scope"].(syncer.Ref)
	if !ok {
		return "system/" + who
	}
	path := string(scope.Kind) + "s/" + url.PathEscape(scope.ID) + "/" + who
	if f["inherited"] != nil {
		return "OS-INHERIT/" + path + "/inherited_to_projects"
	}
	return path
}

// refIDs are the ids in a Set of Refs.
func refIDs(v any) []string {
	var ids []string
	set, _ := v.(syncer.Set)
	for _, e := range set {
		if r, ok := e.(syncer.Ref); ok {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// without are those of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(e string) bool { return slices.Contains(b, e) })
}
