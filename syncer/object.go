package syncer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// Kind is a sort of object, as "network" or "image".
type Kind string

// Key names an object of one side. An ID is unique among the objects of its
// kind at its side.
type Key struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`
}

// String is for people.
func (k Key) String() string { return string(k.Kind) + " " + k.ID }

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

// Stance is what may be done about an object at the target.
type Stance uint8

const (
	// Carried objects are created, changed and deleted.
	Carried Stance = iota
	// Adopted objects exist at the target by themselves, as a project's quota or
	// its default security group: changed, but never created or deleted.
	Adopted
	// Given objects exist at both sides by themselves and are only referred to,
	// as the role "admin".
	Given
	// Outside objects are mapped by the operator, as external networks.
	Outside
)

// Traits are what the engine has to know of a kind.
type Traits struct {
	Kind Kind
	// Within is the kind whose objects hold those of this one, which are then
	// listed one holder at a time: so that no listing has to fit in memory.
	Within Kind
	// Ordered kinds are within others, their ids begin with the holder's, and what
	// stands for one has the same behind that; listings come in that order. They
	// are compared as they come.
	Ordered bool
	// Marked kinds keep a Marker in each object at the target. What was created
	// of the others is known by the store alone.
	Marked bool
	// Unique kinds cannot have two objects of one natural key.
	Unique bool
	// Body: objects have content beside their fields.
	Body bool
	// Fixed are the fields that cannot be changed in place.
	Fixed []string
	// Replaced objects whose fixed fields have changed are deleted and created
	// anew. The others are reported.
	Replaced bool
	// Slow kinds cost requests per object even when nothing has changed: they are
	// looked at by audits, and where an object is new.
	Slow bool
}

// Object is what one side holds of one object.
type Object struct {
	Key
	// Within is what holds it, of its kind's Traits.Within; else empty.
	Within Key
	Stance Stance
	// Name is what people call it, with what it stands in: "acme/web".
	Name string
	// Project is the id of the project at this side, for filters.
	Project string
	Tags    []string
	// Natural is what people or the service tell it from others by: strings,
	// and Refs to objects of this side. Nil: nothing does.
	Natural []any
	// Revision differs whenever anything has changed since. Empty: not known.
	Revision string
	// Fields are what is kept alike: nil when they were not read. See Fields.
	Fields Fields
	// Content describes the body, for kinds that have one.
	Content Content
	// Marker is what stands in an object at the target.
	Marker Marker
	// Unsupported says why this object cannot be carried at all. Empty: it can.
	Unsupported string
	// Lost names what of it cannot be carried, as "password".
	Lost []string
	// Whole gives the object with its Fields as List has seen it, where that has
	// them and has not taken them apart yet: nil where only Read can tell.
	Whole func() (Object, error)
}

// Content describes a body. A sum that is not known is empty.
type Content struct {
	Size int64  `json:"size,omitempty"` // bytes; -1: not known
	Sum  string `json:"sum,omitempty"`  // algorithm:hex, as "sha512:..."
}

// Marker stands in an object at the target and says where it came from.
type Marker struct {
	Site string `json:"site"` // at which the source was: its SiteWord
	ID   string `json:"id"`   // at the source
}

// longestWord is what of a site's name has a place in every marker, in bytes: where
// there is least, 60 are left for it, an ID of 36 and what stands between.
const longestWord = 17

// SiteWord is a site's name as markers bear it: the name, or where that is too
// long its beginning and a hash. That of a word is the word.
func SiteWord(site string) string {
	if len(site) <= longestWord {
		return site
	}
	sum := sha256.Sum256([]byte(site))
	return site[:longestWord-9] + "~" + hex.EncodeToString(sum[:4])
}

// IsZero tells whether nothing stands there.
func (m Marker) IsZero() bool { return m == Marker{} }

// Listing is what a listing says of itself.
type Listing struct {
	// Complete: every object of the kind was given, as far as the service can be
	// believed. Only then does what is missing count as gone.
	Complete bool
	// At is the service's own clock when the listing began. What changed before
	// is in it, but for changes within one tick of the clock.
	At time.Time
}

// Refs are the keys that an object refers to, each once, in order.
func (o *Object) Refs() []Key {
	var keys []Key
	walkRefs(o.Natural, func(r Ref) { keys = append(keys, r.Key) })
	o.Fields.refs(func(r Ref) { keys = append(keys, r.Key) })
	if o.Within != (Key{}) {
		keys = append(keys, o.Within)
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}
