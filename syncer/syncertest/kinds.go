package syncertest

import "github.com/draasd/draas/syncer"

// Specs are kinds that have among them all that the engine has to know: given
// ones, unique and marked ones, weak refs in circles, what is held, bodies,
// fields that cannot be changed, listings without fields.
func Specs() []Spec {
	name := func(o syncer.Object) []any { return []any{o.Fields["name"]} }
	owned := func(o syncer.Object) []any { return []any{o.Fields["project"], o.Fields["name"]} }
	return []Spec{
		{Traits: syncer.Traits{Kind: "role", Unique: true}, Natural: name},
		{Traits: syncer.Traits{Kind: "project", Unique: true, Marked: true}, Natural: name},
		{Traits: syncer.Traits{Kind: "flavor", Unique: true, Fixed: []string{"ram"}, Replaced: true}, Natural: name, KeepsID: true},
		{Traits: syncer.Traits{Kind: "user", Unique: true, Slow: true}, Natural: name, Brief: true, Blind: true},
		{Traits: syncer.Traits{Kind: "network", Marked: true}, Natural: owned},
		{Traits: syncer.Traits{Kind: "subnet", Marked: true, Fixed: []string{"cidr", "network"}}, Natural: func(o syncer.Object) []any {
			return []any{o.Fields["network"], o.Fields["cidr"]}
		}},
		{Traits: syncer.Traits{Kind: "group", Marked: true}, Natural: owned, Brief: true},
		{Traits: syncer.Traits{Kind: "image", Marked: true, Body: true, Fixed: []string{""}, Replaced: true}, Natural: owned},
		{Traits: syncer.Traits{Kind: "container", Unique: true}, Natural: owned},
		{Traits: syncer.Traits{Kind: "object", Within: "container", Unique: true, Body: true}, Natural: func(o syncer.Object) []any {
			return []any{o.Fields["name"]}
		}},
	}
}

// Ref to an object.
func Ref(kind syncer.Kind, id string) syncer.Ref {
	return syncer.Ref{Key: syncer.Key{Kind: kind, ID: id}}
}

// Weak is a ref that may come later.
func Weak(kind syncer.Kind, id string) syncer.Ref {
	return syncer.Ref{Key: syncer.Key{Kind: kind, ID: id}, Weak: true}
}
