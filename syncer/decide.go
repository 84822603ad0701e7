package syncer

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verb is what is to be done about an object, or why nothing is.
type Verb string

// What is to be done.
const (
	Create  Verb = "create"
	Update  Verb = "update"
	Replace Verb = "replace" // delete and create: what changed cannot be changed in place
	Delete  Verb = "delete"
	Adopt   Verb = "adopt"  // take into the records an object that is alike
	Forget  Verb = "forget" // drop the record
)

// Why nothing is done.
const (
	Unchanged   Verb = "unchanged"
	Drift       Verb = "drift"       // the target was changed by others
	Conflict    Verb = "conflict"    // both were, or the name belongs to another
	Blocked     Verb = "blocked"     // it needs another object, or a mapping
	Unsupported Verb = "unsupported" // it cannot be carried
	Held        Verb = "held"        // by the grace or the brake
)

// Acts tells whether anything is done at the target.
func (v Verb) Acts() bool {
	return v == Create || v == Update || v == Replace || v == Delete
}

// Policy is what the operator wants of a kind.
type Policy struct {
	// Overwrite what others have changed at the target; else it is reported.
	Overwrite bool
	// Adopt an object of another's that has the same natural key, and make it
	// alike; it is never deleted.
	Adopt bool
	// Rename makes ours beside it, under another name.
	Rename bool
	// Keep objects at the target that are gone at the source.
	Keep bool
	// Missing is how many complete listings in a row must miss an object, and
	// Grace for how long, until it is deleted.
	Missing int
	Grace   time.Duration
}

// Case is all that is known of one object.
type Case struct {
	Traits Traits
	Policy Policy
	Record *Record // nil: nothing was written yet
	Source *Object // nil: gone, by a complete listing
	Want   Want    // Source in terms of the target
	// Target is the object of the record, or the one that bears Source's marker.
	Target *Object
	// Marker is what Target bears if it was created here.
	Marker Marker
	// Original: Source was once made after Target, when the direction was the
	// other one. Then Target is not ours.
	Original bool
	// Other is an object at the target with Want's natural key that is not Target.
	Other *Object
	Now   time.Time
}

// Decision is what is to be done, and why.
type Decision struct {
	Verb   Verb
	Reason string
	// Fields are those that differ, "" for the content.
	Fields []string
	// Have is what it is done to: Target, or Other where that is taken over.
	Have *Object
	// Created is what the record is to say.
	Created bool
	// Rename: under another name.
	Rename bool
	// Overwrites what others have done at the target.
	Overwrites bool
}

// Decide compares source now, target now and what was written last. It is pure.
func Decide(c Case) Decision {
	if c.Source == nil {
		return c.gone()
	}
	if why := c.Source.Unsupported; why != "" {
		return Decision{Verb: Unsupported, Reason: why, Have: c.Target}
	}
	if c.Source.Stance == Outside {
		return Decision{Verb: Blocked, Reason: "no mapping says what stands for it"}
	}
	if len(c.Want.Needs) > 0 {
		return Decision{Verb: Blocked, Reason: "needs " + listKeys(c.Want.Needs), Have: c.Target}
	}
	switch {
	case c.Record == nil || c.Record.Target == "":
		return c.fresh()
	case c.Target == nil:
		return c.lost()
	}
	return c.both()
}

// differ names the fields in which the target is not as wanted.
func (c Case) differ(have *Object) []string {
	names := Diff(c.Want.Fields, have.Fields)
	if c.Traits.Body && !c.sameContent(have) {
		names = append([]string{""}, names...)
	}
	return names
}

// sameContent compares what both sides know of the content. Where they sum it
// differently, what they said when it was written last tells whether it has
// changed since.
func (c Case) sameContent(have *Object) bool {
	a, b := c.Source.Content, have.Content
	r := c.Record
	switch {
	case summed(a, b):
		return a.Sum == b.Sum
	case r != nil && !r.Applied.IsZero() && r.Target == have.ID:
		return a == r.Content && b == r.Landed
	}
	return a.Size < 0 || b.Size < 0 || a.Size == b.Size
}

// summed tells whether both sums are known, and of one algorithm.
func summed(a, b Content) bool {
	return a.Sum != "" && b.Sum != "" && algorithm(a.Sum) == algorithm(b.Sum)
}

