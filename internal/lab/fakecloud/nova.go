package fakecloud

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// computeState is what Nova knows.
type computeState struct {
	flavors, keys, groups table
	access                map[string][]string // projects, by flavor
	quotas                map[string]fields
}

const computeMost = 1000 // max_limit of Nova and Cinder

func (c *Cloud) computeRoutes() {
	c.compute.access, c.compute.quotas = map[string][]string{}, map[string]fields{}
	on := func(method, pattern string, h handler) { c.on(Compute, "/compute", method, pattern, h) }
	c.onRoute(route{service: Compute, pattern: "/v2.1/{$}", open: true}, "/compute", "GET", func(q *request) (reply, error) {
		return ok(fields{"version": fields{"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1",
			"updated": "2013-07-23T11:33:21Z", "links": []any{}, "media-types": []any{}}})
	})
	on("GET", "/v2.1/flavors", func(q *request) (reply, error) { return q.flavorList(false) })
	on("GET", "/v2.1/flavors/detail", func(q *request) (reply, error) { return q.flavorList(true) })
	on("POST", "/v2.1/flavors", (*request).flavorCreate)
	on("GET", "/v2.1/flavors/{id}", func(q *request) (reply, error) {
		r, err := q.flavor()
		if err != nil {
			return reply{}, err
		}
		return ok(fields{"flavor": q.flavorBody(r)})
	})
	on("PUT", "/v2.1/flavors/{id}", (*request).flavorUpdate)
	on("DELETE", "/v2.1/flavors/{id}", (*request).flavorDelete)
	on("GET", "/v2.1/flavors/{id}/os-flavor-access", (*request).flavorAccess)
	on("POST", "/v2.1/flavors/{id}/action", (*request).flavorAction)
	c.flavorSpecRoutes(on)
	c.keyRoutes(on)
	c.serverGroupRoutes(on)
	c.quotaSetRoutes(Compute, "/compute", "/v2.1", &c.compute.quotas, novaQuota, http.StatusAccepted)
}

// micro is the minor number of the microversion asked for.
func (q *request) micro() int {
	v := q.r.Header.Get("OpenStack-API-Version")
	if _, number, found := strings.Cut(v, " "); found {
		v = number
	} else {
		v = q.r.Header.Get("X-OpenStack-Nova-API-Version")
	}
	_, minor, _ := strings.Cut(v, ".")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return 1
	}
	return n
}

func (q *request) flavor() (*row, error) {
	r := q.compute.flavors.get(q.id())
	if r == nil || !q.mayUse(r) {
		return nil, failed(http.StatusNotFound, "Flavor %s could not be found.", q.id())
	}
	return r, nil
}

const publicFlavor = "os-flavor-access:is_public"

func (q *request) mayUse(r *row) bool {
	return q.token.admin || flag(r.f, publicFlavor) || slices.Contains(q.compute.access[r.id()], q.token.project)
}

func (q *request) flavorBody(r *row) fields {
	f := maps.Clone(r.f)
	f["links"] = []any{fields{"rel": "self", "href": "http://" + q.addr + "/compute/v2.1/flavors/" + r.id()}}
	if q.micro() < 55 {
		delete(f, "description")
	}
	if q.micro() < 61 {
		delete(f, "extra_specs")
	}
	if q.micro() < 75 && number(f, "swap") == 0 {
		f["swap"] = ""
	}
	return f
}

