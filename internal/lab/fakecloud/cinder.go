package fakecloud

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// blockState is what Cinder knows.
type blockState struct {
	types, qos table
	access     map[string][]string // projects, by type
	encryption map[string]fields   // by type
	quotas     map[string]fields
}

func (c *Cloud) blockRoutes() {
	s := &c.block
	s.access, s.quotas, s.encryption = map[string][]string{}, map[string]fields{}, map[string]fields{}
	s.types.add(fields{"id": c.uuid(), "name": "__DEFAULT__", "description": "Default Volume Type", "is_public": true,
		"qos_specs_id": nil, "extra_specs": fields{}})
	const base = "/v3/{project}"
	on := func(method, pattern string, h handler) {
		c.on(BlockStorage, "/volume", method, base+pattern, func(q *request) (reply, error) {
			if q.r.PathValue("project") != q.token.project {
				return reply{}, failed(http.StatusBadRequest, "Malformed request url")
			}
			return h(q)
		})
	}
	c.onRoute(route{service: BlockStorage, pattern: "/v3/{$}", open: true}, "/volume", "GET", func(*request) (reply, error) {
		return reply{status: http.StatusMultipleChoices, body: fields{"versions": []any{fields{"id": "v3.0", "status": "CURRENT",
			"version": "3.70", "min_version": "3.0", "updated": "2022-08-31T00:00:00Z", "links": []any{}, "media-types": []any{}}}}}, nil
	})
	on("GET", "/types", (*request).typeList)
	on("POST", "/types", (*request).typeCreate)
	on("GET", "/types/{id}", func(q *request) (reply, error) {
		r, err := q.volumeType()
		if err != nil {
			return reply{}, err
		}
		return ok(fields{"volume_type": q.typeBody(r)})
	})
	on("PUT", "/types/{id}", (*request).typeUpdate)
	on("DELETE", "/types/{id}", (*request).typeDelete)
	on("GET", "/types/{id}/os-volume-type-access", (*request).typeAccess)
	on("POST", "/types/{id}/action", (*request).typeAction)
	c.encryptionRoutes(on)
	get, post, one, put, del := specHandlers((*request).volumeType, "Volume Type", http.StatusAccepted)
	on("GET", "/types/{id}/extra_specs", get)
	on("POST", "/types/{id}/extra_specs", post)
	on("GET", "/types/{id}/extra_specs/{key}", one)
	on("PUT", "/types/{id}/extra_specs/{key}", put)
	on("DELETE", "/types/{id}/extra_specs/{key}", del)
	c.qosSpecRoutes(on)
	c.quotaSetRoutes(BlockStorage, "/volume", base, &s.quotas, (*Cloud).cinderQuota, http.StatusOK)
}

func (q *request) volumeType() (*row, error) {
	r := q.block.types.get(q.id())
	if r == nil || !q.mayUseType(r) {
		return nil, failed(http.StatusNotFound, "Volume type %s could not be found.", q.id())
	}
	return r, nil
}

func (q *request) mayUseType(r *row) bool {
	return q.token.admin || flag(r.f, "is_public") || slices.Contains(q.block.access[r.id()], q.token.project)
}

func (q *request) typeBody(r *row) fields {
	f := maps.Clone(r.f)
	f["os-volume-type-access:is_public"] = f["is_public"]
	if !q.token.admin {
		delete(f, "qos_specs_id")
		delete(f, "extra_specs")
	}
	return f
}

func (q *request) typeList() (reply, error) {
	public := q.query().Get("is_public")
	rows := q.block.types.all(func(r *row) bool {
		if !q.mayUseType(r) {
			return false
		}
		if !q.token.admin || strings.EqualFold(public, "none") {
			return true
		}
		want, err := strconv.ParseBool(strings.ToLower(public))
		return flag(r.f, "is_public") == (err != nil || want)
	})
	page, next, err := q.cut(rows, paging{most: computeMost, lost: http.StatusNotFound})
	if err != nil {
		return reply{}, err
	}
	list := []any{}
	for _, r := range page {
		list = append(list, q.typeBody(r))
	}
	body := fields{"volume_types": list}
	if next != "" {
		body["volume_type_links"] = []any{fields{"rel": "next", "href": q.next(next)}}
	}
	return ok(body)
}

