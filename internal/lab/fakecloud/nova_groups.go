package fakecloud

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (c *Cloud) serverGroupRoutes(on func(method, pattern string, h handler)) {
	on("GET", "/v2.1/os-server-groups", (*request).serverGroups)
	on("POST", "/v2.1/os-server-groups", (*request).newServerGroup)
	find := func(q *request) (*row, error) {
		r := q.compute.groups.get(q.id())
		if r == nil || r.project() != q.token.project && !q.token.admin {
			return nil, failed(http.StatusNotFound, "Instance group %s could not be found.", q.id())
		}
		return r, nil
	}
	on("GET", "/v2.1/os-server-groups/{id}", func(q *request) (reply, error) {
		r, err := find(q)
		if err != nil {
			return reply{}, err
		}
		return ok(fields{"server_group": q.groupBody(r)})
	})
	on("DELETE", "/v2.1/os-server-groups/{id}", func(q *request) (reply, error) {
		r, err := find(q)
		if err != nil {
			return reply{}, err
		}
		q.compute.groups.remove(r.id())
		return gone()
	})
}

// groupBody tells a server group in the words of the microversion.
func (q *request) groupBody(r *row) fields {
	f := maps.Clone(r.f)
	if q.micro() < 13 {
		delete(f, "project_id")
		delete(f, "user_id")
	}
	if q.micro() < 64 {
		f["policies"], f["metadata"] = []any{f["policy"]}, fields{}
		delete(f, "policy")
		delete(f, "rules")
	}
	return f
}

// serverGroups lists the token's project, all of them for an administrator
// who asks. It has an offset but no links.
func (q *request) serverGroups() (reply, error) {
	query := q.query()
	all := query.Has("all_projects") && q.token.admin
	rows := q.compute.groups.all(func(r *row) bool { return all || r.project() == q.token.project })
	number := func(key string, standard int) int {
		if n, err := strconv.Atoi(query.Get(key)); err == nil && n >= 0 {
			return n
		}
		return standard
	}
	from := min(number("offset", 0), len(rows))
	size := min(number("limit", computeMost), computeMost)
	from, to := q.bend(from, min(from+size, len(rows)), size, len(rows))
	list := []any{}
	for _, r := range rows[from:to] {
		list = append(list, q.groupBody(r))
	}
	return ok(fields{"server_groups": list})
}

func (q *request) newServerGroup() (reply, error) {
	in, err := q.input("server_group")
	if err != nil {
		return reply{}, err
	}
	policy, rules := text(in, "policy"), in["rules"]
	if q.micro() < 64 {
		if policies := texts(in, "policies"); len(policies) == 1 {
			policy = policies[0]
		}
	}
	if !slices.Contains([]string{"affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"}, policy) {
		return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute policy. Value: %s.", policy)
	}
	if rules == nil {
		rules = fields{}
	}
	r := q.compute.groups.add(fields{"id": q.uuid(), "name": text(in, "name"), "policy": policy, "rules": rules, "members": []any{},
		"project_id": q.token.project, "user_id": q.token.user})
	return ok(fields{"server_group": q.groupBody(r)})
}

func novaQuota(*Cloud) fields {
	return fields{"instances": int64(10), "cores": int64(20), "ram": int64(51200), "metadata_items": int64(128), "key_pairs": int64(100),
		"server_groups": int64(10), "server_group_members": int64(10), "floating_ips": int64(-1), "fixed_ips": int64(-1), "security_groups": int64(-1),
		"security_group_rules": int64(-1), "injected_files": int64(5), "injected_file_content_bytes": int64(10240), "injected_file_path_bytes": int64(255)}
}

// quotaSetRoutes serve the quota sets of Nova and Cinder: one project a call.
func (c *Cloud) quotaSetRoutes(service, prefix, base string, sets *map[string]fields, standard func(*Cloud) fields, deleted int) {
	on := func(method, pattern string, h handler) {
		c.on(service, prefix, method, base+"/os-quota-sets/{id}"+pattern, h)
	}
	quota := func(q *request) fields {
		f := standard(q.Cloud)
		maps.Copy(f, (*sets)[q.id()])
		f["id"] = q.id()
		return f
	}
	allowed := func(q *request) error {
		if q.id() != q.token.project {
			if err := q.needAdmin(); err != nil {
				return err
			}
		}
		if q.identity.projects.get(q.id()) == nil {
			return failed(http.StatusBadRequest, "Project ID %s is not a valid project.", q.id())
		}
		return nil
	}
	used := func(f fields) fields {
		out := fields{}
		for key, value := range f {
			if out[key] = value; key != "id" {
				out[key] = fields{"limit": value, "in_use": int64(0), "reserved": int64(0)}
			}
		}
		return out
	}
	read := func(detailed func(q *request) bool) handler {
		return func(q *request) (reply, error) {
			if err := allowed(q); err != nil {
				return reply{}, err
			}
			f := quota(q)
			if detailed(q) {
				f = used(f)
			}
			return ok(fields{"quota_set": f})
		}
	}
	on("GET", "", read(func(q *request) bool { return strings.EqualFold(q.query().Get("usage"), "true") }))
	on("GET", "/detail", read(func(*request) bool { return true }))
	on("GET", "/defaults", func(q *request) (reply, error) {
		f := standard(q.Cloud)
		f["id"] = q.id()
		return ok(fields{"quota_set": f})
	})
	on("PUT", "", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		if err := allowed(q); err != nil {
			return reply{}, err
		}
		in, err := q.input("quota_set")
		if err != nil {
			return reply{}, err
		}
		delete(in, "force")
		delete(in, "tenant_id")
		known, set := standard(q.Cloud), maps.Clone((*sets)[q.id()])
		if set == nil {
			set = fields{}
		}
		for key, value := range in {
			if known[key] == nil {
				return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute quota_set. Additional properties are not allowed ('%s' was unexpected)", key)
			}
			set[key] = value
		}
		(*sets)[q.id()] = set
		f := quota(q)
		delete(f, "id")
		return ok(fields{"quota_set": f})
	})
	on("DELETE", "", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		delete(*sets, q.id())
		return reply{status: deleted}, nil
	})
}
