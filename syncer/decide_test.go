package syncer

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is an object of the target; of has what is wanted.
func at(id, size string, more ...func(*Object)) *Object {
	o := &Object{Key: Key{"thing", id}, Fields: Fields{"size": size}, Marker: Marker{"one", "s"}}
	for _, m := range more {
		m(o)
	}
	return o
}

func content(size int64, sum string) func(*Object) {
	return func(o *Object) { o.Content = Content{size, sum} }
}

// wrote is the record of a write of a size, at both sides.
func wrote(size string, more ...func(*Record)) *Record {
	r := &Record{
		Key: Key{"thing", "s"}, Target: "t", Created: true, Applied: noon,
		SourceHash: Hash(Fields{"size": size}, Content{}), TargetHash: Hash(Fields{"size": size}, Content{}),
	}
	for _, m := range more {
		m(r)
	}
	return r
}

func intent(r *Record)  { r.Intent = true }
func adopted(r *Record) { r.Created = false }
func nowhere(r *Record) { r.Target = "" }
func missed(n int, gone time.Time) func(*Record) {
	return func(r *Record) { r.Missed, r.Gone = n, gone }
}

// of a case: the source wants size b, unless it is changed.
func of(more ...func(*Case)) Case {
	c := Case{
		Traits: Traits{Kind: "thing"}, Source: &Object{Key: Key{"thing", "s"}}, Want: Want{Fields: Fields{"size": "b"}},
		Marker: Marker{"one", "s"}, Now: noon,
	}
	for _, m := range more {
		m(&c)
	}
	return c
}

func stance(s Stance) func(*Case)        { return func(c *Case) { c.Source.Stance = s } }
func record(r *Record) func(*Case)       { return func(c *Case) { c.Record = r } }
func target(o *Object) func(*Case)       { return func(c *Case) { c.Target = o } }
func other(o *Object) func(*Case)        { return func(c *Case) { c.Other = o } }
func policy(p Policy) func(*Case)        { return func(c *Case) { c.Policy = p } }
func traits(f func(*Traits)) func(*Case) { return func(c *Case) { f(&c.Traits) } }
func body(size int64, sum string) func(*Case) {
	return func(c *Case) { c.Traits.Body, c.Source.Content = true, Content{size, sum} }
}

func gone(c *Case) { c.Source = nil }

