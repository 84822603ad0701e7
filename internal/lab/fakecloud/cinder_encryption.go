package fakecloud

import (
	"maps"
	"net/http"
)

// encryptionRoutes serve how the volumes of a type are encrypted. A type that
// is not says so with an empty object.
func (c *Cloud) encryptionRoutes(on func(method, pattern string, h handler)) {
	one := func(method, pattern string, h func(q *request, r *row) (reply, error)) {
		on(method, "/types/{id}/encryption"+pattern, func(q *request) (reply, error) {
			if err := q.needAdmin(); err != nil {
				return reply{}, err
			}
			r, err := q.volumeType()
			if err != nil {
				return reply{}, err
			}
			return h(q, r)
		})
	}
	one("GET", "", func(q *request, r *row) (reply, error) {
		if f := q.block.encryption[r.id()]; f != nil {
			return ok(f)
		}
		return ok(fields{})
	})
	one("POST", "", func(q *request, r *row) (reply, error) {
		in, err := q.input("encryption")
		if err != nil {
			return reply{}, err
		}
		switch {
		case q.block.encryption[r.id()] != nil:
			return reply{}, failed(http.StatusConflict, "Volume type encryption for type %s already exists.", r.id())
		case text(in, "provider") == "" || text(in, "control_location") == "":
			return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute encryption.")
		}
		f := fields{"volume_type_id": r.id(), "encryption_id": q.uuid(), "cipher": nil, "key_size": nil, "deleted": false, "deleted_at": nil,
			"created_at": q.dnsStamp(), "updated_at": nil}
		maps.Copy(f, in)
		q.block.encryption[r.id()] = f
		return ok(fields{"encryption": f})
	})
	held := func(q *request, r *row) (fields, error) {
		f := q.block.encryption[r.id()]
		if f == nil || text(f, "encryption_id") != q.r.PathValue("encryption") {
			return nil, failed(http.StatusNotFound, "Volume type encryption for type %s does not exist.", r.id())
		}
		return f, nil
	}
	one("PUT", "/{encryption}", func(q *request, r *row) (reply, error) {
		f, err := held(q, r)
		if err != nil {
			return reply{}, err
		}
		in, err := q.input("encryption")
		if err != nil {
			return reply{}, err
		}
		f = maps.Clone(f)
		maps.Copy(f, in)
		q.block.encryption[r.id()] = f
		return ok(fields{"encryption": in})
	})
	one("DELETE", "/{encryption}", func(q *request, r *row) (reply, error) {
		if _, err := held(q, r); err != nil {
			return reply{}, err
		}
		delete(q.block.encryption, r.id())
		return reply{status: http.StatusAccepted}, nil
	})
}
