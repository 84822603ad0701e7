package syncer

import (
	"reflect"
	"testing"
	"time"
)

// FuzzRecord: what is read from the file means the same when it is written and
// read again.
func FuzzRecord(f *testing.F) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, r := range []Record{
		{Key: Key{"image", "i"}, Target: "t", Intent: true, Content: Content{-1, "md5:x"}, Applied: noon},
		{Key: Key{"object", "c/ä"}, Within: Key{"container", "c"}, Needs: []Key{{"a", "b"}, {"container", "c"}}, Missed: 2, Gone: noon, Next: noon.Add(1)},
	} {
		raw, err := encodeRecord(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)-1])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r, again Record
		if decodeRecord(raw, &r) != nil {
			return
		}
		out, err := encodeRecord(r)
		if err != nil {
			return // it is refused before it is written
		}
		if err := decodeRecord(out, &again); err != nil {
			t.Fatal(err)
		}
		back, err := encodeRecord(again)
		if err != nil || string(back) != string(out) || !reflect.DeepEqual(again, r) {
			t.Errorf("%s\n%s, %v", out, back, err)
		}
		k := recordKey(r.Key)
		if kind, id := parts(k); kind != string(r.Key.Kind) || id != r.Key.ID {
			t.Errorf("%q is the key of %q, and says %q, %q", k, r.Key, kind, id)
		}
		if !reflect.DeepEqual(unescape(escape(r.Target)), r.Target) {
			t.Errorf("%q", r.Target)
		}
	})
}

func parts(k []byte) (kind, id string) {
	for i, b := range k {
		if b == 0 {
			return unescape(string(k[:i])), unescape(string(k[i+1:]))
		}
	}
	return "", ""
}