func (q *request) typeNamed(name string, but *row) error {
	if q.block.types.first(func(r *row) bool { return r != but && r.name() == name }) != nil {
		return failed(http.StatusConflict, "Volume Type %s already exists.", name)
	}
	return nil
}

func (q *request) typeCreate() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	in, err := q.input("volume_type")
	if err != nil {
		return reply{}, err
	}
	if text(in, "name") == "" {
		return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute name.")
	}
	if err := q.typeNamed(text(in, "name"), nil); err != nil {
		return reply{}, err
	}
	f := fields{"id": q.uuid(), "name": in["name"], "description": in["description"], "is_public": true, "qos_specs_id": nil, "extra_specs": fields{}}
	if v, given := in["os-volume-type-access:is_public"]; given {
		f["is_public"] = v
	}
	if specs, given := in["extra_specs"].(fields); given {
		f["extra_specs"] = specs
	}
	return ok(fields{"volume_type": q.typeBody(q.block.types.add(f))})
}

func (q *request) typeUpdate() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.volumeType()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("volume_type")
	if err != nil {
		return reply{}, err
	}
	if err := q.typeNamed(text(in, "name"), r); in["name"] != nil && err != nil {
		return reply{}, err
	}
	for _, key := range []string{"name", "description", "is_public"} {
		if v, given := in[key]; given {
			r.set(key, v)
		}
	}
	return ok(fields{"volume_type": q.typeBody(r)})
}

func (q *request) typeDelete() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.volumeType()
	if err != nil {
		return reply{}, err
	}
	q.block.types.remove(r.id())
	delete(q.block.access, r.id())
	delete(q.block.encryption, r.id())
	return reply{status: http.StatusAccepted}, nil
}

func (q *request) typeAccess() (reply, error) {
	r, err := q.volumeType()
	if err != nil {
		return reply{}, err
	}
	if flag(r.f, "is_public") {
		return reply{}, failed(http.StatusNotFound, "Access list not available for public volume types.")
	}
	list := []any{}
	for _, project := range q.block.access[r.id()] {
		list = append(list, fields{"volume_type_id": r.id(), "project_id": project})
	}
	return ok(fields{"volume_type_access": list})
}

func (q *request) typeAction() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.volumeType()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	have := q.block.access[r.id()]
	if add, given := in["addProjectAccess"].(fields); given {
		project := text(add, "project")
		if flag(r.f, "is_public") {
			return reply{}, failed(http.StatusConflict, "Type access modification is not applicable to public volume type.")
		}
		if slices.Contains(have, project) {
			return reply{}, failed(http.StatusConflict, "Volume type access for %s / %s combination already exists.", r.id(), project)
		}
		q.block.access[r.id()] = append(slices.Clip(have), project)
	} else if drop, given := in["removeProjectAccess"].(fields); given {
		i := slices.Index(have, text(drop, "project"))
		if i < 0 {
			return reply{}, failed(http.StatusNotFound, "Volume type access not found for %s / %s combination.", r.id(), text(drop, "project"))
		}
		q.block.access[r.id()] = slices.Delete(slices.Clone(have), i, i+1)
	} else {
		return reply{}, failed(http.StatusBadRequest, "There is no such action")
	}
	return reply{status: http.StatusAccepted}, nil
}