func TestDecide(t *testing.T) {
	marked := traits(func(t *Traits) { t.Marked = true })
	onlyOne := traits(func(t *Traits) { t.Unique = true })
	both := traits(func(t *Traits) { t.Marked, t.Unique = true, true })
	fixed := traits(func(t *Traits) { t.Fixed = []string{"size"} })
	replaced := traits(func(t *Traits) { t.Fixed, t.Replaced = []string{"size"}, true })
	overwrite, adopt, rename := policy(Policy{Overwrite: true}), policy(Policy{Adopt: true}), policy(Policy{Rename: true})
	unsupported := func(c *Case) { c.Source.Unsupported = "its secret" }
	needs := func(c *Case) { c.Want.Needs = []Key{{"net", "n"}} }
	original := func(c *Case) { c.Original = true }
	hour := policy(Policy{Missing: 2, Grace: time.Hour})
	unmarked := func(o *Object) { o.Marker = Marker{} }
	owner := func(c *Case) { c.Want.Fields["owner"] = "now" }
	owned := func(r *Record) { r.TargetHash = Hash(Fields{"size": "a", "owner": "before"}, Content{}) }
	another := func(o *Object) { o.Fields["owner"] = "before" }
	foreign := func(o *Object) { o.Marker = Marker{"one", "another"} }
	for _, tt := range []struct {
		name   string
		c      Case
		verb   Verb
		reason string // a part of it
		fields string // joined
		have   string // id
		flags  string // of c(reated), r(ename), o(verwrites)
	}{
		// What cannot be done, whatever the rest.
		{"unsupported", of(unsupported, target(at("t", "a"))), Unsupported, "its secret", "", "t", ""},
		{"outside", of(stance(Outside)), Blocked, "no mapping", "", "", ""},
		{"needs", of(needs, target(at("t", "a"))), Blocked, "needs net n", "", "t", ""},
		{"unsupported before outside", of(unsupported, stance(Outside)), Unsupported, "", "", "", ""},
		{"outside before needs", of(stance(Outside), needs), Blocked, "no mapping", "", "", ""},

		// Nothing was written yet.
		{"new", of(), Create, "", "", "", "c"},
		{"new, failed before", of(record(&Record{Error: "x"})), Create, "", "", "", "c"},
		{"comes by itself, not there yet", of(stance(Adopted)), Create, "comes with", "", "", ""},
		{"given, not there", of(stance(Given)), Blocked, "nothing of that name", "", "", ""},
		{"ours by marker, alike", of(target(at("t", "b"))), Adopt, "made by us", "", "t", "c"},
		{"ours by marker, differs", of(target(at("t", "a"))), Conflict, "not known any more", "size", "t", "c"},
		{"ours by marker, differs, overwrite", of(target(at("t", "a")), overwrite), Update, "made by us", "size", "t", "co"},
		{"ours by marker, begun", of(target(at("t", "a")), record(wrote("b", intent, nowhere))), Update, "made by us", "size", "t", "c"},
		{"ours by marker, begun, to be replaced", of(target(at("t", "a")), record(wrote("b", intent, nowhere)), replaced), Replace, "made by us", "size", "t", "c"},
		{"ours by marker, but comes by itself", of(stance(Adopted), target(at("t", "b"))), Adopt, "at both sites before", "", "t", ""},
		{"ours by marker, alike, unmarked now", of(target(at("t", "b", unmarked)), marked), Update, "but for the marker", "", "t", "c"},
		{"original, alike, unmarked", of(target(at("t", "b", unmarked)), marked, original), Adopt, "at both sites before", "", "t", ""},
		{"ours by marker, alike, marked", of(target(at("t", "b")), marked), Adopt, "made by us", "", "t", "c"},
		{"original, alike", of(target(at("t", "b")), original), Adopt, "at both sites before", "", "t", ""},
		{"original, differs", of(target(at("t", "a")), original), Conflict, "at both sites before", "size", "t", ""},
		{"original, differs, overwrite", of(target(at("t", "a")), original, overwrite), Update, "at both sites before", "size", "t", "o"},
		{"given at both", of(stance(Given), other(at("o", "a"))), Adopt, "at both sites", "", "o", ""},
		{"by itself at both, alike", of(stance(Adopted), other(at("o", "b"))), Adopt, "at both sites", "", "o", ""},
		{"by itself at both, differs", of(stance(Adopted), other(at("o", "a"))), Update, "at both sites", "size", "o", ""},
		{"by itself at both, begun", of(stance(Adopted), other(at("o", "a")), record(wrote("b", intent, nowhere, adopted))), Update, "at both sites", "size", "o", ""},
		{"by itself, fixed", of(stance(Adopted), other(at("o", "a")), fixed), Unsupported, "size cannot be changed", "size", "o", ""},
		{"by itself, not replaced", of(stance(Adopted), other(at("o", "a")), replaced), Unsupported, "size cannot be changed", "size", "o", ""},
		{"name taken", of(other(at("o", "a"))), Conflict, "belongs to o", "size", "o", ""},
		{"name taken, alike", of(other(at("o", "b"))), Conflict, "belongs to o", "", "o", ""},
		{"unique, taken, alike", of(other(at("o", "b")), onlyOne), Adopt, "alike", "", "o", ""},
		{"unique, taken, differs", of(other(at("o", "a")), onlyOne), Conflict, "belongs to o", "size", "o", ""},
		{"taken, adopt", of(other(at("o", "a")), adopt), Update, "was there", "size", "o", ""},
		{"taken, adopt, alike", of(other(at("o", "b")), adopt), Adopt, "was there", "", "o", ""},
		{"taken, rename", of(other(at("o", "a")), rename), Create, "belongs to o", "", "", "cr"},
		{"begun, unmarked, found", of(other(at("o", "b")), record(wrote("b", intent, nowhere))), Adopt, "made by us", "", "o", "c"},
		{"begun, unmarked, half", of(other(at("o", "a")), record(wrote("b", intent, nowhere))), Update, "made by us", "size", "o", "c"},
		{"begun, marked: not ours", of(other(at("o", "a")), record(wrote("b", intent, nowhere)), marked), Conflict, "belongs to o", "size", "o", ""},
		{"begun, marked and unique", of(other(at("o", "a")), record(wrote("b", intent, nowhere)), both), Update, "made by us", "size", "o", "c"},
		{"begun and given", of(stance(Given), other(at("o", "a")), record(wrote("b", intent, nowhere))), Adopt, "at both sites", "", "o", ""},
		{"not begun, unmarked", of(other(at("o", "a")), record(wrote("b", nowhere))), Conflict, "belongs to o", "size", "o", ""},

		// It was written, and is not at the target.
		{"lost", of(record(wrote("b"))), Drift, "deleted at the target", "", "", ""},
		{"lost, overwrite", of(record(wrote("b")), overwrite), Create, "deleted at the target", "", "", "co"},
		{"lost, begun", of(record(wrote("b", intent))), Create, "begun", "", "", "c"},
		{"lost, name taken", of(record(wrote("b")), overwrite, other(at("o", "b"))), Conflict, "belongs to o", "", "o", ""},
		{"lost, name taken, reported", of(record(wrote("b")), other(at("o", "b"))), Drift, "deleted at the target", "", "", ""},
		{"lost, given", of(record(wrote("b")), stance(Given), overwrite), Drift, "not to be created", "", "", ""},
		{"lost, by itself", of(record(wrote("b")), stance(Adopted), overwrite), Drift, "not to be created", "", "", ""},
		{"given, made anew", of(record(wrote("b")), stance(Given), other(at("o", "a"))), Adopt, "made anew", "", "o", ""},
		{"by itself, made anew", of(record(wrote("b")), stance(Adopted), other(at("o", "a"))), Update, "made anew", "size", "o", ""},

		// Both have it.
		{"given", of(record(wrote("a")), stance(Given), target(at("t", "c"))), Unchanged, "", "", "t", "c"},
		{"unchanged", of(record(wrote("b")), target(at("t", "b"))), Unchanged, "", "", "t", "c"},
		{"unchanged, adopted", of(record(wrote("b", adopted)), target(at("t", "b"))), Unchanged, "", "", "t", ""},
		{"source changed", of(record(wrote("a")), target(at("t", "a"))), Update, "at the source", "size", "t", "c"},
		{"source changed, adopted", of(record(wrote("a", adopted)), target(at("t", "a"))), Update, "at the source", "size", "t", ""},
		{"source changed, fixed", of(record(wrote("a")), target(at("t", "a")), fixed), Unsupported, "size cannot be changed", "size", "t", "c"},
		{"source changed, fixed and another", of(record(wrote("a", owned)), target(at("t", "a", another)), fixed, owner), Update, "at the source; size cannot be changed", "owner", "t", "c"},
		{"source changed, fixed content and another", of(body(3, "md5:x"), record(wrote("a", owned)), target(at("t", "a", another)), owner, traits(func(t *Traits) { t.Fixed = []string{""} })),
			Unsupported, "the content, owner, size cannot be changed", "content,owner,size", "t", "c"},
		{"source changed, replaced", of(record(wrote("a")), target(at("t", "a")), replaced), Replace, "at the source", "size", "t", "c"},
		{"source changed, adopted, not replaced", of(record(wrote("a", adopted)), target(at("t", "a")), replaced), Unsupported, "size cannot be changed", "size", "t", ""},
		{"drift", of(record(wrote("b")), target(at("t", "c"))), Drift, "by others", "size", "t", "c"},
		{"drift, overwrite", of(record(wrote("b")), target(at("t", "c")), overwrite), Update, "at the target by others", "size", "t", "co"},
		{"drift, begun", of(record(wrote("b", intent)), target(at("t", "c"))), Update, "begun", "size", "t", "c"},
		{"conflict", of(record(wrote("a")), target(at("t", "c"))), Conflict, "both sites", "size", "t", "c"},
		{"conflict, overwrite", of(record(wrote("a")), target(at("t", "c")), overwrite), Update, "both sites", "size", "t", "co"},
		{"both to the same", of(record(wrote("a")), target(at("t", "b"))), Adopt, "to the same", "", "t", "c"},
		{"both to the same, overwrite", of(record(wrote("a")), target(at("t", "b")), overwrite), Adopt, "to the same", "", "t", "c"},

		// The content.
		{"same sum", of(body(3, "md5:x"), target(at("t", "b", content(3, "md5:x")))), Adopt, "", "", "t", "c"},
		{"other sum", of(body(3, "md5:x"), target(at("t", "b", content(3, "md5:y")))), Conflict, "", "content", "t", "c"},
		{"other algorithm, same size", of(body(3, "md5:x"), target(at("t", "b", content(3, "sha:x")))), Adopt, "", "", "t", "c"},
		{"no sum, other size", of(body(3, ""), target(at("t", "b", content(4, "md5:x")))), Conflict, "", "content", "t", "c"},
		{"size not known here", of(body(-1, ""), target(at("t", "b", content(4, "md5:x")))), Adopt, "", "", "t", "c"},
		{"size not known there", of(body(4, ""), target(at("t", "b", content(-1, "")))), Adopt, "", "", "t", "c"},
		{"empty here", of(body(0, ""), target(at("t", "b", content(4, "md5:x")))), Conflict, "", "content", "t", "c"},
		{"empty there", of(body(4, ""), target(at("t", "b", content(0, "md5:x")))), Conflict, "", "content", "t", "c"},
		{"no body", of(func(c *Case) { c.Source.Content = Content{3, "md5:x"} }, target(at("t", "b", content(4, "md5:y")))), Adopt, "", "", "t", "c"},
		{"other algorithm, changed since", of(body(3, "md5:x"), record(wrote("b", func(r *Record) {
			r.Content, r.Landed = Content{3, "md5:w"}, Content{3, "sha:w"}
			r.TargetHash = Hash(Fields{"size": "b"}, Content{3, "sha:w"})
		})), target(at("t", "b", content(3, "sha:w")))), Update, "at the source", "content", "t", "c"},
		{"other algorithm, not changed since", of(body(3, "md5:x"), record(wrote("b", func(r *Record) {
			r.Content, r.Landed = Content{3, "md5:x"}, Content{3, "sha:w"}
			r.TargetHash = Hash(Fields{"size": "b"}, Content{3, "sha:w"})
		})), target(at("t", "b", content(3, "sha:w")))), Adopt, "at the source", "", "t", "c"},
		{"other algorithm, changed there", of(body(3, "md5:x"), record(wrote("b", func(r *Record) {
			r.Content, r.Landed = Content{3, "md5:x"}, Content{3, "sha:w"}
		})), target(at("t", "b", content(3, "sha:v")))), Conflict, "both", "content", "t", "c"},

		// Gone at the source.
		{"gone, not ours", of(gone, target(at("t", "b"))), Unchanged, "", "", "t", ""},
		{"gone at both", of(gone, record(wrote("b"))), Forget, "both sites", "", "", "c"},
		{"gone, adopted", of(gone, record(wrote("b", adopted)), target(at("t", "b"))), Forget, "did not make it", "", "t", ""},
		{"gone, its marker too", of(gone, record(wrote("b")), target(at("t", "b", unmarked)), marked), Conflict, "marker", "", "t", "c"},
		{"gone, marker of another", of(gone, record(wrote("b")), target(at("t", "b", foreign)), marked), Conflict, "marker", "", "t", "c"},
		{"gone, kept", of(gone, record(wrote("b")), target(at("t", "b")), policy(Policy{Keep: true})), Held, "policy", "", "t", "c"},
		{"gone, missed once", of(gone, record(wrote("b", missed(1, noon.Add(-2*time.Hour)))), target(at("t", "b")), hour), Held, "since 2026-03-01 10:00:00", "", "t", "c"},
		{"gone, within the grace", of(gone, record(wrote("b", missed(2, noon.Add(-time.Hour+1)))), target(at("t", "b")), hour), Held, "since", "", "t", "c"},
		{"gone, behind the grace", of(gone, record(wrote("b", missed(2, noon.Add(-time.Hour)))), target(at("t", "b")), hour), Delete, "", "", "t", "c"},
		{"gone, marked", of(gone, record(wrote("b")), target(at("t", "b")), marked), Delete, "", "", "t", "c"},
		{"gone, but changed", of(gone, record(wrote("b")), target(at("t", "c")), marked), Conflict, "changed at the target", "", "t", "c"},
		{"gone, but changed, overwrite", of(gone, record(wrote("b")), target(at("t", "c")), overwrite), Delete, "", "", "t", "c"},
		{"gone, half made, marked", of(gone, record(wrote("b", intent)), target(at("t", "c")), marked), Delete, "", "", "t", "c"},
		{"gone, half made, unmarked", of(gone, record(wrote("b", intent)), target(at("t", "c"))), Conflict, "changed at the target", "", "t", "c"},
	} {
		d := Decide(tt.c)
		have := ""
		if d.Have != nil {
			have = d.Have.ID
		}
		flags := ""
		for flag, set := range map[string]bool{"c": d.Created, "r": d.Rename, "o": d.Overwrites} {
			if set {
				flags += flag
			}
		}
		sorted := []byte(flags)
		slices.Sort(sorted)
		if d.Verb != tt.verb || !strings.Contains(d.Reason, tt.reason) || joined(d.Fields) != tt.fields || have != tt.have || string(sorted) != tt.flags {
			t.Errorf("%s: %s %q, fields %q of %q, %q", tt.name, d.Verb, d.Reason, d.Fields, have, sorted)
		}
		if d.Verb != Create && d.Verb != Unchanged && d.Reason == "" {
			t.Errorf("%s: no reason", tt.name)
		}
	}
}

// joined names of fields, with one for the content.
func joined(fields []string) string {
	all := slices.Clone(fields)
	for i, f := range all {
		if f == "" {
			all[i] = "content"
		}
	}
	return strings.Join(all, ",")
}

func TestActs(t *testing.T) {
	for v, want := range map[Verb]bool{
		Create: true, Update: true, Replace: true, Delete: true, Adopt: false, Forget: false, Unchanged: false,
		Drift: false, Conflict: false, Blocked: false, Unsupported: false, Held: false,
	} {
		if v.Acts() != want {
			t.Errorf("%s acts: %t", v, !want)
		}
	}
}
