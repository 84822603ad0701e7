package openstack

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/draasd/draas/syncer"
)

// Kinds of Cinder's.
const (
	// Backend is where volumes are: its name is the operator's, and often another
	// at each site.
	Backend    syncer.Kind = "backend"
	VolumeQoS  syncer.Kind = "volume-qos"
	VolumeType syncer.Kind = "volume-type"
)

var cinder = api{service: "block-storage"}

func volumeKinds() []handler { return []handler{backends{}, volumeQoS(), volumeTypes()} }

// backendSpec is the extra spec that names a back end.
const backendSpec = "volume_backend_name"

// backends are those that volume types name.
type backends struct{}

func (backends) traits() syncer.Traits { return syncer.Traits{Kind: Backend, Unique: true} }
func (backends) service() string       { return cinder.service }

func backend(name string) syncer.Object {
	return syncer.Object{Key: syncer.Key{Kind: Backend, ID: name}, Stance: syncer.Given, Name: name, Natural: []any{name}, Fields: syncer.Fields{}, Revision: "named"}
}

func (backends) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	seen := make(map[string]bool)
	return s.pages(ctx, cinder, "types", "volume_types", url.Values{"is_public": {"None"}}, func(r row) error {
		name := r.row("extra_specs").text(backendSpec)
		if name == "" || seen[name] {
			return nil
		}
		seen[name] = true
		return each(backend(name))
	})
}

func (backends) read(_ context.Context, _ *Side, o syncer.Object) (syncer.Object, error) {
	return backend(o.ID), nil
}

func (backends) find(context.Context, *Side, syncer.Object) (syncer.Object, error) {
	return syncer.Object{}, syncer.ErrGone
}

func (backends) create(context.Context, *Side, syncer.Object, io.Reader) (syncer.Object, error) {
	return syncer.Object{}, syncer.ErrDenied
}

func (backends) update(_ context.Context, _ *Side, have, _ syncer.Object, _ []string, _ io.Reader) (syncer.Object, error) {
	return have, nil
}

func (backends) remove(context.Context, *Side, syncer.Object) error { return syncer.ErrDenied }

// volumeQoS are what a hypervisor or a back end is told of volumes of a type.
func volumeQoS() handler {
	return &resource{
		Traits: syncer.Traits{Kind: VolumeQoS, Unique: true}, api: cinder, path: "qos-specs", one: "qos_specs", many: "qos_specs",
		natural: []string{"name"},
		fields:  []field{{name: "name", once: true}, {name: "consumer"}, {name: "specs", later: true}},
		more:    func(_ *Side, r row, o *syncer.Object) { o.Fields["specs"] = asMap(map[string]any(r.row("specs"))) },
		encode: func(want syncer.Object, body row, create bool) error {
			if create {
				for key, v := range asMap(want.Fields["specs"]) {
					body[key] = v
				}
			}
			return nil
		},
		children: func(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error {
			if have == nil || !slices.Contains(fields, "specs") {
				return nil
			}
			return s.setKeys(ctx, "qos-specs/"+url.PathEscape(id), asMap(have.Fields["specs"]), asMap(want.Fields["specs"]))
		},
	}
}

// setKeys puts and deletes the keys of a QoS spec, whose API is one of its own.
func (s *Side) setKeys(ctx context.Context, path string, is, wanted map[string]any) error {
	if len(wanted) > 0 {
		if _, err := s.call(ctx, cinder, http.MethodPut, path, map[string]any{"qos_specs": wanted}, nil); err != nil {
			return err
		}
	}
	old := without(slices.Sorted(maps.Keys(is)), slices.Collect(maps.Keys(wanted)))
	if len(old) == 0 {
		return nil
	}
	_, err := s.call(ctx, cinder, http.MethodPut, path+"/delete_keys", map[string]any{"keys": old}, nil)
	return err
}

func volumeTypes() handler {
	return &resource{
		Traits: syncer.Traits{Kind: VolumeType, Unique: true}, api: cinder, path: "types", one: "volume_type", many: "volume_types",
		marked: asSpecial, markerAt: "extra_specs", natural: []string{"name"}, query: url.Values{"is_public": {"None"}},
		fields: []field{{name: "name"}, {name: "description"}, {name: "os-volume-type-access:is_public", none: true, once: true},
			{name: "qos_specs_id", ref: VolumeQoS, later: true}, {name: "extra_specs", later: true}, {name: "access", set: true, later: true}},
		stance: func(_ *Side, r row) syncer.Stance {
			if r.text("name") == "__DEFAULT__" {
				return syncer.Adopted
			}
			return syncer.Carried
		},
		prepare: func(ctx context.Context, s *Side, _ string) (func(row) error, error) {
			return func(r row) error {
				if err := s.typeEncryption(ctx, r); err != nil {
					return err
				}
				return typeSpecs.load(ctx, s, r)
			}, nil
		},
		more: func(_ *Side, r row, o *syncer.Object) {
			typeSpecs.show(r, o)
			specs := asMap(o.Fields["extra_specs"])
			if name, ok := specs[backendSpec].(string); ok {
				specs[backendSpec] = syncer.Ref{Key: syncer.Key{Kind: Backend, ID: name}}
			}
			o.Fields["qos_specs_id"] = field{ref: VolumeQoS}.read(r["qos_specs_id"])
		},
		children: setVolumeType,
		drops:    []drop{{"encryption", "encryption: its keys are not the other cloud's"}},
	}
}

// typeEncryption asks how the volumes of a type are encrypted, which no listing
// says.
func (s *Side) typeEncryption(ctx context.Context, r row) error {
	var answer row
	_, err := s.call(ctx, cinder, http.MethodGet, "types/"+url.PathEscape(r.text("id"))+"/encryption", nil, &answer)
	if err == nil && answer.text("provider") != "" {
		r["encryption"] = answer.text("provider")
	}
	return err
}

// typeSpecs is what volume types and flavors have in common.
var typeSpecs = specified{api: cinder, path: "types", specs: "extra_specs", access: "os-volume-type-access",
	public: "os-volume-type-access:is_public", list: "volume_type_access", member: "project_id", add: "addProjectAccess", remove: "removeProjectAccess", names: "project"}

// setVolumeType writes extra specs, access, and what QoS the type is tied to.
func setVolumeType(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error {
	if err := typeSpecs.set(ctx, s, id, have, want, fields); err != nil || !slices.Contains(fields, "qos_specs_id") {
		return err
	}
	was := syncer.Fields{}
	if have != nil {
		was = have.Fields
	}
	for _, change := range []struct {
		verb string
		spec any
	}{{"disassociate", was["qos_specs_id"]}, {"associate", want.Fields["qos_specs_id"]}} {
		if spec, ok := change.spec.(syncer.Ref); ok {
			to := "qos-specs/" + url.PathEscape(spec.ID) + "/" + change.verb + "?vol_type_id=" + url.QueryEscape(id)
			if _, err := s.call(ctx, cinder, http.MethodGet, to, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
