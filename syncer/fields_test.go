package syncer

import (
	"reflect"
	"strings"
	"testing"
)

func TestSameValues(t *testing.T) {
	ref := func(id string, weak bool) Ref { return Ref{Key{"net", id}, weak} }
	for _, tt := range []struct {
		a, b any
		same bool
	}{
		{nil, nil, true}, {nil, "", false}, {nil, false, false}, {"", "null", false},
		{1, int64(1), true}, {1, 1.0, true}, {1.5, 1.5, true}, {1, 1.5, false}, {1, "1", false}, {true, "true", false},
		{1e300, 1e300, true}, {1e300, -1e300, false},
		{[]any{1, 2}, []any{1, 2}, true}, {[]any{1, 2}, []any{2, 1}, false}, {[]any{1}, Set{1}, false},
		{Set{1, 2}, Set{2, 1}, true}, {Set{1, 1}, Set{1}, false}, {Set{"a,b"}, Set{"a", "b"}, false},
		{map[string]any{"a": 1, "b": 2}, map[string]any{"b": 2, "a": 1}, true},
		{map[string]any{"a": 1}, map[string]any{"a": 1, "b": nil}, false},
		{ref("a", true), ref("a", false), true}, {ref("a", false), ref("b", false), false}, {ref("a", false), "a", false},
		{Fields{"a": 1}, map[string]any{"a": 1}, true},
		{[]string{"a"}, []string{"a"}, true}, {[]string{"a"}, []string{"b"}, false},
	} {
		diff := Diff(Fields{"x": tt.a}, Fields{"x": tt.b})
		hash := Hash(Fields{"x": tt.a}, Content{}) == Hash(Fields{"x": tt.b}, Content{})
		if (len(diff) == 0) != tt.same || hash != tt.same {
			t.Errorf("%#v and %#v: %q, same hash %t", tt.a, tt.b, diff, hash)
		}
	}
	if d := Diff(Fields{"a": 1, "b": 2, "d": 0}, Fields{"b": 3, "c": nil, "d": 0}); strings.Join(d, ",") != "a,b,c" {
		t.Errorf("%q", d)
	}
	if Hash(nil, Content{1, "x"}) == Hash(nil, Content{2, "x"}) || Hash(nil, Content{1, "x"}) == Hash(nil, Content{1, "y"}) {
		t.Error("the content is not in the hash")
	}
	if NaturalKey("a", nil) != "" || NaturalKey("a", []any{}) == "" || NaturalKey("a", []any{"x"}) == NaturalKey("b", []any{"x"}) {
		t.Error("natural keys")
	}
}

func TestTranslate(t *testing.T) {
	to := func(k Key) (Key, bool) {
		return Key{k.Kind, strings.ToUpper(k.ID)}, k.ID != "x" && k.ID != "y"
	}
	strong := func(id string) Ref { return Ref{Key{"net", id}, false} }
	weak := func(id string) Ref { return Ref{Key{"net", id}, true} }
	o := &Object{
		Key: Key{"thing", "1"}, Within: Key{"box", "b"}, Natural: []any{strong("a"), "name"},
		Fields: Fields{
			"plain": "p", "ref": strong("a"), "gone": weak("x"), "need": strong("y"),
			"list": []any{weak("a"), weak("x"), 1},
			"set":  Set{map[string]any{"port": 1, "from": weak("x")}, map[string]any{"port": 2, "from": weak("b")}},
			"deep": map[string]any{"in": []any{map[string]any{"to": weak("x")}, "stays"}},
		},
	}
	w := Translate(o, to)
	want := Want{
		Natural: []any{strong("A"), "name"}, Within: Key{"box", "B"},
		Fields: Fields{
			"plain": "p", "ref": strong("A"), "need": strong("y"), "list": []any{weak("A"), 1},
			"set":  Set{map[string]any{"port": 2, "from": weak("B")}},
			"deep": map[string]any{"in": []any{"stays"}},
		},
		Needs: []Key{{"net", "y"}}, Later: []Key{{"net", "x"}},
	}
	if !reflect.DeepEqual(w, want) {
		t.Errorf("%+v\nwant %+v", w, want)
	}
	if refs := o.Refs(); !reflect.DeepEqual(refs, []Key{{"box", "b"}, {"net", "a"}, {"net", "b"}, {"net", "x"}, {"net", "y"}}) {
		t.Errorf("%v", refs)
	}
	o.Within = Key{"box", "x"}
	if w := Translate(o, to); len(w.Needs) != 2 {
		t.Errorf("%v", w.Needs)
	}
	if o.Fields["gone"] != any(weak("x")) {
		t.Error("the object was changed")
	}
}

func TestShow(t *testing.T) {
	for want, v := range map[string]any{
		`none`: nil, `"a\nb"`: "a\nb", `1`: 1, `true`: true, `net n`: Ref{Key{"net", "n"}, true},
		`{1, 2}`: Set{1, 2}, `[1, "x"]`: []any{1, "x"}, `{a: 1, b: {}}`: map[string]any{"b": Set{}, "a": 1}, `["x"]`: []string{"x"},
	} {
		if got := Show(v); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if got := Show(strings.Repeat("ä", 500)); len(got) > valueLimit || !strings.HasSuffix(got, "ä...") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := showContent(Content{-1, "md5:x"}); got != "unknown size md5:x" {
		t.Error(got)
	}
}

func TestUnited(t *testing.T) {
	for _, tt := range []struct{ want, have, united any }{
		{1, 2, 1}, {nil, 2, nil}, {Set{1}, Set{2, 1}, Set{1, 2}}, {Set{1}, "x", Set{1}}, {[]any{1}, []any{1, 2}, []any{1, 2}}, {[]any{1}, Set{2}, []any{1}},
		{map[string]any{"a": 1, "s": Set{1}}, map[string]any{"a": 2, "b": 3, "s": Set{2}}, map[string]any{"a": 1, "b": 3, "s": Set{1, 2}}},
		{map[string]any{"a": 1}, 7, map[string]any{"a": 1}},
	} {
		if got := united(tt.want, tt.have); !reflect.DeepEqual(got, tt.united) {
			t.Errorf("%v and %v: %v", tt.want, tt.have, got)
		}
	}
}
