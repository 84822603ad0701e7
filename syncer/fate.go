package syncer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// leftOut is why nothing stands for what a filter keeps away.
const leftOut = "a filter leaves it out"

// fate of an object of the source.
func (s *survey) fate(key Key) fate {
	s.mu.Lock()
	f := s.known[key]
	if f != nil {
		defer s.mu.Unlock()
		return *f
	}
	s.mu.Unlock()
	k := s.byKind[key.Kind]
	if k == nil {
		return fate{state: none, why: "no side knows such a kind"}
	}
	r, found, err := s.e.Store.Record(key)
	switch {
	case err != nil:
		return fate{state: none, why: err.Error()}
	case found && r.Target != "" && (k.done || !s.looks(k)):
		return fate{state: exists, id: r.Target}
	case k.missing != "":
		return fate{state: none, why: k.missing}
	case k.left:
		return fate{state: none, why: leftOut}
	case !k.done:
		return fate{state: undecided, id: r.Target}
	case len(k.unknown) > 0:
		return fate{state: none, why: "it was not seen at the source: " + k.unknown[0]}
	}
	return fate{state: none, why: "the source does not have it"}
}

// fresh is the id of what is not there yet, for people.
const fresh = "(new) "

// to is the translation while nothing is written: what is to be created has
// an id that no other has.
func (s *survey) to(key Key) (Key, bool) {
	switch f := s.fate(key); f.state {
	case exists:
		return Key{key.Kind, f.id}, true
	case coming:
		return Key{key.Kind, fresh + key.ID}, true
	case undecided:
		return Key{key.Kind, f.id}, f.id != ""
	}
	return Key{}, false
}

func (s *survey) setFate(key Key, f fate) {
	s.mu.Lock()
	s.known[key] = &f
	s.mu.Unlock()
	s.work = append(s.work, s.waiting[key]...)
	delete(s.waiting, key)
}

// bound tells which ids at the target stand for keys.
func bound(keys []Key, to func(Key) (Key, bool)) string {
	if len(keys) == 0 {
		return ""
	}
	ids := make([]byte, 0, 256)
	for _, k := range keys {
		id, _ := to(k)
		ids = append(append(ids, id.ID...), 0)
	}
	sum := sha256.Sum256(ids)
	return hex.EncodeToString(sum[:8])
}

// whyNeeds names what is needed, and why it is not there.
func (s *survey) whyNeeds(keys []Key) string {
	var whys []string
	for i, k := range keys {
		if i == 3 && len(keys) > 4 {
			whys = append(whys, fmt.Sprintf("and %d more", len(keys)-i))
			break
		}
		f := s.fate(k)
		if f.state == undecided {
			f.why = "it needs this one itself, or cannot be decided"
		}
		whys = append(whys, k.String()+" ("+f.why+")")
	}
	return "needs " + strings.Join(whys, ", ")
}
