// Package syncer keeps a standby site's cloud like the active site's: what has
// changed at the source is carried to the target, and nothing else is touched.
// It knows no OpenStack: what is carried comes through [Reader] and [Writer],
// both of which package syncer/openstack is.
//
// A run lists both sides, compares source now, target now and what was written
// last ([Decide]), makes a [Plan] of it, and carries it out along the needs of
// the objects. What was written last stands in a [Store]; the target's objects
// bear a [Marker] as well, so that a lost store can be made anew.
//
// Three rules stand above all others. What could not be read is not empty:
// nothing is deleted but by complete listings of the source. Nothing is deleted
// that was not created here: the record and the marker have to say so. And an
// effect whose outcome is not known is looked for before it is repeated.
package syncer
