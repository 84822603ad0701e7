// Package openstack is the kinds of objects of an OpenStack cloud, as a side of
// package syncer: what each is made of, what of it is kept alike, how it is
// found again, and what cannot be carried.
//
// Most kinds are rows of one API and stand as data ([resource]); what a kind has
// of its own is a function beside its row. References are Refs, so that the
// engine can put them in terms of the other cloud; what a service makes up by
// itself (ids, times, states, segments) is not a field.
package openstack
