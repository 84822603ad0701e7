package openstack

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// specified is a kind with extra specs, of which one is the marker, and with
// projects that may use it where it is not for all: each has a path of its own.
type specified struct {
	api
	path          string // of the collection
	specs, access string // below one
	public        string // the field that says whether it is for all
	list, member  string // in the answer: those who may use it, and the project of one
	add, remove   string // the actions
	names         string // the project, in an action
}

// load asks which projects may use what is not for all.
func (k specified) load(ctx context.Context, s *Side, r row) error {
	if r[k.public] != false {
		return nil
	}
	var answer row
	if _, err := s.call(ctx, k.api, http.MethodGet, k.one(r.text("id"))+k.access, nil, &answer); err != nil {
		return err
	}
	var ids []any
	for _, a := range answer.rows(k.list) {
		ids = append(ids, a.text(k.member))
	}
	r["access"] = ids
	return nil
}

func (k specified) one(id string) string { return k.path + "/" + url.PathEscape(id) + "/" }

// show puts both into an object.
func (k specified) show(r row, o *syncer.Object) {
	specs := asMap(maps.Clone(map[string]any(r.row("extra_specs"))))
	if text, ok := specs[specKey].(string); ok {
		o.Marker = parseMarker(text)
		delete(specs, specKey)
	}
	o.Fields["extra_specs"] = specs
	access := syncer.Set{}
	for _, id := range r.texts("access") {
		access = append(access, syncer.Ref{Key: syncer.Key{Kind: Project, ID: id}})
	}
	o.Fields["access"] = access
}

// set writes both, as children of a resource.
func (k specified) set(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error {
	was := syncer.Fields{}
	if have != nil {
		was = have.Fields
	}
	if slices.Contains(fields, "extra_specs") {
		if err := k.setSpecs(ctx, s, k.one(id)+k.specs, asMap(was["extra_specs"]), want); err != nil {
			return err
		}
	}
	if !slices.Contains(fields, "access") {
		return nil
	}
	is, wanted := refIDs(was["access"]), refIDs(want.Fields["access"])
	for _, change := range []struct {
		action string
		ids    []string
	}{{k.add, without(wanted, is)}, {k.remove, without(is, wanted)}} {
		for _, project := range change.ids {
			body := map[string]any{change.action: row{k.names: project}}
			if _, err := s.call(ctx, k.api, http.MethodPost, k.one(id)+"action", body, nil); err != nil && !cloud.Conflict(err) {
				return err // a conflict: it is so already
			}
		}
	}
	return nil
}

func (k specified) setSpecs(ctx context.Context, s *Side, path string, was map[string]any, want syncer.Object) error {
	specs := asMap(write(maps.Clone(asMap(want.Fields["extra_specs"]))))
	if !want.Marker.IsZero() {
		specs[specKey] = markerText(want.Marker)
	}
	if len(specs) > 0 {
		if _, err := s.call(ctx, k.api, http.MethodPost, path, map[string]any{"extra_specs": specs}, nil); err != nil {
			return err
		}
	}
	for _, key := range without(slices.Sorted(maps.Keys(was)), slices.Collect(maps.Keys(specs))) {
		if _, err := s.call(ctx, k.api, http.MethodDelete, path+"/"+url.PathEscape(key), nil, nil); err != nil && !cloud.NotFound(err) {
			return err
		}
	}
	return nil
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	if m == nil {
		m = make(map[string]any)
	}
	return m
}
