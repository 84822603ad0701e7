package syncer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Fields are what is kept alike of an object. Values are nil, bool, string,
// int, int64, float64, []any, Set, map[string]any and Ref.
type Fields map[string]any

// Set is a list whose order says nothing.
type Set []any

// Ref refers to another object of the same side.
type Ref struct {
	Key
	// Weak: the object may be created without; what holds the Ref (the element
	// of the innermost list or set, or the field) is left out until then. A
	// security group's rule that names another group is an example.
	Weak bool
}

// Want is an object of the source in terms of the target.
type Want struct {
	Natural []any
	Fields  Fields
	Within  Key
	// Needs are the objects of the source that have none at the target yet.
	Needs []Key
	// Later are those that were left out, for now.
	Later []Key
}

// Translate puts what an object refers to in terms of the other side. to knows
// the key at the other side, if there is one.
func Translate(o *Object, to func(Key) (Key, bool)) Want {
	t := translation{to: to}
	w := Want{Fields: make(Fields, len(o.Fields))}
	for _, name := range slices.Sorted(maps.Keys(o.Fields)) {
		if v, kept := t.value(o.Fields[name]); kept {
			w.Fields[name] = v
		}
	}
	if o.Natural != nil {
		w.Natural = make([]any, len(o.Natural))
		for i, v := range o.Natural {
			w.Natural[i], _ = t.value(v)
		}
	}
	if o.Within != (Key{}) {
		var ok bool
		if w.Within, ok = to(o.Within); !ok {
			t.needs = append(t.needs, o.Within)
		}
	}
	w.Needs, w.Later = unique(t.needs), unique(t.later)
	return w
}

func unique(keys []Key) []Key {
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}

type translation struct {
	to           func(Key) (Key, bool)
	needs, later []Key
}

// value translates v; false: it is to be left out for now.
func (t *translation) value(v any) (any, bool) {
	switch v := v.(type) {
	case Ref:
		key, ok := t.to(v.Key)
		switch {
		case ok:
			return Ref{Key: key, Weak: v.Weak}, true
		case v.Weak:
			t.later = append(t.later, v.Key)
			return nil, false
		}
		t.needs = append(t.needs, v.Key)
		return v, true
	case []any:
		return t.list(v), true
	case Set:
		return Set(t.list(v)), true
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			e, kept := t.value(v[name])
			if !kept {
				return nil, false // what holds the Ref goes with it
			}
			out[name] = e
		}
		return out, true
	}
	return v, true
}

func (t *translation) list(in []any) []any {
	out := make([]any, 0, len(in))
	for _, e := range in {
		if v, kept := t.value(e); kept {
			out = append(out, v)
		}
	}
	return out
}

func (f Fields) refs(found func(Ref)) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		walkRefs(f[name], found)
	}
}

func walkRefs(v any, found func(Ref)) {
	switch v := v.(type) {
	case Ref:
		found(v)
	case []any:
		for _, e := range v {
			walkRefs(e, found)
		}
	case Set:
		for _, e := range v {
			walkRefs(e, found)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			walkRefs(v[name], found)
		}
	}
}

// Diff names the fields in which two objects differ, in order.
func Diff(a, b Fields) []string {
	var names []string
	for name, v := range a {
		w, there := b[name]
		if !there || !bytes.Equal(canonical(v), canonical(w)) {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, there := a[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Hash is the same for fields and content that say the same: whatever the order
// of maps and Sets, and whether a Ref is weak.
func Hash(f Fields, c Content) string {
	h := sha256.New()
	h.Write(canonical(map[string]any(f)))
	fmt.Fprintf(h, "|%d|%s", c.Size, c.Sum)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// NaturalKey is a natural key as one string, which can be compared; empty if
// there is none.
func NaturalKey(kind Kind, natural []any) string {
	if natural == nil {
		return ""
	}
	return string(kind) + string(canonical(natural))
}

// canonical writes a value so that equal values are equal bytes.
func canonical(v any) []byte { return appendCanonical(nil, v) }

func appendCanonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return strconv.AppendQuote(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case json.Number: // "1.0" of one service is 1 of another
		if n, err := v.Int64(); err == nil {
			return strconv.AppendInt(b, n, 10)
		}
		if f, err := v.Float64(); err == nil {
			return appendCanonical(b, f)
		}
		return strconv.AppendQuote(b, v.String())
	case float64:
		// A number is the same whether it was read as a float or not.
		if n := int64(v); float64(n) == v {
			return strconv.AppendInt(b, n, 10)
		}
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case Ref:
		b = append(b, '@')
		b = appendCanonical(b, string(v.Kind))
		return appendCanonical(b, v.ID)
	case Fields:
		return appendCanonical(b, map[string]any(v))
	case []any:
		b = append(b, '[')
		for _, e := range v {
			b = append(appendCanonical(b, e), ',')
		}
		return append(b, ']')
	case Set:
		all := make([][]byte, len(v))
		for i, e := range v {
			all[i] = canonical(e)
		}
		slices.SortFunc(all, bytes.Compare)
		b = append(b, '{')
		for _, e := range all {
			b = append(append(b, e...), ',')
		}
		return append(b, '}')
	case map[string]any:
		b = append(b, '(')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b = appendCanonical(b, name)
			b = append(appendCanonical(append(b, ':'), v[name]), ',')
		}
		return append(b, ')')
	}
	// Another type, as []string: by its JSON, which is as good for comparing.
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Appendf(b, "%#v", v)
	}
	return append(b, text...)
}
