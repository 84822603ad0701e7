package openstack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/draasd/draas/syncer"
)

// Kinds of Nova's.
const (
	Flavor      syncer.Kind = "flavor"
	Keypair     syncer.Kind = "keypair"
	ServerGroup syncer.Kind = "server-group"
)

// nova shows a flavor's extra specs in the listing from 2.61 on; 2.64 has server
// groups with one policy.
var nova = api{service: "compute", version: "2.64"}

func computeKinds() []handler {
	return []handler{flavors(), keypairs{}, serverGroups{}}
}

// flavors keep their ids. What a flavor gives to servers cannot be changed: one
// that draas made is replaced, which servers that run do not feel.
func flavors() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Flavor, Unique: true, Replaced: true}, api: nova, path: "flavors", listed: "flavors/detail", one: "flavor", many: "flavors",
		marked: asSpecial, markerAt: "extra_specs", natural: []string{"name"},
		fields: []field{{name: "name", once: true}, {name: "ram", once: true}, {name: "vcpus", once: true}, {name: "disk", once: true},
			{name: "OS-FLV-EXT-DATA:ephemeral", once: true}, {name: "swap", once: true}, {name: "rxtx_factor", once: true},
			{name: "os-flavor-access:is_public", once: true, none: true}, {name: "description"},
			{name: "extra_specs", later: true}, {name: "access", set: true, later: true}},
		query: url.Values{"is_public": {"None"}}, drops: []drop{{"OS-FLV-DISABLED:disabled", "that it is disabled"}},
		prepare: func(ctx context.Context, s *Side, _ string) (func(row) error, error) {
			return func(r row) error { return flavorSpecs.load(ctx, s, r) }, nil
		},
		more: func(_ *Side, r row, o *syncer.Object) {
			if o.Fields["swap"] == "" { // before 2.75 no swap is shown so
				o.Fields["swap"] = 0
			}
			flavorSpecs.show(r, o)
		},
		encode: func(want syncer.Object, body row, create bool) error {
			if create {
				body["id"] = want.ID
			}
			return nil
		},
		children: flavorSpecs.set,
	}
}

// flavorSpecs is what flavors and volume types have in common.
var flavorSpecs = specified{api: nova, path: "flavors", specs: "os-extra_specs", access: "os-flavor-access",
	public: "os-flavor-access:is_public", list: "flavor_access", member: "tenant_id", add: "addTenantAccess", remove: "removeTenantAccess", names: "tenant"}

// keypairs are a user's public keys; the private ones were never in the cloud.
// They are listed one user at a time.
type keypairs struct{}

func (keypairs) traits() syncer.Traits {
	return syncer.Traits{Kind: Keypair, Within: User, Unique: true, Slow: true, Fixed: []string{"public_key", "type", "user", "name"}, Replaced: true}
}

func (keypairs) service() string { return nova.service }

func keypair(user syncer.Key, r row) syncer.Object {
	kind := r.text("type")
	if kind == "" {
		kind = "ssh"
	}
	name := r.text("name")
	ref := syncer.Ref{Key: user}
	return syncer.Object{
		Key: syncer.Key{Kind: Keypair, ID: user.ID + "/" + name}, Within: user, Name: name, Revision: r.text("fingerprint"),
		Natural: []any{ref, name}, Fields: syncer.Fields{"name": name, "user": ref, "type": kind, "public_key": r.text("public_key")},
		Lost: []string{"private key, which the cloud never had"},
	}
}

func (keypairs) list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
	return s.pages(ctx, nova, "os-keypairs", "keypairs", url.Values{"user_id": {within.ID}}, func(r row) error {
		return each(keypair(within, r.row("keypair")))
	})
}

func keypairPath(o syncer.Object) string {
	name, _ := o.Fields["name"].(string)
	return "os-keypairs/" + url.PathEscape(name) + "?user_id=" + url.QueryEscape(o.Within.ID)
}

func (keypairs) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	var answer map[string]row
	if _, err := s.call(ctx, nova, http.MethodGet, keypairPath(o), nil, &answer); err != nil {
		return syncer.Object{}, err
	}
	if name := answer["keypair"].text("name"); name == "" || name != o.Fields["name"] {
		return syncer.Object{}, fmt.Errorf("the answer is not keypair %v", o.Fields["name"])
	}
	return keypair(o.Within, answer["keypair"]), nil
}

func (k keypairs) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	return k.read(ctx, s, want)
}

func (k keypairs) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	body := row{"name": want.Fields["name"], "type": want.Fields["type"], "public_key": want.Fields["public_key"], "user_id": want.Within.ID}
	if _, err := s.call(ctx, nova, http.MethodPost, "os-keypairs", map[string]any{"keypair": body}, nil); err != nil {
		return syncer.Object{}, err
	}
	made, err := k.read(ctx, s, want)
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return made, nil
}

func (keypairs) update(context.Context, *Side, syncer.Object, syncer.Object, []string, io.Reader) (syncer.Object, error) {
	return syncer.Object{}, fmt.Errorf("a keypair cannot be changed")
}

func (keypairs) remove(ctx context.Context, s *Side, have syncer.Object) error {
	_, err := s.call(ctx, nova, http.MethodDelete, keypairPath(have), nil, nil)
	return err
}
