package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// zones have nothing that a marker could stand in: their attributes choose a
// pool of servers, and a scheduler may find none for an attribute of ours. Their
// names are unique in the whole cloud.
type zones struct{}

func (zones) traits() syncer.Traits {
	return syncer.Traits{Kind: Zone, Unique: true, Fixed: []string{"name", "type", "project"}}
}

func (zones) service() string { return designate.service }

// Types of zones.
const (
	primary   = "PRIMARY"
	secondary = "SECONDARY" // its records come from its masters
)

func zone(in row) syncer.Object {
	project, kind := in.text("project_id"), in.text("type")
	o := syncer.Object{
		Key: syncer.Key{Kind: Zone, ID: in.text("id")}, Project: project, Name: in.text("name"), Natural: []any{in.text("name")},
		Fields: syncer.Fields{"name": in.text("name"), "type": kind, "project": syncer.Ref{Key: syncer.Key{Kind: Project, ID: project}},
			"description": in.text("description"), "failing": in.text("status") == "ERROR"},
	}
	switch {
	case isOwn(project):
		o.Unsupported = "the service makes it by itself, for the names of floating addresses"
	case kind == primary:
		o.Fields["email"], o.Fields["ttl"] = in.text("email"), in.seconds("ttl")
	case kind == secondary:
		o.Fields["masters"] = textSet(in.texts("masters"))
	default:
		o.Unsupported = "of type " + kind
	}
	if len(in.row("attributes")) > 0 {
		o.Lost = append(o.Lost, "attributes, by which the service chooses its name servers")
	}
	if in.yes("shared") {
		o.Lost = append(o.Lost, "that other projects may write it")
	}
	return o
}

func (zones) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	return s.dnsRows(ctx, "zones", "zones", nil, func(in row) error { return each(zone(in)) })
}

func (zones) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	in, err := s.dnsRow(ctx, "zones/"+url.PathEscape(o.ID))
	if err != nil {
		return syncer.Object{}, err
	}
	return zone(in), nil
}

func (zones) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	name, _ := want.Fields["name"].(string)
	var found syncer.Object
	err := s.dnsRows(ctx, "zones", "zones", url.Values{"name": {name}}, func(in row) error {
		if in.text("name") == name {
			found = zone(in)
		}
		return nil
	})
	if err == nil && found.ID == "" {
		err = syncer.ErrGone
	}
	return found, err
}

// zoneBody writes the fields that are named.
func zoneBody(want syncer.Fields, fields []string) row {
	body := make(row)
	for _, name := range fields {
		switch v := want[name]; name {
		case "email", "ttl", "masters":
			if v != nil {
				body[name] = write(v)
			}
		case "description":
			body[name] = description(v)
		}
	}
	return body
}

// zoneFields are those that can be changed.
var zoneFields = []string{"email", "ttl", "masters", "description"}

func (k zones) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	project := refID(want.Fields["project"])
	body := zoneBody(want.Fields, zoneFields)
	body["name"], body["type"] = want.Fields["name"], want.Fields["type"]
	var made row
	_, err := s.callWith(ctx, designate, http.MethodPost, "zones", asProject(project), body, &made)
	if cloud.Denied(err) { // it may not act for others: then as one of them
		if e := s.callIn(ctx, project, designate, http.MethodPost, "zones", body, &made); e != nil {
			return syncer.Object{}, errors.Join(err, e)
		}
		err = nil
	}
	if err != nil {
		return syncer.Object{}, err
	}
	if made.text("id") == "" {
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("the answer has no id")}
	}
	o, err := k.served(ctx, s, made.text("id"))
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return o, nil
}

// The name servers have so long to take a zone over before a write counts as
// done; then they go on with it, and the next listing says what came of it.
const (
	servedWithin = 10 * time.Second
	firstLook    = 50 * time.Millisecond
)

// served waits until the name servers have a zone. With ERROR they do not.
func (k zones) served(ctx context.Context, s *Side, id string) (syncer.Object, error) {
	until := time.Now().Add(servedWithin)
	for look := firstLook; ; look = min(2*look, time.Second) {
		in, err := s.dnsRow(ctx, "zones/"+url.PathEscape(id))
		if err != nil {
			return syncer.Object{}, err
		}
		switch state := in.text("status"); {
		case state == "ERROR":
			return syncer.Object{}, fmt.Errorf("zone %s is there, but its name servers do not serve it: state ERROR", in.text("name"))
		case state != "PENDING" || time.Now().After(until):
			return zone(in), nil
		}
		if err := pause(ctx, look); err != nil {
			return syncer.Object{}, err
		}
	}
}

func (k zones) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, _ io.Reader) (syncer.Object, error) {
	if slices.Contains(fields, "failing") && want.Fields["failing"] == false {
		fields = zoneFields // all of it, so that the name servers are told again
	}
	body := zoneBody(want.Fields, fields)
	if len(body) > 0 {
		if _, err := s.callWith(ctx, designate, http.MethodPatch, "zones/"+url.PathEscape(have.ID), everyProject(), body, nil); err != nil {
			return syncer.Object{}, s.orGone(ctx, "zones/"+url.PathEscape(have.ID), err)
		}
	}
	return k.served(ctx, s, have.ID)
}

// remove deletes a zone that has nothing of anybody's: all in it would go with
// it. What draas has put there was deleted before.
func (zones) remove(ctx context.Context, s *Side, have syncer.Object) error {
	path := "zones/" + url.PathEscape(have.ID)
	if have.Fields["type"] != secondary {
		err := s.dnsRows(ctx, path+"/recordsets", "recordsets", nil, func(in row) error {
			if isZones(in) {
				return nil
			}
			return fmt.Errorf("it has %s %s, which draas did not make: %w", in.text("name"), in.text("type"), syncer.ErrInUse)
		})
		if cloud.NotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return s.dnsDelete(ctx, path)
}

// isZones tells the records that a zone has by itself.
func isZones(set row) bool {
	return set.text("type") == "SOA" || set.text("type") == "NS" && set.text("name") == set.text("zone_name")
}
