package openstack

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/draasd/draas/syncer"
)

// quota is one service's limits of one project. They exist with the project.
type quota struct {
	kind syncer.Kind
	api
	path string // of a project's
	one  string
	// force sets limits below what is in use, which the service else refuses.
	force bool
	// byType: there are limits for each volume type, by its name.
	byType bool
}

func quotaKinds() []handler {
	return []handler{
		quota{kind: "compute-quota", api: nova, path: "os-quota-sets/", one: "quota_set", force: true},
		quota{kind: "network-quota", api: neutron, path: "quotas/", one: "quota"},
		quota{kind: "volume-quota", api: cinder, path: "os-quota-sets/", one: "quota_set", byType: true},
	}
}

func (q quota) traits() syncer.Traits {
	return syncer.Traits{Kind: q.kind, Within: Project, Unique: true, Slow: true}
}

func (q quota) service() string { return q.api.service }

func (q quota) list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
	o, err := q.of(ctx, s, within)
	if err != nil {
		return err
	}
	return each(o)
}

func (q quota) of(ctx context.Context, s *Side, project syncer.Key) (syncer.Object, error) {
	var answer map[string]row
	if _, err := s.call(ctx, q.api, http.MethodGet, q.path+url.PathEscape(project.ID), nil, &answer); err != nil {
		return syncer.Object{}, err
	}
	o := syncer.Object{
		Key: syncer.Key{Kind: q.kind, ID: project.ID}, Within: project, Stance: syncer.Adopted, Name: s.inProject(project.ID, "quota"),
		Project: project.ID, Natural: []any{syncer.Ref{Key: project}}, Fields: syncer.Fields{},
	}
	if q.byType {
		o.Fields[typeLimits] = syncer.Set{}
	}
	types, err := q.types(ctx, s, answer[q.one])
	if err != nil {
		return syncer.Object{}, err
	}
	for name := range answer[q.one] {
		limit, ok := answer[q.one].whole(name)
		switch what, of, typed := q.typed(name); {
		case !ok:
		case !typed:
			o.Fields[name] = limit
		case limit != unlimited && types[of] != "":
			o.Fields[typeLimits] = append(o.Fields[typeLimits].(syncer.Set), map[string]any{
				"type": syncer.Ref{Key: syncer.Key{Kind: VolumeType, ID: types[of]}, Weak: true}, "what": what, "limit": limit})
		}
	}
	return o, nil
}

// typeLimits are those of volume types. Such a type is made later than the
// project is, and until then there is nothing that can be limited.
const typeLimits = "types"

const unlimited = -1 // what a new volume type is

// typed takes the name of a type's limit apart, as "gigabytes_gold".
func (q quota) typed(name string) (what, of string, ok bool) {
	what, of, ok = strings.Cut(name, "_")
	return what, of, ok && q.byType && slices.Contains([]string{"volumes", "snapshots", "gigabytes"}, what)
}

// types are the ids of volume types by their names, if any is limited.
func (q quota) types(ctx context.Context, s *Side, limits row) (map[string]string, error) {
	ids := make(map[string]string)
	limited := func(name string) bool {
		limit, ok := limits.whole(name)
		_, _, typed := q.typed(name)
		return ok && typed && limit != unlimited
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(limits)), limited) {
		return ids, nil
	}
	err := s.pages(ctx, cinder, "types", "volume_types", url.Values{"is_public": {"None"}}, func(r row) error {
		ids[r.text("name")] = r.text("id")
		return nil
	})
	return ids, err
}

// limitTypes adds to a body what is to be limited of volume types from now on,
// and what is not any more.
func (q quota) limitTypes(ctx context.Context, s *Side, have, want any, body row) error {
	names := make(map[string]string)
	name := func(e map[string]any) (string, error) {
		id := e["type"].(syncer.Ref).ID
		if names[id] == "" {
			var answer map[string]row
			if _, err := s.call(ctx, cinder, http.MethodGet, "types/"+url.PathEscape(id), nil, &answer); err != nil {
				return "", err
			}
			names[id] = answer["volume_type"].text("name")
		}
		return e["what"].(string) + "_" + names[id], nil
	}
	for i, set := range []any{have, want} {
		elements, _ := set.(syncer.Set)
		for _, e := range elements {
			limit := e.(map[string]any)
			key, err := name(limit)
			if err != nil {
				return err
			}
			if body[key] = unlimited; i == 1 {
				body[key] = limit["limit"]
			}
		}
	}
	return nil
}

func (q quota) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	return q.of(ctx, s, o.Within)
}

func (q quota) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	return q.of(ctx, s, want.Within)
}

// create is not asked for: there is one as soon as there is the project.
func (q quota) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	have, err := q.of(ctx, s, want.Within)
	if err != nil {
		return syncer.Object{}, err
	}
	return q.update(ctx, s, have, want, syncer.Diff(want.Fields, have.Fields), nil)
}

// update sets what the service here knows: another release has other limits.
func (q quota) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, _ io.Reader) (syncer.Object, error) {
	body := row{}
	for _, name := range fields {
		if name == typeLimits {
			if err := q.limitTypes(ctx, s, have.Fields[name], want.Fields[name], body); err != nil {
				return syncer.Object{}, err
			}
			continue
		}
		if v, wanted := want.Fields[name]; wanted && have.Fields[name] != nil {
			body[name] = v
		}
	}
	if len(body) == 0 {
		return have, nil
	}
	if q.force {
		body["force"] = true // below what is in use, too: it is so at the source
	}
	if _, err := s.call(ctx, q.api, http.MethodPut, q.path+url.PathEscape(have.Within.ID), map[string]any{q.one: body}, nil); err != nil {
		return syncer.Object{}, err
	}
	return q.of(ctx, s, have.Within)
}

func (q quota) remove(ctx context.Context, s *Side, have syncer.Object) error {
	_, err := s.call(ctx, q.api, http.MethodDelete, q.path+url.PathEscape(have.Within.ID), nil, nil)
	return err
}
