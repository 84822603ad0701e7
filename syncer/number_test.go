package syncer

import (
	"encoding/json"
	"testing"
)

// Numbers are compared as such, however a service writes them.
func TestNumbers(t *testing.T) {
	same := []any{1, int64(1), 1.0, json.Number("1"), json.Number("1.0"), json.Number("1e0")}
	for _, a := range same {
		for _, b := range same {
			if names := Diff(Fields{"n": a}, Fields{"n": b}); len(names) > 0 {
				t.Errorf("%T %v differs from %T %v", a, a, b, b)
			}
		}
		for _, other := range []any{"1", json.Number("1.5"), 2, nil, true} {
			if len(Diff(Fields{"n": a}, Fields{"n": other})) == 0 {
				t.Errorf("%T %v is the same as %T %v", a, a, other, other)
			}
		}
	}
}
