package syncer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// valueLimit is how much of a value a plan shows, in bytes.
const valueLimit = 200

// Plan is what a run would do now, and what it would not do and why.
type Plan struct {
	Source string    `json:"source"` // sites
	Target string    `json:"target"`
	Epoch  uint64    `json:"epoch"`
	At     time.Time `json:"at"`
	Audit  bool      `json:"audit,omitempty"`
	// Held says why nothing of it is done before the operator accepts it.
	Held string `json:"held,omitempty"`
	// Changes are all but what is unchanged: kind by kind, in the order of needs.
	Changes []Change   `json:"changes,omitempty"`
	Kinds   []KindPlan `json:"kinds,omitempty"`
	// Lost names what cannot be carried of the objects that were read: all of
	// them in an audit.
	Lost []Loss `json:"lost,omitempty"`
}

// Loss is what cannot be carried of an object, as "password".
type Loss struct {
	Key   Key      `json:"key"` // at the source
	Name  string   `json:"name,omitempty"`
	Parts []string `json:"parts"`
}

// Change is what is done about one object, or why nothing is.
type Change struct {
	Key    Key           `json:"key"` // at the source; at the target for what is only there
	Name   string        `json:"name,omitempty"`
	Target string        `json:"target,omitempty"` // the id at the target
	Verb   Verb          `json:"verb"`
	Reason string        `json:"reason,omitempty"`
	Fields []FieldChange `json:"fields,omitempty"`
	// Needs are done before; Later are refs that are written once what they
	// need is there.
	Needs []Key    `json:"needs,omitempty"`
	Later []Key    `json:"later,omitempty"`
	Lost  []string `json:"lost,omitempty"` // what of it cannot be carried
	Bytes int64    `json:"bytes,omitempty"`
}

// FieldChange is a field as it is at the target, and as it is to be there. The
// name "" is the content.
type FieldChange struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
	// Part: of a set or a map, which differs in this only.
	Part bool `json:"part,omitempty"`
}

// KindPlan counts what is done about a kind.
type KindPlan struct {
	Kind Kind `json:"kind"`
	// Missing says why a side does not have it, Unknown what of it could not be
	// looked at.
	Missing string       `json:"missing,omitempty"`
	Unknown []string     `json:"unknown,omitempty"`
	Objects int          `json:"objects"`
	Left    int          `json:"left_out,omitempty"` // by filters
	Others  int          `json:"others,omitempty"`   // only at the target, and not ours
	Verbs   map[Verb]int `json:"verbs,omitempty"`
	Bytes   int64        `json:"bytes,omitempty"` // to be carried
}

// Count of the objects of all kinds about which v is done.
func (p *Plan) Count(v Verb) int {
	n := 0
	for _, k := range p.Kinds {
		n += k.Verbs[v]
	}
	return n
}

// Acts counts what is done at the target.
func (p *Plan) Acts() int {
	return p.Count(Create) + p.Count(Update) + p.Count(Replace) + p.Count(Delete)
}

// item is a change with all that is needed to make it.
type item struct {
	Change
	kind     *kind
	source   Object  // zero when it is gone
	record   *Record // nil: none yet
	decision Decision
	// soon are the strong refs to what is created first, and after the weak ones.
	soon, after []Key
	// frees is the object at the target that has the name still.
	frees   string
	follows []*item // which give up the name
	needed  []*item // by which it is needed: of what is deleted
	merged  bool    // with what only the target has
	partly  bool    // some fields cannot be changed in place
	only    bool    // at the target, and known by its key there

	// While it is done: what is at the target, and which refs stand in it; whether
	// it failed, and whether what was begun is then left as begun.
	bound      string
	got        *Object
	failed     bool
	keepIntent bool
}

// showFields tells what changes, in words: of what is created, all that says
// anything. A plan holds them for each new object, of which there may be a
// million.
func showFields(d Decision, source Object, want Want) []FieldChange {
	names := d.Fields
	if d.Verb == Create {
		names = make([]string, 0, len(want.Fields))
		for name, v := range want.Fields {
			if v != nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	if len(names) == 0 {
		return nil
	}
	out := make([]FieldChange, 0, len(names))
	for _, name := range names {
		f := FieldChange{Name: name}
		if name == "" {
			f.New = showContent(source.Content)
			if d.Have != nil {
				f.Old = showContent(d.Have.Content)
			}
			out = append(out, f)
			continue
		}
		is, wanted := want.Fields[name]
		var was any
		had := false
		if d.Have != nil {
			was, had = d.Have.Fields[name]
		}
		if wanted && had {
			was, is, f.Part = differing(was, is)
		}
		if wanted {
			f.New = Show(filled(is))
		}
		if had {
			f.Old = Show(filled(was))
		}
		out = append(out, f)
	}
	return out
}

// differing leaves out what two sets, or two maps, have alike.
func differing(was, is any) (any, any, bool) {
	switch a := was.(type) {
	case Set:
		if b, ok := is.(Set); ok && len(a) > 0 && len(b) > 0 {
			return onlyIn(a, b), onlyIn(b, a), true
		}
	case map[string]any:
		b, ok := is.(map[string]any)
		if !ok || len(a) == 0 || len(b) == 0 {
			break
		}
		x, y := make(map[string]any), make(map[string]any)
		for name, v := range a {
			if w, both := b[name]; !both || !bytes.Equal(canonical(v), canonical(w)) {
				x[name] = v
			}
		}
		for name, w := range b {
			if v, both := a[name]; !both || !bytes.Equal(canonical(v), canonical(w)) {
				y[name] = w
			}
		}
		return x, y, true
	}
	return was, is, false
}

// filled leaves out what is nothing of the elements of a set: a rule has a dozen
// such fields.
func filled(v any) any {
	set, ok := v.(Set)
	if !ok {
		return v
	}
	out := make(Set, len(set))
	for i, e := range set {
		m, ok := e.(map[string]any)
		if !ok {
			out[i] = e
			continue
		}
		some := make(map[string]any)
		for name, value := range m {
			if value != nil {
				some[name] = value
			}
		}
		out[i] = some
	}
	return out
}

// onlyIn are the elements of a that b has not.
func onlyIn(a, b Set) Set {
	seen := make(map[string]bool, len(b))
	for _, v := range b {
		seen[string(canonical(v))] = true
	}
	var out Set
	for _, v := range a {
		if !seen[string(canonical(v))] {
			out = append(out, v)
		}
	}
	return out
}

func showContent(c Content) string {
	if c.Size < 0 {
		return strings.TrimSpace("unknown size " + c.Sum)
	}
	return strings.TrimSpace(fmt.Sprintf("%d bytes %s", c.Size, c.Sum))
}

// Show is a field's value for people: one line, of at most 200 bytes.
func Show(v any) string {
	text := show(v)
	if len(text) <= valueLimit {
		return text
	}
	return strings.ToValidUTF8(text[:valueLimit-3], "") + "..."
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return fmt.Sprintf("%q", v)
	case Ref:
		return v.String()
	case Set:
		return "{" + showAll(v) + "}"
	case []any:
		return "[" + showAll(v) + "]"
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			names[i] = name + ": " + show(v[name])
		}
		return "{" + strings.Join(names, ", ") + "}"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

func showAll(all []any) string {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = show(v)
	}
	return strings.Join(texts, ", ")
}
