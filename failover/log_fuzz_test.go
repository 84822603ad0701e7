package failover

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/draasd/draas"
)

// FuzzEvent: an entry is read and written as encoding/json would, whichever of
// the codecs does it, and what is read of it is what would be written again.
func FuzzEvent(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		var slow Event
		slowErr := json.Unmarshal(data, &slow)
		if err != nil {
			if slowErr == nil && slow.Kind != "" && slow.By != "" && len(data) <= MaxEvent {
				t.Fatalf("%s is not read: %v", data, err)
			}
			return
		}
		if slowErr != nil || e.Kind == "" || e.By == "" || e.Index != 0 {
			t.Fatalf("accepted %+v, encoding/json: %v", e, slowErr)
		}
		if !e.At.Equal(slow.At) {
			t.Fatalf("%s: %v, encoding/json reads %v", data, e.At, slow.At)
		}
		same := slow
		same.At = e.At // the same instant, in a zone of its own
		if !reflect.DeepEqual(e, same) {
			t.Fatalf("%s:\n%+v\nencoding/json reads\n%+v", data, e, slow)
		}
		out, err := e.Encode()
		plainly, slowErr := json.Marshal(e)
		if err != nil {
			if slowErr == nil && len(plainly) <= MaxEvent {
				t.Fatalf("%s is not written: %v", data, err)
			}
			return // longer when it is escaped, or a stamp that JSON has no form for
		}
		if slowErr != nil || !bytes.Equal(out, plainly) {
			t.Fatalf("written as\n%s\nby encoding/json as\n%s, %v", out, plainly, slowErr)
		}
		again, err := Decode(out)
		if err != nil {
			t.Fatalf("%s became %s: %v", data, out, err)
		}
		if !again.At.Equal(e.At) {
			t.Fatalf("%v became %v", e.At, again.At)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, out) {
			t.Fatalf("%s became %s, %v", out, twice, err)
		}
	})
}

// maxFuzzLog bounds the entries of one input of FuzzLog.
const maxFuzzLog = 96

// FuzzLog steps through a log, one entry a line: no entry changes the state
// that it is given, lowers an epoch, or moves a service without a higher one;
// and a member that starts from a snapshot in the middle comes to the same.
func FuzzLog(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, at byte) {
		var log []Event
		for line := range bytes.Lines(data) {
			if e, err := Decode(bytes.TrimSuffix(line, []byte("\n"))); err == nil && len(log) < maxFuzzLog {
				e.Index = uint64(len(log) + 1)
				log = append(log, e)
			}
		}
		if len(log) == 0 {
			return
		}
		cut := int(at) % len(log)
		states := []State{{}}
		texts := [][]byte{stateText(t, &states[0])}
		var actions []Action
		for i, e := range log {
			before := states[i]
			next, due := Step(before, e)
			neverBack(t, &before, &next, e)
			states, texts = append(states, next), append(texts, stateText(t, &next))
			if i >= cut {
				actions = append(actions, due...)
			}
		}
		for i := range states {
			if now := stateText(t, &states[i]); !bytes.Equal(now, texts[i]) {
				t.Fatalf("the state after %d entries was changed by a later one:\n%s\n%s", i, texts[i], now)
			}
		}
		var s State
		if err := json.Unmarshal(texts[cut], &s); err != nil {
			t.Fatalf("the state cannot be read: %v\n%s", err, texts[cut])
		}
		var same []Action
		for _, e := range log[cut:] {
			var due []Action
			s, due = Step(s, e)
			same = append(same, due...)
		}
		if got := stateText(t, &s); !bytes.Equal(got, texts[len(log)]) {
			t.Fatalf("from the snapshot after %d of %d entries:\n%s\nby the log:\n%s", cut, len(log), got, texts[len(log)])
		}
		if !reflect.DeepEqual(text(t, same), text(t, actions)) {
			t.Fatalf("from the snapshot after %d entries:\n%s\nby the log:\n%s", cut, text(t, same), text(t, actions))
		}
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("it cannot be written: %v", err)
	}
	return string(data)
}

func stateText(t *testing.T, s *State) []byte {
	t.Helper()
	return []byte(text(t, s))
}

// neverBack holds what no entry may do to a service.
func neverBack(t *testing.T, before, next *State, e Event) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(before.Services)) {
		was, is := before.Services[id], next.Services[id]
		switch {
		case is == nil:
			t.Fatalf("%s: %s is forgotten, and its epoch %d", e.Kind, id, was.Epoch)
		case is.Epoch == was.Epoch && next.Policy.Services[id].Sites == nil:
			continue // the rules have it no more
		case is.Epoch < was.Epoch || is.Epoch == was.Epoch && is.Active != was.Active:
			t.Fatalf("%s: %s went from %s, epoch %d, to %s, epoch %d", e.Kind, id, was.Active, was.Epoch, is.Active, is.Epoch)
		case is.Epoch != was.Epoch && (e.Kind != EventActivate || e.By != is.Active.Member()):
			t.Fatalf("%s by %s gave epoch %d of %s to %s", e.Kind, e.By, is.Epoch, id, is.Active)
		case is.Epoch == was.Epoch && was.Revoked && !is.Revoked:
			t.Fatalf("%s: the revoked permit of %s, epoch %d, is in force again", e.Kind, id, is.Epoch)
		}
		if is.Epoch == was.Epoch {
			neverTurnsBack(t, id, was, is, e)
		}
		for part, entry := range is.Entries {
			if _, has := next.rules(id).way(part, entry.Site); !has && len(next.rules(id).Ways[part]) > 0 {
				t.Fatalf("%s: %s is entered at %s, where it has no frontend", e.Kind, part, entry.Site)
			}
		}
	}
	if next.Generation < before.Generation {
		t.Fatalf("%s: generation %d after %d", e.Kind, next.Generation, before.Generation)
	}
}

// neverTurnsBack: within an epoch a name that has led somewhere leads elsewhere
// only under a later turn.
func neverTurnsBack(t *testing.T, id draas.ServiceID, was, is *ServiceState, e Event) {
	t.Helper()
	for part, old := range was.Entries {
		entry, has := is.Entries[part]
		if !has {
			entry = Entry{Site: is.Active}
		}
		if entry.Turn < old.Turn || entry.Turn == old.Turn && entry.Site != old.Site {
			t.Fatalf("%s: users of %s entered at %s by turn %d, then at %s by turn %d (%s)", e.Kind, part, old.Site, old.Turn, entry.Site, entry.Turn, id)
		}
	}
}