func (q *request) flavorList(detail bool) (reply, error) {
	query := q.query()
	public := query.Get("is_public")
	for key := range query {
		if q.micro() >= 75 && !slices.Contains([]string{"limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"}, key) {
			return reply{}, failed(http.StatusBadRequest, "Invalid input for query parameters %s. Additional properties are not allowed", key)
		}
	}
	rows := q.compute.flavors.all(func(r *row) bool {
		if !q.mayUse(r) {
			return false
		}
		if least, err := strconv.ParseInt(query.Get("minRam"), 10, 64); err == nil && number(r.f, "ram") < least {
			return false
		}
		if least, err := strconv.ParseInt(query.Get("minDisk"), 10, 64); err == nil && number(r.f, "disk") < least {
			return false
		}
		if !q.token.admin || strings.EqualFold(public, "none") {
			return true
		}
		want, err := strconv.ParseBool(strings.ToLower(public))
		return flag(r.f, publicFlavor) == (err != nil || want)
	})
	sorted(rows, []string{"id"}, nil, false)
	page, next, err := q.cut(rows, paging{most: computeMost, lost: http.StatusBadRequest})
	if err != nil {
		return reply{}, err
	}
	list := []any{}
	for _, r := range page {
		f := q.flavorBody(r)
		if !detail {
			f = subset(f, []string{"id", "name", "links", "description"})
		}
		list = append(list, f)
	}
	return ok(q.linked("flavors", list, next))
}

// linked is a listing of Nova or Cinder with the link to its next page.
func (q *request) linked(many string, list any, next string) fields {
	body := fields{many: list}
	if next != "" {
		body[many+"_links"] = []any{fields{"rel": "next", "href": q.next(next)}}
	}
	return body
}

func (q *request) flavorCreate() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	in, err := q.input("flavor")
	if err != nil {
		return reply{}, err
	}
	for _, key := range []string{"name", "ram", "vcpus", "disk"} {
		if in[key] == nil {
			return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute flavor. '%s' is a required property", key)
		}
	}
	f := fields{"swap": int64(0), "rxtx_factor": 1.0, "OS-FLV-EXT-DATA:ephemeral": int64(0), publicFlavor: true,
		"OS-FLV-DISABLED:disabled": false, "description": nil, "extra_specs": fields{}}
	maps.Copy(f, in)
	if id := text(f, "id"); id == "" || id == "auto" {
		f["id"] = q.uuid()
	}
	for _, key := range []string{"ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral"} {
		if s, isText := f[key].(string); isText {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute %s.", key)
			}
			f[key] = n
		}
	}
	if q.compute.flavors.get(text(f, "id")) != nil {
		return reply{}, failed(http.StatusConflict, "Flavor with ID %s already exists.", text(f, "id"))
	}
	if q.compute.flavors.first(func(r *row) bool { return r.name() == text(f, "name") }) != nil {
		return reply{}, failed(http.StatusConflict, "Flavor with name %s already exists.", text(f, "name"))
	}
	return ok(fields{"flavor": q.flavorBody(q.compute.flavors.add(f))})
}

// flavorUpdate changes the description, the only thing that may.
func (q *request) flavorUpdate() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.flavor()
	if err != nil {
		return reply{}, err
	}
	if q.micro() < 55 {
		return reply{}, failed(http.StatusNotFound, "The resource could not be found.")
	}
	in, err := q.input("flavor")
	if err != nil {
		return reply{}, err
	}
	for key := range in {
		if key != "description" {
			return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute flavor. Additional properties are not allowed ('%s' was unexpected)", key)
		}
	}
	r.set("description", in["description"])
	return ok(fields{"flavor": q.flavorBody(r)})
}

func (q *request) flavorDelete() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.flavor()
	if err != nil {
		return reply{}, err
	}
	q.compute.flavors.remove(r.id())
	delete(q.compute.access, r.id())
	return reply{status: http.StatusAccepted}, nil
}

func (q *request) flavorAccess() (reply, error) {
	r, err := q.flavor()
	if err != nil {
		return reply{}, err
	}
	if flag(r.f, publicFlavor) {
		return reply{}, failed(http.StatusNotFound, "Access list not available for public flavors.")
	}
	return ok(fields{"flavor_access": q.accessBody(r)})
}

func (q *request) accessBody(r *row) []any {
	list := []any{}
	for _, project := range q.compute.access[r.id()] {
		list = append(list, fields{"flavor_id": r.id(), "tenant_id": project})
	}
	return list
}

