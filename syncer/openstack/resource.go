package openstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/draasd/draas/syncer"
)

// resource is a kind that is rows of one REST API: what differs from others
// stands as data, and as functions where data does not do.
type resource struct {
	syncer.Traits
	api
	path      string // of the collection
	one, many string // in bodies
	query     url.Values
	fields    []field
	method    string // of a change: PUT (the default), PATCH
	marked    marking
	listed    string   // the collection's path for listings, where it is another
	tagged    string   // the collection's path for tags, where it is another
	markerAt  string   // the field with which children write it, asSpecial
	natural   []string // the fields that make its natural key
	projectAs string   // the field that names its project, by id
	revision  string   // the field that is its revision
	tells     []string // what else of a row stance and describe look at
	// describe says what people call a row; nil: its name.
	describe func(s *Side, r row) string
	// stance and unsupported look at a row of this side.
	stance      func(s *Side, r row) syncer.Stance
	unsupported func(r row) string
	lost        func(r row) []string
	// drops are fields that are not kept alike: one that says anything is named.
	drops []drop
	// skip leaves rows out that are none of anybody's.
	skip func(s *Side, r row) bool
	// prepare loads, once for a listing, what its rows need (interfaces of
	// routers); it gives what completes them. A read prepares for one id.
	prepare func(ctx context.Context, s *Side, id string) (func(r row) error, error)
	// more puts into an object what are no plain fields of the row.
	more func(s *Side, r row, o *syncer.Object)
	// encode puts into a body what are no plain fields.
	encode func(want syncer.Object, body row, create bool) error
	// children writes what is not in the body; have is nil behind a creation.
	// fields are those that differ.
	children func(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error
	// fresh is children behind a creation, whose answer has shown the row already;
	// nil: children.
	fresh func(ctx context.Context, s *Side, shown row, want syncer.Object) error
	// taken is what a refusal says that means that another has the place.
	taken string
	// clear makes a row ready to be deleted.
	clear func(ctx context.Context, s *Side, have syncer.Object) error
}

// field is one of a row's that is kept alike.
type field struct {
	name string
	ref  syncer.Kind // what it refers to; empty: nothing
	weak bool
	set  bool // a list whose order says nothing
	once bool // set when it is created, and not again
	none any  // stands for null and for what is not there
	// later fields are left to children, or to more and encode.
	later bool
}

// marking is how a kind bears its marker.
type marking int

const (
	unmarked  marking = iota
	asExtra           // a property of the row itself
	asTag             // a tag, behind a description that bears it until then
	asSpecial         // by more and children
)

func (r *resource) traits() syncer.Traits {
	t := r.Traits
	t.Marked = r.marked != unmarked
	for _, f := range r.fields {
		if f.once {
			t.Fixed = append(t.Fixed, f.name)
		}
	}
	return t
}

func (r *resource) service() string { return r.api.service }

// object reads a row.
func (r *resource) object(s *Side, in row) syncer.Object {
	o := r.known(s, in)
	o.Fields = make(syncer.Fields, len(r.fields))
	for _, f := range r.fields {
		if !f.later {
			o.Fields[f.name] = f.read(in[f.name])
		}
	}
	if r.marked == asTag {
		o.Fields["tags"] = textSet(o.Tags)
		if half(in, o.Marker) {
			o.Fields["tags"] = halfMade // so that they are set before the description
		}
	}
	if r.more != nil {
		r.more(s, in, &o)
	}
	if r.lost != nil {
		o.Lost = append(o.Lost, r.lost(in)...)
	}
	o.Lost = append(o.Lost, dropped(in, r.drops)...)
	for i, name := range r.natural {
		o.Natural[i] = o.Fields[name]
	}
	return o
}

// known is an object but for its fields, by what some gives of a row.
func (r *resource) known(s *Side, in row) syncer.Object {
	o := syncer.Object{Key: syncer.Key{Kind: r.Kind, ID: in.text("id")}, Name: in.text("name")}
	if r.projectAs != "" {
		o.Project = in.text(r.projectAs)
	}
	if r.revision != "" {
		if o.Revision = in.text(r.revision); o.Revision == "" {
			o.Revision = in.number(r.revision)
		}
	}
	switch r.marked {
	case asExtra:
		o.Marker = parseMarker(in.text(property))
	case asTag:
		o.Tags, o.Marker = splitTags(in.texts("tags"))
		if o.Marker.IsZero() { // its creation was cut off
			_, o.Marker = splitTags([]string{in.text("description")})
		}
	}
	if r.stance != nil {
		o.Stance = r.stance(s, in)
	}
	if r.unsupported != nil {
		o.Unsupported = r.unsupported(in)
	}
	if len(r.natural) > 0 {
		o.Natural = make([]any, len(r.natural))
		for _, f := range r.fields {
			if i := slices.Index(r.natural, f.name); i >= 0 {
				o.Natural[i] = f.read(in[f.name])
			}
		}
	}
	if r.describe != nil {
		o.Name = r.describe(s, in)
	}
	return o
}

// half tells whether a row bears its marker as a description only.
func half(in row, m syncer.Marker) bool {
	_, tagged := splitTags(in.texts("tags"))
	return tagged.IsZero() && !m.IsZero()
}

// halfMade stands for the tags of what bears its marker as a description only.
const halfMade = "not set yet"

func textSet(texts []string) syncer.Set {
	out := make(syncer.Set, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

func (f field) read(v any) any {
	if v == nil {
		v = f.none
	}
	if text, ok := v.(string); ok && f.ref != "" {
		if text == "" {
			return nil
		}
		return syncer.Ref{Key: syncer.Key{Kind: f.ref, ID: text}, Weak: f.weak}
	}
	if list, ok := v.([]any); ok && f.set {
		return syncer.Set(list)
	}
	return v
}

// write is read's reverse, for a body.
func write(v any) any {
	switch v := v.(type) {
	case syncer.Ref:
		return v.ID
	case syncer.Set:
		return write([]any(v))
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = write(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, e := range v {
			out[name] = write(e)
		}
		return out
	}
	return v
}

func (r *resource) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	return r.rows(ctx, s, r.query, "", each)
}

// rows lists by a query; id is the one that is looked for, if one is.
func (r *resource) rows(ctx context.Context, s *Side, query url.Values, id string, each func(syncer.Object) error) error {
	complete, err := r.prepared(ctx, s, id)
	if err != nil {
		return err
	}
	// Of what has a revision the rest is read when that is another.
	some, in := r.some(), make(row)
	return s.texts(ctx, r.api, cmp.Or(r.listed, r.path), r.many, query, func(text []byte) error {
		if some != nil {
			if err := decodeSome(text, some, in); err != nil || r.skip != nil && r.skip(s, in) {
				return err
			}
			o := r.known(s, in)
			o.Whole = func() (syncer.Object, error) { return r.whole(s, text, complete) }
			return each(o)
		}
		in, err := decodeRow(text)
		if err != nil || r.skip != nil && r.skip(s, in) {
			return err
		}
		if err := complete(in); err != nil {
			return err
		}
		return each(r.object(s, in))
	})
}

// some are the fields by which an object is told from others and known again.
func (r *resource) some() map[string]bool {
	if r.revision == "" {
		return nil
	}
	names := map[string]bool{"id": true, "name": true, "tags": true, "description": true, r.projectAs: true, r.revision: true}
	for _, more := range [][]string{r.natural, r.tells} {
		for _, name := range more {
			names[name] = true
		}
	}
	return names
}

// whole takes a row apart that a listing had.
func (r *resource) whole(s *Side, text []byte, complete func(row) error) (syncer.Object, error) {
	in, err := decodeRow(text)
	if err == nil {
		err = complete(in)
	}
	if err != nil {
		return syncer.Object{}, err
	}
	return r.object(s, in), nil
}

func (r *resource) prepared(ctx context.Context, s *Side, id string) (func(row) error, error) {
	if r.prepare == nil {
		return func(row) error { return nil }, nil
	}
	return r.prepare(ctx, s, id)
}

func (r *resource) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	return r.get(ctx, s, o.ID)
}

func (r *resource) get(ctx context.Context, s *Side, id string) (syncer.Object, error) {
	var answer row
	if _, err := s.call(ctx, r.api, http.MethodGet, r.path+"/"+url.PathEscape(id), nil, &answer); err != nil {
		return syncer.Object{}, err
	}
	in := answer.row(r.one)
	if in.text("id") != id {
		return syncer.Object{}, fmt.Errorf("the answer is no %s %s", r.one, id)
	}
	return r.shown(ctx, s, in)
}

// shown is the object of a row that was read by itself.
func (r *resource) shown(ctx context.Context, s *Side, in row) (syncer.Object, error) {
	complete, err := r.prepared(ctx, s, in.text("id"))
	if err != nil {
		return syncer.Object{}, err
	}
	if err := complete(in); err != nil {
		return syncer.Object{}, err
	}
	return r.object(s, in), nil
}

// errFound ends a listing at what was looked for.
var errFound = errors.New("found")

func (r *resource) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	query := mapsClone(r.query)
	if name, ok := want.Fields["name"].(string); ok && r.filtersNames() {
		query.Set("name", name)
	}
	if project, ok := want.Fields["project_id"].(syncer.Ref); ok && r.api.service == neutron.service {
		query.Set("project_id", project.ID) // which makes Neutron make the project's default group
	}
	natural := syncer.NaturalKey(r.Kind, want.Natural)
	var found syncer.Object
	err := r.rows(ctx, s, query, "", func(o syncer.Object) error {
		ours := r.marked != unmarked && o.Marker == marker(want)
		// Where another request sets the marker, what the first has made bears none.
		bare := r.marked == asSpecial && o.Marker.IsZero()
		same := (r.marked == unmarked || bare || want.Stance == syncer.Adopted) && natural != "" && syncer.NaturalKey(r.Kind, o.Natural) == natural
		if ours || same {
			found = o
			return errFound
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return r.get(ctx, s, found.ID)
	case err != nil:
		return syncer.Object{}, err
	}
	return syncer.Object{}, syncer.ErrGone
}

// filtersNames: Keystone's and Neutron's listings do, by the exact name.
func (r *resource) filtersNames() bool {
	return r.api.service == "identity" || r.api.service == "network"
}

// marker is want's as it comes back from the service.
func marker(want syncer.Object) syncer.Marker { return parseMarker(markerText(want.Marker)) }
