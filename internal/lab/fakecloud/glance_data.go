package fakecloud

import (
	"net/http"
	"strings"
)

// imageUpload takes an image's data, once. A body that ends early leaves the
// image as it was.
func (q *request) imageUpload() (reply, error) {
	if err := q.beginUpload(); err != nil {
		return reply{}, err
	}
	data, err := receive(q.r.Body)
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.images.rows.get(q.id())
	if r == nil {
		return reply{}, failed(http.StatusGone, "Image %s could not be found after upload. The image may have been deleted during the upload.", q.id())
	}
	if err != nil {
		r.set("status", "queued")
		q.imageTouch(r)
		return reply{}, failed(http.StatusBadRequest, "Client disconnected before sending all data to backend")
	}
	q.fill(r, data)
	return gone()
}

// beginUpload checks that the image still waits for its data.
func (q *request) beginUpload() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	r, err := q.ownImage()
	if err != nil {
		return err
	}
	if kind := q.r.Header.Get("Content-Type"); !strings.HasPrefix(kind, octets) {
		return failed(http.StatusUnsupportedMediaType, "The server could not handle content of type %s", kind)
	}
	if status := text(r.f, "status"); status != "queued" {
		return failed(http.StatusConflict, "Image status transition from %s to saving is not allowed", status)
	}
	if r.f["disk_format"] == nil || r.f["container_format"] == nil {
		return failed(http.StatusBadRequest, "Properties disk_format, container_format must be set prior to saving data.")
	}
	r.set("status", "saving")
	q.imageTouch(r)
	return nil
}

// fill makes an image active.
func (c *Cloud) fill(r *row, data *Content) {
	c.images.data[r.id()] = data
	r.set("size", data.size)
	r.set("checksum", data.md5)
	r.set("os_hash_algo", "sha512")
	r.set("os_hash_value", data.sha512)
	r.set("status", "active")
	r.set("updated_at", c.stampNow())
}

func (q *request) imageDownload() (reply, error) {
	r, err := q.image()
	if err != nil {
		return reply{}, err
	}
	if text(r.f, "status") == "deactivated" && !q.token.admin {
		return reply{}, failed(http.StatusForbidden, "The requested image has been deactivated. Image data download is forbidden.")
	}
	data := q.images.data[r.id()]
	if data == nil {
		return gone()
	}
	whole := &payload{}
	whole.add(data, 0, data.size)
	part, status, info, err := q.ranged(whole)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: status, data: part}
	out.set("Content-Type", octets)
	if info != "" {
		out.set("Content-Range", info)
	} else {
		out.set("Content-Md5", data.md5)
	}
	return out, nil
}

func (c *Cloud) memberRoutes(on func(method, pattern string, h handler)) {
	const base, one = "/v2/images/{id}/members", "/v2/images/{id}/members/{member}"
	find := func(q *request) (*row, *table, error) {
		r, err := q.image()
		if err != nil {
			return nil, nil, err
		}
		if text(r.f, "visibility") != "shared" {
			return nil, nil, failed(http.StatusForbidden, "Only shared images have members.")
		}
		t := q.images.members[r.id()]
		if t == nil {
			t = &table{}
			q.images.members[r.id()] = t
		}
		return r, t, nil
	}
	member := func(q *request) (*row, *row, *table, error) {
		r, t, err := find(q)
		if err != nil {
			return nil, nil, nil, err
		}
		m := t.get(q.r.PathValue("member"))
		if m == nil {
			return nil, nil, nil, failed(http.StatusNotFound, "%s not found in the member list of the image %s.", q.r.PathValue("member"), r.id())
		}
		return r, m, t, nil
	}
	on("GET", base, func(q *request) (reply, error) {
		_, t, err := find(q)
		if err != nil {
			return reply{}, err
		}
		list := []any{}
		for _, m := range t.rows {
			list = append(list, memberBody(m))
		}
		return ok(fields{"members": list, "schema": "/v2/schemas/members"})
	})
	on("POST", base, func(q *request) (reply, error) {
		r, t, err := find(q)
		if err != nil {
			return reply{}, err
		}
		in, err := q.input("")
		if err != nil {
			return reply{}, err
		}
		id := text(in, "member")
		if id == "" {
			return reply{}, failed(http.StatusBadRequest, "Member to be added not specified")
		}
		if t.get(id) != nil {
			return reply{}, failed(http.StatusConflict, "Member %s is duplicated for image %s", id, r.id())
		}
		m := t.add(fields{"id": id, "member_id": id, "image_id": r.id(), "status": "pending", "created_at": q.stampNow(),
			"updated_at": q.stampNow(), "schema": "/v2/schemas/member"})
		return ok(memberBody(m))
	})
	on("GET", one, func(q *request) (reply, error) {
		_, m, _, err := member(q)
		if err != nil {
			return reply{}, err
		}
		return ok(memberBody(m))
	})
	on("PUT", one, func(q *request) (reply, error) {
		_, m, _, err := member(q)
		if err != nil {
			return reply{}, err
		}
		if !q.token.admin && q.token.project != m.id() {
			return reply{}, failed(http.StatusForbidden, "You are not permitted to modify 'status' on this image member.")
		}
		in, err := q.input("")
		if err != nil {
			return reply{}, err
		}
		switch s := text(in, "status"); s {
		case "pending", "accepted", "rejected":
			m.set("status", s)
			m.set("updated_at", q.stampNow())
		default:
			return reply{}, failed(http.StatusBadRequest, "Invalid status: %s", s)
		}
		return ok(memberBody(m))
	})
	on("DELETE", one, func(q *request) (reply, error) {
		_, m, t, err := member(q)
		if err != nil {
			return reply{}, err
		}
		t.remove(m.id())
		return gone()
	})
}

func memberBody(m *row) fields {
	return subset(m.f, []string{"member_id", "image_id", "status", "created_at", "updated_at", "schema"})
}