func algorithm(sum string) string {
	name, _, _ := strings.Cut(sum, ":")
	return name
}

// fresh: nothing was written yet, or nobody knows.
func (c Case) fresh() Decision {
	switch {
	case c.Target != nil:
		// It bears our marker: the store was lost, or the Create's end not seen.
		return c.found(c.Target, !c.Original && c.Source.Stance == Carried)
	case c.Other == nil && c.Source.Stance == Carried:
		return Decision{Verb: Create, Created: true}
	case c.Other == nil && c.Source.Stance == Adopted:
		// It comes with what it stands in, which is not there yet.
		return Decision{Verb: Create, Reason: "comes with what it belongs to"}
	case c.Other == nil:
		return Decision{Verb: Blocked, Reason: "the target has nothing of that name, and it is not to be created"}
	case c.intent() && (c.Traits.Unique || !c.Traits.Marked) && c.Source.Stance == Carried:
		// Begun by us, and its end not seen. A marker may not have been set yet.
		return c.found(c.Other, true)
	case c.Source.Stance == Given:
		return Decision{Verb: Adopt, Reason: "exists at both sites", Have: c.Other}
	case c.Source.Stance == Adopted:
		return c.take("exists at both sites")
	case c.Traits.Unique && len(c.differ(c.Other)) == 0:
		return Decision{Verb: Adopt, Reason: "was there already, and alike", Have: c.Other}
	case c.Policy.Adopt:
		return c.take("was there already")
	case c.Policy.Rename:
		return Decision{Verb: Create, Reason: "the name belongs to " + c.Other.ID, Rename: true, Created: true}
	}
	return Decision{Verb: Conflict, Reason: fmt.Sprintf("the name belongs to %s, which draas did not make", c.Other.ID),
		Fields: c.differ(c.Other), Have: c.Other}
}

// take makes an object of another's alike.
func (c Case) take(why string) Decision {
	d := c.change(c.Other, why)
	d.Created = false
	return d
}

// found: ours, but what was written last is not known.
func (c Case) found(have *Object, created bool) Decision {
	names := c.differ(have)
	why := "made by us before"
	if !created {
		why = "was at both sites before"
	}
	switch {
	case len(names) == 0 && created && c.Traits.Marked && have.Marker.IsZero():
		return Decision{Verb: Update, Reason: why + ", but for the marker", Have: have, Created: created}
	case len(names) == 0:
		return Decision{Verb: Adopt, Reason: why, Have: have, Created: created}
	case c.intent():
		d := c.change(have, why)
		d.Created = created
		return d
	case c.Policy.Overwrite:
		d := c.change(have, why)
		d.Created, d.Overwrites = created, true
		return d
	}
	return Decision{Verb: Conflict, Reason: why + ", but what was written last is not known any more",
		Fields: names, Have: have, Created: created}
}

// change makes have as wanted, if that can be done in place.
func (c Case) change(have *Object, why string) Decision {
	names := c.differ(have)
	if len(names) == 0 {
		return Decision{Verb: Adopt, Reason: why + ": alike already", Have: have, Created: c.created()}
	}
	d := Decision{Verb: Update, Reason: why, Fields: names, Have: have, Created: c.created()}
	rest, fixed := c.Traits.part(names)
	switch {
	case len(fixed) == 0:
	case c.Traits.Replaced && c.created():
		d.Verb = Replace
	case len(rest) == 0:
		d.Verb, d.Reason = Unsupported, unchangeable(fixed)
	default: // the others are carried
		d.Fields, d.Reason = rest, why+"; "+unchangeable(fixed)
	}
	return d
}

// part parts fields that differ into those that can be changed in place and
// those that cannot. With content that cannot be changed nothing can: what the
// fields say may be of it.
func (t Traits) part(names []string) (rest, fixed []string) {
	if slices.Contains(names, "") && slices.Contains(t.Fixed, "") {
		return nil, names
	}
	for _, name := range names {
		if slices.Contains(t.Fixed, name) {
			fixed = append(fixed, name)
		} else {
			rest = append(rest, name)
		}
	}
	return rest, fixed
}

