package sim

import (
	"reflect"
	"testing"
)

// FuzzSchedule: a schedule that is read is one that can be written, and is the
// same when it is read again.
func FuzzSchedule(f *testing.F) {
	for seed := range uint64(6) {
		s := Generate(seed)
		s.Faults = s.Faults[:min(len(s.Faults), 8)]
		data, err := s.JSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSchedule(data)
		if err != nil {
			return
		}
		out, err := s.JSON()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", s, err)
		}
		back, err := ParseSchedule(out)
		if err != nil || !reflect.DeepEqual(s, back) {
			t.Fatalf("%+v became %+v, %v", s, back, err)
		}
		_ = s.Literal()
	})
}
