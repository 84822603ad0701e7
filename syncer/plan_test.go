package syncer

import (
	"reflect"
	"testing"
)

// Of sets and maps a plan shows what differs: one rule of a hundred is found.
func TestPlanShowsWhatDiffers(t *testing.T) {
	rule := func(port int) map[string]any { return map[string]any{"port": port, "remote": nil} }
	have := &Object{Fields: Fields{"rules": Set{rule(22), rule(80)}, "meta": map[string]any{"a": "1", "b": "2"}, "list": []any{"x", "y"}, "tags": Set{}, "gone": "1"}}
	want := Want{Fields: Fields{"rules": Set{rule(80), rule(443)}, "meta": map[string]any{"a": "1", "b": "3", "c": "4"}, "list": []any{"y", "x"}, "tags": Set{"new"}, "born": "1"}}
	got := showFields(Decision{Verb: Update, Have: have, Fields: []string{"rules", "meta", "list", "tags", "gone", "born"}}, Object{}, want)
	if all := []FieldChange{
		{"rules", "{{port: 22}}", "{{port: 443}}", true}, {"meta", `{b: "2"}`, `{b: "3", c: "4"}`, true}, {"list", `["x", "y"]`, `["y", "x"]`, false},
		{"tags", "{}", `{"new"}`, false}, {"gone", `"1"`, "", false}, {"born", "", `"1"`, false},
	}; !reflect.DeepEqual(got, all) {
		t.Errorf("%+v\nwant %+v", got, all)
	}
}
