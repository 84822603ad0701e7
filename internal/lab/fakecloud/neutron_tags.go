package fakecloud

import (
	"maps"
	"net/http"
	"slices"
)

func (c *Cloud) networkTagRoutes(on func(method, pattern string, h handler), k *networkKind, base string) {
	change := func(method, pattern string, status int, to func(q *request, have []string) ([]string, error)) {
		on(method, pattern, func(q *request) (reply, error) {
			r, err := q.networkRow(k)
			if err != nil {
				return reply{}, err
			}
			have := texts(r.f, "tags")
			tags, err := to(q, have)
			if err != nil {
				return reply{}, err
			}
			if !slices.Equal(have, tags) {
				r.set("tags", anys(tags))
				q.touch(r)
			}
			if status == http.StatusOK {
				return ok(fields{"tags": anys(tags)})
			}
			return reply{status: status}, nil
		})
	}
	change("GET", base, http.StatusOK, func(_ *request, have []string) ([]string, error) { return have, nil })
	change("DELETE", base, http.StatusNoContent, func(*request, []string) ([]string, error) { return nil, nil })
	change("PUT", base, http.StatusOK, func(q *request, _ []string) ([]string, error) {
		in, err := q.input("")
		return texts(in, "tags"), err
	})
	change("PUT", base+"/{tag}", http.StatusCreated, func(q *request, have []string) ([]string, error) {
		return withTag(have, q.r.PathValue("tag")), nil
	})
	change("DELETE", base+"/{tag}", http.StatusNoContent, func(q *request, have []string) ([]string, error) {
		return withoutTag(have, q.r.PathValue("tag"))
	})
	change("GET", base+"/{tag}", http.StatusNoContent, func(q *request, have []string) ([]string, error) {
		_, err := withoutTag(have, q.r.PathValue("tag"))
		return have, err
	})
}

// networkQuota lists what a project may have when nobody said otherwise.
func networkQuota() fields {
	return fields{"network": int64(100), "subnet": int64(100), "subnetpool": int64(-1), "port": int64(500), "router": int64(10),
		"floatingip": int64(50), "security_group": int64(10), "security_group_rule": int64(100), "rbac_policy": int64(10), "trunk": int64(-1)}
}

func (q *request) withinQuota(k *networkKind, project string) error {
	limit, given := q.network.quotas[project][k.quota]
	if !given {
		limit = networkQuota()[k.quota]
	}
	_, byHand := q.r.Context().Value(handKey{}).(Hand)
	n, ok := limit.(int64)
	if !ok || n < 0 || byHand {
		return nil
	}
	var have int64
	for _, r := range k.rows.rows {
		if r.project() == project {
			have++
		}
	}
	if have >= n {
		return failedAs(http.StatusConflict, "OverQuota", "Quota exceeded for resources: ['%s'].", k.quota)
	}
	return nil
}

func (c *Cloud) networkQuotaRoutes(on func(method, pattern string, h handler)) {
	quota := func(q *request) fields {
		f := networkQuota()
		maps.Copy(f, q.network.quotas[q.id()])
		return f
	}
	on("GET", "/v2.0/quotas", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		list := []any{}
		for _, project := range slices.Sorted(maps.Keys(q.network.quotas)) {
			f := networkQuota()
			maps.Copy(f, q.network.quotas[project])
			f["project_id"], f["tenant_id"] = project, project
			list = append(list, f)
		}
		return ok(fields{"quotas": list})
	})
	on("GET", "/v2.0/quotas/{id}", func(q *request) (reply, error) { return ok(fields{"quota": quota(q)}) })
	on("GET", "/v2.0/quotas/{id}/default", func(q *request) (reply, error) { return ok(fields{"quota": networkQuota()}) })
	on("PUT", "/v2.0/quotas/{id}", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		in, err := q.input("quota")
		if err != nil {
			return reply{}, err
		}
		known := networkQuota()
		for key := range in {
			if known[key] == nil {
				return reply{}, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", key)
			}
		}
		set := maps.Clone(q.network.quotas[q.id()])
		if set == nil {
			set = fields{}
		}
		maps.Copy(set, in)
		q.network.quotas[q.id()] = set
		return ok(fields{"quota": quota(q)})
	})
	on("DELETE", "/v2.0/quotas/{id}", func(q *request) (reply, error) {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
		if q.network.quotas[q.id()] == nil {
			return reply{}, failedAs(http.StatusNotFound, "TenantQuotaNotFound", "Quota for tenant %s could not be found.", q.id())
		}
		delete(q.network.quotas, q.id())
		return gone()
	})
}