func (q *request) flavorAction() (reply, error) {
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	r, err := q.flavor()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	have := q.compute.access[r.id()]
	if add, given := in["addTenantAccess"].(fields); given {
		project := text(add, "tenant")
		switch {
		case flag(r.f, publicFlavor) && q.micro() >= 7:
			return reply{}, failed(http.StatusConflict, "Can not add access to a public flavor.")
		case q.identity.projects.get(project) == nil:
			return reply{}, failed(http.StatusBadRequest, "Project ID %s is not a valid project.", project)
		case slices.Contains(have, project):
			return reply{}, failed(http.StatusConflict, "Flavor access already exists for flavor %s and project %s combination.", r.id(), project)
		}
		q.compute.access[r.id()] = append(slices.Clip(have), project)
	} else if drop, given := in["removeTenantAccess"].(fields); given {
		i := slices.Index(have, text(drop, "tenant"))
		if i < 0 {
			return reply{}, failed(http.StatusNotFound, "Flavor access not found for %s / %s combination.", r.id(), text(drop, "tenant"))
		}
		q.compute.access[r.id()] = slices.Delete(slices.Clone(have), i, i+1)
	} else {
		return reply{}, failed(http.StatusBadRequest, "There is no such action")
	}
	return ok(fields{"flavor_access": q.accessBody(r)})
}

func (c *Cloud) flavorSpecRoutes(on func(method, pattern string, h handler)) {
	specs := func(row func(q *request) (*row, error), lost string) (get, post, one, put, del handler) {
		return specHandlers(row, lost, http.StatusOK)
	}
	get, post, one, put, del := specs((*request).flavor, "Flavor")
	const base = "/v2.1/flavors/{id}/os-extra_specs"
	on("GET", base, get)
	on("POST", base, post)
	on("GET", base+"/{key}", one)
	on("PUT", base+"/{key}", put)
	on("DELETE", base+"/{key}", del)
}

// specHandlers serve the extra specs of a flavor or volume type.
func specHandlers(find func(q *request) (*row, error), what string, deleted int) (get, post, one, put, del handler) {
	held := func(q *request) (*row, fields, error) {
		r, err := find(q)
		if err != nil {
			return nil, nil, err
		}
		if q.r.Method != http.MethodGet {
			err = q.needAdmin()
		}
		specs, _ := r.f["extra_specs"].(fields)
		return r, maps.Clone(specs), err
	}
	key := func(q *request, specs fields) (string, error) {
		k := q.r.PathValue("key")
		if _, given := specs[k]; !given {
			return "", failed(http.StatusNotFound, "%s %s has no extra specs with key %s.", what, q.id(), k)
		}
		return k, nil
	}
	write := func(q *request, body string) (reply, error) {
		r, specs, err := held(q)
		if err != nil {
			return reply{}, err
		}
		in, err := q.input(body)
		if err != nil {
			return reply{}, err
		}
		for k, v := range in {
			if _, isText := v.(string); !isText {
				return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute %s. Value: %v. %v is not of type 'string'", k, v, v)
			}
		}
		if specs == nil {
			specs = fields{}
		}
		maps.Copy(specs, in)
		r.set("extra_specs", specs)
		if body == "" {
			return ok(in)
		}
		return ok(fields{body: in})
	}
	get = func(q *request) (reply, error) {
		_, specs, err := held(q)
		if err != nil {
			return reply{}, err
		}
		return ok(fields{"extra_specs": specs})
	}
	post = func(q *request) (reply, error) { return write(q, "extra_specs") }
	put = func(q *request) (reply, error) { return write(q, "") }
	one = func(q *request) (reply, error) {
		_, specs, err := held(q)
		if err != nil {
			return reply{}, err
		}
		k, err := key(q, specs)
		if err != nil {
			return reply{}, err
		}
		return ok(fields{k: specs[k]})
	}
	del = func(q *request) (reply, error) {
		r, specs, err := held(q)
		if err != nil {
			return reply{}, err
		}
		k, err := key(q, specs)
		if err != nil {
			return reply{}, err
		}
		delete(specs, k)
		r.set("extra_specs", specs)
		return reply{status: deleted}, nil
	}
	return get, post, one, put, del
}