func unchangeable(fixed []string) string {
	shown := slices.Clone(fixed)
	if i := slices.Index(shown, ""); i >= 0 {
		shown[i] = "the content"
	}
	return strings.Join(shown, ", ") + " cannot be changed in place"
}

func (c Case) created() bool { return c.Record != nil && c.Record.Created }
func (c Case) intent() bool  { return c.Record != nil && c.Record.Intent }

// lost: somebody else deleted it at the target.
func (c Case) lost() Decision {
	switch {
	case c.Source.Stance == Given && c.Other != nil:
		return Decision{Verb: Adopt, Reason: "made anew at the target", Have: c.Other}
	case c.Source.Stance == Adopted && c.Other != nil:
		return c.take("made anew at the target")
	case c.Source.Stance != Carried:
		return Decision{Verb: Drift, Reason: "gone at the target, and it is not to be created"}
	case !c.Policy.Overwrite && !c.Record.Intent:
		return Decision{Verb: Drift, Reason: "deleted at the target by others"}
	case c.Other != nil:
		return Decision{Verb: Conflict, Reason: "deleted at the target by others, and the name belongs to " + c.Other.ID, Have: c.Other}
	case c.Record.Intent:
		return Decision{Verb: Create, Reason: "begun before", Created: true}
	}
	return Decision{Verb: Create, Reason: "deleted at the target by others", Created: true, Overwrites: true}
}

// both sides have it, and it was written before.
func (c Case) both() Decision {
	if c.Source.Stance == Given {
		return Decision{Verb: Unchanged, Have: c.Target, Created: c.created()}
	}
	source := Hash(c.Want.Fields, c.Source.Content) != c.Record.SourceHash
	target := Hash(c.Target.Fields, c.Target.Content) != c.Record.TargetHash
	switch {
	case !source && !target:
		return Decision{Verb: Unchanged, Have: c.Target, Created: c.created()}
	case source && !target:
		return c.change(c.Target, "changed at the source")
	}
	names := c.differ(c.Target)
	switch {
	case len(names) == 0: // both came to the same
		return Decision{Verb: Adopt, Reason: "changed at both sites, to the same", Have: c.Target, Created: c.created()}
	case c.Record.Intent: // what is there may be half of ours
		return c.change(c.Target, "begun before")
	case c.Policy.Overwrite && source:
		return c.overwrite("changed at both sites")
	case c.Policy.Overwrite:
		return c.overwrite("changed at the target by others")
	case source:
		return Decision{Verb: Conflict, Reason: "changed at both sites", Fields: names, Have: c.Target, Created: c.created()}
	}
	return Decision{Verb: Drift, Reason: "changed at the target by others", Fields: names, Have: c.Target, Created: c.created()}
}

func (c Case) overwrite(why string) Decision {
	d := c.change(c.Target, why)
	d.Overwrites = true
	return d
}

// gone: the source has it no longer.
func (c Case) gone() Decision {
	r := c.Record
	if r == nil {
		return Decision{Verb: Unchanged, Have: c.Target} // not ours
	}
	d := Decision{Have: c.Target, Created: r.Created}
	switch {
	case c.Target == nil:
		d.Verb, d.Reason = Forget, "gone at both sites"
	case !r.Created:
		d.Verb, d.Reason = Forget, "gone at the source; kept, for draas did not make it"
	case c.Traits.Marked && c.Target.Marker != c.Marker:
		d.Verb, d.Reason = Conflict, "gone at the source; kept, for its marker does not say that draas made it"
	case c.Policy.Keep:
		d.Verb, d.Reason = Held, "gone at the source; kept by the policy"
	case r.Missed < c.Policy.Missing || c.Now.Before(r.Gone.Add(c.Policy.Grace)):
		d.Verb, d.Reason = Held, "gone at the source since "+r.Gone.UTC().Format(time.DateTime)
	case c.Traits.Marked && r.Intent: // what is there may be half of ours
		d.Verb, d.Reason = Delete, "gone at the source"
	case Hash(c.Target.Fields, c.Target.Content) != r.TargetHash && !c.Policy.Overwrite:
		d.Verb, d.Reason = Conflict, "gone at the source, but changed at the target by others"
	default:
		d.Verb, d.Reason = Delete, "gone at the source"
	}
	return d
}

func listKeys(keys []Key) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.String()
	}
	return strings.Join(names, ", ")
}
