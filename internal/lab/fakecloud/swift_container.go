package fakecloud

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (q *request) serveContainer(at objectPath) (reply, error) {
	a := q.account(at.account)
	ct := a.containers[at.container]
	read := q.r.Method == http.MethodGet || q.r.Method == http.MethodHead
	var acl *container
	if read {
		acl = ct // only objects may be written by ACL, containers not
	}
	if err := q.enter(at, acl, false); err != nil {
		return reply{}, err
	}
	if ct == nil && q.r.Method != http.MethodPut {
		return reply{}, failed(http.StatusNotFound, "The resource could not be found.")
	}
	switch q.r.Method {
	case http.MethodPut:
		return q.putContainer(a, ct, at.container)
	case http.MethodPost:
		if err := q.containerMeta(ct); err != nil {
			return reply{}, err
		}
		ct.touched = q.tick()
		return gone()
	case http.MethodHead:
		return reply{status: http.StatusNoContent, header: q.containerHeader(ct)}, nil
	case http.MethodGet:
		return q.listObjects(ct)
	case http.MethodDelete:
		if len(ct.objects) > 0 || len(ct.old) > 0 {
			return reply{}, failed(http.StatusConflict, "There was a conflict when trying to complete your request.")
		}
		a.drop(at.container)
		return gone()
	}
	return reply{}, failed(http.StatusMethodNotAllowed, "The method is not allowed for this resource.")
}

func (q *request) putContainer(a *account, ct *container, name string) (reply, error) {
	if len(name) > 256 {
		return reply{}, failed(http.StatusBadRequest, "Container name length of %d longer than 256", len(name))
	}
	status := http.StatusAccepted
	if policy := q.r.Header.Get(storagePolicy); policy != "" && policy != "Policy-0" {
		return reply{}, failed(http.StatusBadRequest, "Invalid X-Storage-Policy '%s'", policy)
	}
	if ct == nil {
		status = http.StatusCreated
		ct = q.newContainer(a, name)
	}
	if err := q.containerMeta(ct); err != nil {
		return reply{}, err
	}
	ct.touched = q.tick()
	return reply{status: status}, nil
}

func (c *Cloud) newContainer(a *account, name string) *container {
	ct := &container{name: name, meta: http.Header{}, objects: map[string]*object{}, old: map[string][]*object{}, born: c.tick()}
	ct.touched = ct.born
	a.containers[name] = ct
	i, _ := slices.BinarySearch(a.names, name)
	a.names = slices.Insert(a.names, i, name)
	return ct
}

func (q *request) containerMeta(ct *container) error {
	h := q.r.Header
	takeMeta(ct.meta, h, "X-Container-Meta-", "X-Remove-Container-Meta-")
	for _, key := range []string{"X-Container-Read", "X-Container-Write", "X-Container-Sync-To", "X-Container-Sync-Key", "X-History-Location", "X-Versions-Location"} {
		if values, given := h[key]; given {
			if values[0] == "" {
				ct.meta.Del(key)
			} else {
				ct.meta.Set(key, values[0])
			}
		}
		if _, given := h[strings.Replace(key, "X-", "X-Remove-", 1)]; given {
			ct.meta.Del(key)
		}
	}
	if on := h.Get(versionsOn); on != "" {
		enabled, err := strconv.ParseBool(strings.ToLower(on))
		if err != nil {
			return failed(http.StatusBadRequest, "Invalid value for %s", versionsOn)
		}
		ct.versioned = enabled
		ct.meta.Set(versionsOn, map[bool]string{true: "True", false: "False"}[enabled])
	}
	return nil
}

func (q *request) containerHeader(ct *container) http.Header {
	h := ct.meta.Clone()
	h.Set("X-Container-Object-Count", strconv.Itoa(len(ct.objects)))
	h.Set("X-Container-Bytes-Used", strconv.FormatInt(ct.bytes, 10))
	h.Set("X-Timestamp", swiftStamp(ct.born))
	h.Set("Last-Modified", lastModified(ct.touched))
	h.Set(storagePolicy, "Policy-0")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	return h
}

func (q *request) listObjects(ct *container) (reply, error) {
	q.expire(ct)
	if q.query().Has("versions") {
		return q.listVersions(ct)
	}
	rows := make([]listed, 0, len(ct.names))
	for _, name := range ct.names {
		o := ct.objects[name]
		rows = append(rows, listed{name, o.row})
	}
	return q.listing(rows, q.containerHeader(ct))
}

// listVersions lists every version of every object, the newest first, and
// the marks of deleted ones.
func (q *request) listVersions(ct *container) (reply, error) {
	names := slices.Clone(ct.names)
	for name := range ct.old {
		if ct.objects[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var rows []listed
	row := func(o *object, latest bool) {
		rows = append(rows, listed{o.name, func() any {
			f := o.listing()
			f["is_latest"], f["version_id"] = latest, "null"
			if o.version != "" {
				f["version_id"] = o.version
			}
			return f
		}})
	}
	for _, name := range names {
		current := ct.objects[name]
		if current != nil {
			row(current, true)
		}
		for i, o := range slices.Backward(ct.old[name]) {
			row(o, current == nil && i == len(ct.old[name])-1)
		}
	}
	return q.listing(rows, q.containerHeader(ct))
}

// listing is an object as its container lists it.
func (o *object) listing() fields {
	f := fields{"name": o.name, "hash": o.etag, "bytes": o.size, "content_type": o.kind, "last_modified": listStamp(o.modified)}
	if o.slo != nil {
		f["slo_etag"] = `"` + o.sloETag + `"`
	}
	return f
}

// row is listing, encoded once: a stored object changes only by another that
// takes its place.
func (o *object) row() any {
	if o.enc == nil {
		o.enc = encode(o.listing())
	}
	return o.enc
}

// store puts an object in its place; what was there becomes a version where
// versions are kept.
func (c *Cloud) store(ct *container, o *object) {
	o.modified = c.tick()
	if was := ct.objects[o.name]; was != nil {
		ct.bytes -= was.size
		if ct.versioned {
			ct.old[o.name] = append(ct.old[o.name], was)
		}
	} else {
		i, _ := slices.BinarySearch(ct.names, o.name)
		ct.names = slices.Insert(ct.names, i, o.name)
	}
	if ct.versioned {
		o.version = swiftStamp(o.modified)
	}
	ct.objects[o.name] = o
	ct.bytes += o.size
}

// removeObject takes an object away; where versions are kept it and a mark
// stay behind.
func (c *Cloud) removeObject(ct *container, name string) {
	was := ct.objects[name]
	if was != nil {
		c.forget(ct, name)
		if ct.versioned {
			ct.old[name] = append(ct.old[name], was)
		}
	}
	if ct.versioned {
		at := c.tick()
		ct.old[name] = append(ct.old[name], &object{name: name, etag: emptyMD5, kind: deletedKind, meta: http.Header{},
			data: Bytes(nil), modified: at, version: swiftStamp(at), mark: true})
	}
}

func (c *Cloud) forget(ct *container, name string) {
	ct.bytes -= ct.objects[name].size
	delete(ct.objects, name)
	if i, found := slices.BinarySearch(ct.names, name); found {
		ct.names = slices.Delete(ct.names, i, i+1)
	}
}

// expire removes objects whose time has come.
func (q *request) expire(ct *container) {
	now := q.now().Unix()
	for _, name := range slices.Clone(ct.names) {
		if s := ct.objects[name].meta.Get(deleteAt); s != "" {
			if at, err := strconv.ParseInt(s, 10, 64); err == nil && at <= now {
				q.forget(ct, name)
			}
		}
	}
}
