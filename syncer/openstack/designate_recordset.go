package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// recordSets of all zones come by one listing: a zone's serial moves with each
// change, but asking zone by zone costs a request for each, and this one for a
// thousand record sets. An ID is ZONE/RECORDSET.
type recordSets struct{}

func (recordSets) traits() syncer.Traits {
	return syncer.Traits{Kind: RecordSet, Unique: true, Fixed: []string{"zone", "name", "type"}}
}

func (recordSets) service() string { return designate.service }

// guard is what draas puts before the name of which it moves the addresses; a
// record set of that name holds its epoch.
const guard = "_draas."

func recordSet(in row) syncer.Object {
	zone := syncer.Ref{Key: syncer.Key{Kind: Zone, ID: in.text("zone_id")}}
	o := syncer.Object{
		Key: syncer.Key{Kind: RecordSet, ID: zone.ID + "/" + in.text("id")}, Project: in.text("project_id"), Name: in.text("name") + " " + in.text("type"),
		Natural: []any{zone, in.text("name"), in.text("type")},
		Fields: syncer.Fields{"zone": zone, "name": in.text("name"), "type": in.text("type"), "records": textSet(in.texts("records")),
			"ttl": in.seconds("ttl"), "description": in.text("description")},
	}
	switch {
	case isOwn(o.Project):
		o.Unsupported = "the name of a floating address, which is another at the other cloud"
	case strings.HasPrefix(in.text("name"), guard):
		o.Unsupported = "draas's own, for the name that it moves"
	}
	return o
}

// moved are the names of which draas moves the addresses itself.
func (s *Side) moved(ctx context.Context) (map[string]bool, error) {
	names := make(map[string]bool)
	err := s.dnsRows(ctx, "recordsets", "recordsets", url.Values{"name": {guard + "*"}}, func(in row) error {
		if name, ok := strings.CutPrefix(in.text("name"), guard); ok {
			names[in.text("zone_id")+"/"+name] = true
		}
		return nil
	})
	return names, err
}

// isAddress tells the types that draas moves.
func isAddress(kind string) bool { return kind == "A" || kind == "AAAA" || kind == "CNAME" }

func (recordSets) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	transferred := make(map[string]bool)
	err := s.dnsRows(ctx, "zones", "zones", url.Values{"type": {secondary}}, func(in row) error {
		transferred[in.text("id")] = true
		return nil
	})
	if err != nil {
		return err
	}
	moved, err := s.moved(ctx)
	if err != nil {
		return err
	}
	return s.dnsRows(ctx, "recordsets", "recordsets", nil, func(in row) error {
		name, kind := in.text("name"), in.text("type")
		if isZones(in) || transferred[in.text("zone_id")] {
			return nil // the service's own, or a master's
		}
		o := recordSet(in)
		if isAddress(kind) && moved[in.text("zone_id")+"/"+name] {
			o.Unsupported = "draas moves this name itself"
		}
		return each(o)
	})
}

func recordSetPath(id string) (string, error) {
	zone, set, ok := strings.Cut(id, "/")
	if !ok || zone == "" || set == "" {
		return "", fmt.Errorf("%q names no zone and record set", id)
	}
	return "zones/" + url.PathEscape(zone) + "/recordsets/" + url.PathEscape(set), nil
}

func (recordSets) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	path, err := recordSetPath(o.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	in, err := s.dnsRow(ctx, path)
	if err != nil {
		return syncer.Object{}, err
	}
	return recordSet(in), nil
}

func (recordSets) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	name, _ := want.Fields["name"].(string)
	kind, _ := want.Fields["type"].(string)
	var found syncer.Object
	query := url.Values{"name": {name}, "type": {kind}}
	err := s.dnsRows(ctx, "zones/"+escaped(want.Fields["zone"])+"/recordsets", "recordsets", query, func(in row) error {
		if in.text("name") == name && in.text("type") == kind {
			found = recordSet(in)
		}
		return nil
	})
	if err == nil && found.ID == "" {
		err = syncer.ErrGone
	}
	return found, err
}

func (recordSets) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	f := want.Fields
	body := row{"name": f["name"], "type": f["type"], "records": write(f["records"])}
	if f["ttl"] != nil {
		body["ttl"] = f["ttl"]
	}
	if text := description(f["description"]); text != nil {
		body["description"] = text
	}
	var made row
	if _, err := s.callWith(ctx, designate, http.MethodPost, "zones/"+escaped(f["zone"])+"/recordsets", everyProject(), body, &made); err != nil {
		return syncer.Object{}, unserved(err)
	}
	return pending(made)
}

// unserved: what a zone that is being made or deleted refuses it takes later.
func unserved(err error) error {
	if cloud.Conflict(err) && !strings.Contains(strings.ToLower(err.Error()), "duplicate") {
		return &syncer.Temporary{Err: err}
	}
	return err
}

// pending is what the service has taken, and gives to its name servers in its own
// time: what comes of that stands in its zone.
func pending(in row) (syncer.Object, error) {
	switch {
	case in.text("id") == "" || in.text("zone_id") == "":
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("the answer has no id")}
	case in.text("status") == "ERROR":
		return syncer.Object{}, &syncer.Uncertain{Err: fmt.Errorf("record set %s %s is there, but not served: state ERROR", in.text("name"), in.text("type"))}
	}
	return recordSet(in), nil
}

func (recordSets) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, _ io.Reader) (syncer.Object, error) {
	path, err := recordSetPath(have.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	body := make(row)
	for _, name := range fields {
		switch name {
		case "records", "ttl":
			body[name] = write(want.Fields[name])
		case "description":
			body[name] = description(want.Fields[name])
		}
	}
	var made row
	if _, err := s.callWith(ctx, designate, http.MethodPut, path, everyProject(), body, &made); err != nil {
		return syncer.Object{}, s.orGone(ctx, path, unserved(err))
	}
	return pending(made)
}

func (recordSets) remove(ctx context.Context, s *Side, have syncer.Object) error {
	path, err := recordSetPath(have.ID)
	if err != nil {
		return err
	}
	return s.dnsDelete(ctx, path)
}