func (c *Cloud) qosSpecRoutes(on func(method, pattern string, h handler)) {
	one := func(method, tail string, h func(q *request, r *row) (reply, error)) {
		on(method, "/qos-specs/{id}"+tail, func(q *request) (reply, error) {
			if err := q.needAdmin(); err != nil {
				return reply{}, err
			}
			r := q.block.qos.get(q.id())
			if r == nil {
				return reply{}, failed(http.StatusNotFound, "QoS Spec %s could not be found.", q.id())
			}
			return h(q, r)
		})
	}
	on("GET", "/qos-specs", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		page, next, err := q.cut(q.block.qos.all(nil), paging{most: computeMost, lost: http.StatusNotFound})
		if err != nil {
			return reply{}, err
		}
		return ok(q.linked("qos_specs", array(page, nil), next))
	})
	on("POST", "/qos-specs", (*request).qosCreate)
	one("GET", "", func(_ *request, r *row) (reply, error) { return ok(fields{"qos_specs": r.f, "links": qosLinks(r)}) })
	one("PUT", "", (*request).qosUpdate)
	one("PUT", "/delete_keys", func(q *request, r *row) (reply, error) {
		in, err := q.input("")
		if err != nil {
			return reply{}, err
		}
		specs := maps.Clone(r.f["specs"].(fields))
		for _, key := range texts(in, "keys") {
			if _, given := specs[key]; !given {
				return reply{}, failed(http.StatusBadRequest, "QoS spec %s has no spec with key %s.", r.id(), key)
			}
			delete(specs, key)
		}
		r.set("specs", specs)
		return reply{status: http.StatusAccepted}, nil
	})
	using := func(q *request, r *row) []*row {
		return q.block.types.all(func(t *row) bool { return text(t.f, "qos_specs_id") == r.id() })
	}
	one("DELETE", "", func(q *request, r *row) (reply, error) {
		types := using(q, r)
		if len(types) > 0 && !strings.EqualFold(q.query().Get("force"), "true") {
			return reply{}, failed(http.StatusBadRequest, "QoS Specs %s is still associated with entities.", r.id())
		}
		for _, t := range types {
			t.set("qos_specs_id", nil)
		}
		q.block.qos.remove(r.id())
		return reply{status: http.StatusAccepted}, nil
	})
	one("GET", "/associations", func(q *request, r *row) (reply, error) {
		list := []any{}
		for _, t := range using(q, r) {
			list = append(list, fields{"association_type": "volume_type", "id": t.id(), "name": t.name()})
		}
		return ok(fields{"qos_associations": list})
	})
	join := func(to func(r *row) any) func(q *request, r *row) (reply, error) {
		return func(q *request, r *row) (reply, error) {
			t := q.block.types.get(q.query().Get("vol_type_id"))
			if t == nil {
				return reply{}, failed(http.StatusNotFound, "Volume type %s could not be found.", q.query().Get("vol_type_id"))
			}
			t.set("qos_specs_id", to(r))
			return reply{status: http.StatusAccepted}, nil
		}
	}
	one("GET", "/associate", join(func(r *row) any { return r.id() }))
	one("GET", "/disassociate", join(func(*row) any { return nil }))
	one("GET", "/disassociate_all", func(q *request, r *row) (reply, error) {
		for _, t := range using(q, r) {
			t.set("qos_specs_id", nil)
		}
		return reply{status: http.StatusAccepted}, nil
	})
}

func (q *request) qosCreate() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	in, err := q.input("qos_specs")
	if err != nil {
		return reply{}, err
	}
	if q.block.qos.first(func(r *row) bool { return r.name() == text(in, "name") }) != nil {
		return reply{}, failed(http.StatusConflict, "QoS Specs %s already exists.", text(in, "name"))
	}
	f := fields{"id": q.uuid(), "name": in["name"], "consumer": "back-end"}
	if c := text(in, "consumer"); c != "" {
		if !slices.Contains([]string{"front-end", "back-end", "both"}, c) {
			return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute consumer. Value: %s.", c)
		}
		f["consumer"] = c
	}
	specs := maps.Clone(in)
	delete(specs, "name")
	delete(specs, "consumer")
	f["specs"] = specs
	r := q.block.qos.add(f)
	return ok(fields{"qos_specs": r.f, "links": qosLinks(r)})
}

// qosLinks stand beside a QoS spec, and not in it.
func qosLinks(r *row) []any {
	return []any{fields{"rel": "self", "href": "/qos-specs/" + r.id()}}
}

func (q *request) qosUpdate(r *row) (reply, error) {
	in, err := q.input("qos_specs")
	if err != nil {
		return reply{}, err
	}
	specs := maps.Clone(r.f["specs"].(fields))
	for key, value := range in {
		if key == "consumer" {
			r.set("consumer", value)
			continue
		}
		specs[key] = value
	}
	r.set("specs", specs)
	return ok(fields{"qos_specs": in})
}

// cinderQuota is what a project has by default; every volume type adds its
// own three.
func (c *Cloud) cinderQuota() fields {
	f := fields{"volumes": int64(10), "snapshots": int64(10), "gigabytes": int64(1000), "backups": int64(10), "backup_gigabytes": int64(1000),
		"per_volume_gigabytes": int64(-1), "groups": int64(10)}
	for _, t := range c.block.types.rows {
		for _, what := range []string{"volumes_", "snapshots_", "gigabytes_"} {
			f[what+t.name()] = int64(-1)
		}
	}
	return f
}
