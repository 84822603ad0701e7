package fakecloud

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// rowsOf gives the rows of a kind as the hand names it.
func (c *Cloud) rowsOf(kind string) []*row {
	switch k := kindOf(kind); k.service {
	case Identity:
		return map[string][]*row{"domain": c.identity.domains.rows, "project": c.identity.projects.rows, "role": c.identity.roles.rows,
			"group": c.identity.groups.rows, "user": c.identity.users.rows}[kind]
	case Network:
		for _, n := range c.network.kinds {
			if n.one == kind {
				return n.rows.rows
			}
		}
	case Compute:
		return map[string][]*row{"flavor": c.compute.flavors.rows, "keypair": c.compute.keys.rows, "server_group": c.compute.groups.rows}[kind]
	case BlockStorage:
		return map[string][]*row{"volume_type": c.block.types.rows, "qos_specs": c.block.qos.rows}[kind]
	case Image:
		return c.images.rows.rows
	case DNS:
		return c.dns.zones.rows
	}
	return nil
}

// Line is one object of a dump: what it says, without ids and times. Where it
// refers to another it names that by kind, project and name.
type Line struct {
	Kind   string
	Fields Fields
}

func (l Line) String() string { return l.Kind + " " + string(encode(l.Fields)) }

// Dump tells the whole state in lines that two clouds with the same content
// have in common, in order. keep may change or drop (by nil) what a line
// says; nil keeps all.
func (c *Cloud) Dump(keep func(Line) Fields) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &dump{names: map[string]string{}, keep: keep}
	for kind := range handKinds {
		for _, r := range c.rowsOf(kind) {
			d.names[r.id()] = kind + ":" + r.name()
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(handKinds)) {
		for _, r := range c.rowsOf(kind) {
			d.add(kind, r.f)
		}
	}
	for _, r := range c.dns.sets.rows {
		d.add("recordset", r.f)
	}
	d.identity(&c.identity)
	d.rights(c)
	d.objects(&c.objects)
	slices.Sort(d.lines)
	return d.lines
}

type dump struct {
	names map[string]string // by id
	keep  func(Line) Fields
	lines []string
}

// accidental are fields that differ between two clouds of the same content.
func accidental(key string) bool {
	return slices.Contains([]string{"id", "tenant_id", "created_at", "updated_at", "revision_number", "links", "self", "file", "schema", "serial",
		"version", "transferred_at", "provider:segmentation_id", "security_group_rules", "subnets", "zone_id", "pool_id", "status", "action",
		"password_expires_at", "deleted_at", "deleted", "mac_address"}, key)
}

func (d *dump) add(kind string, f Fields) {
	out := Fields{}
	for key, value := range f {
		if !accidental(key) || key == "status" && kind == "image" {
			out[key] = d.named(value)
		}
	}
	if kind == "flavor" {
		out["id"] = f["id"]
	}
	if d.keep != nil {
		if out = d.keep(Line{kind, out}); out == nil {
			return
		}
	}
	d.lines = append(d.lines, Line{kind, out}.String())
}

// named replaces ids by what they name, however deep they stand.
func (d *dump) named(v any) any {
	switch v := v.(type) {
	case string:
		return d.text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = d.named(v[i])
		}
		return out
	case Fields:
		out := Fields{}
		for key, value := range v {
			if !accidental(key) {
				out[key] = d.named(value)
			}
		}
		return out
	}
	return v
}

func (d *dump) identity(s *identityState) {
	for group, set := range s.members {
		for user := range set {
			d.add("membership", Fields{"group": group, "user": user})
		}
	}
	for prior, set := range s.implied {
		for role := range set {
			d.add("implied_role", Fields{"prior": prior, "implies": role})
		}
	}
	for _, a := range s.assignments {
		d.add("assignment", Fields{"role": a.role, "actor": a.actor, "kind": a.kind, "target": a.target, "inherited": a.inherited})
	}
}

// rights are lists of access and quotas.
func (d *dump) rights(c *Cloud) {
	for what, access := range map[string]map[string][]string{"flavor_access": c.compute.access, "type_access": c.block.access} {
		for id, projects := range access {
			for _, project := range projects {
				d.add(what, Fields{"of": id, "project": project})
			}
		}
	}
	for id, f := range c.block.encryption {
		out := maps.Clone(f)
		delete(out, "encryption_id")
		out["volume_type_id"] = id
		d.add("encryption", out)
	}
	for image, t := range c.images.members {
		for _, m := range t.rows {
			d.add("image_member", Fields{"of": image, "member": m.id(), "state": m.f["status"]})
		}
	}
	for what, quotas := range map[string]map[string]fields{"network_quota": c.network.quotas, "compute_quota": c.compute.quotas, "block_quota": c.block.quotas} {
		for project, f := range quotas {
			out := maps.Clone(f)
			out["project"] = project
			d.add(what, out)
		}
	}
}

func (d *dump) objects(s *objectState) {
	for name, a := range s.accounts {
		project := strings.TrimPrefix(name, "AUTH_")
		if len(a.meta) > 0 {
			d.add("account", Fields{"project": project, "meta": d.header(a.meta)})
		}
		for _, ct := range a.containers {
			d.add("container", Fields{"project": project, "name": ct.name, "meta": d.header(ct.meta), "versioned": ct.versioned})
			for _, o := range ct.objects {
				d.add("object", d.object(project, ct, o))
			}
			for _, old := range ct.old {
				for i, o := range old {
					f := d.object(project, ct, o)
					f["age"], f["mark"] = len(old)-i, o.mark
					d.add("object_version", f)
				}
			}
		}
	}
}

func (d *dump) object(project string, ct *container, o *object) Fields {
	f := Fields{"project": project, "container": ct.name, "name": o.name, "etag": o.etag, "bytes": o.size, "type": o.kind, "meta": d.header(o.meta)}
	if o.slo != nil {
		var parts []any
		for _, s := range o.slo {
			parts = append(parts, fmt.Sprintf("%s %s %d %d-%d", s.path, s.etag, s.size, s.first, s.last))
		}
		f["parts"], f["etag"] = parts, o.sloETag
	}
	return f
}

// anID is what an id looks like, Keystone's and the others'.
var anID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}`)

// text replaces the ids in a text, as access lists and descriptions hold them.
func (d *dump) text(s string) string {
	if name, known := d.names[s]; known {
		return name
	}
	if len(s) < 32 {
		return s
	}
	return anID.ReplaceAllStringFunc(s, func(id string) string {
		if name, known := d.names[id]; known {
			return name
		}
		return id
	})
}

// header tells headers; ids in access lists become names too.
func (d *dump) header(h http.Header) Fields {
	out := Fields{}
	for key, values := range h {
		out[key] = d.text(values[0])
	}
	return out
}
