package fakecloud

import (
	"crypto/md5" // Swift's ETag is MD5
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func (q *request) serveObject(at objectPath) (reply, error) {
	if q.r.Method == http.MethodPut {
		return q.putObject(at)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	write := q.r.Method != http.MethodGet && q.r.Method != http.MethodHead
	ct, err := q.containerFor(at, write)
	if err != nil {
		return reply{}, err
	}
	q.expireOne(ct, at.object)
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
		return q.getObject(at, ct)
	case http.MethodPost:
		return q.postObject(at, ct)
	case http.MethodDelete:
		return q.deleteObject(at, ct)
	}
	return reply{}, failed(http.StatusMethodNotAllowed, "The method is not allowed for this resource.")
}

func (q *request) expireOne(ct *container, name string) {
	if o := ct.objects[name]; o != nil && o.meta.Get(deleteAt) != "" {
		q.expire(ct)
	}
}

func (q *request) containerFor(at objectPath, write bool) (*container, error) {
	ct := q.account(at.account).containers[at.container]
	if err := q.enter(at, ct, write); err != nil {
		return nil, err
	}
	if ct == nil {
		return nil, failed(http.StatusNotFound, "The resource could not be found.")
	}
	return ct, nil
}

func (q *request) mayPut(at objectPath) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	ct, err := q.containerFor(at, true)
	switch {
	case err != nil:
		return err
	case q.r.ContentLength > objectMost:
		return failed(http.StatusRequestEntityTooLarge, "The body of your request was too large for this server.")
	case len(at.object) > 1024:
		return failed(http.StatusBadRequest, "Object name length of %d longer than 1024", len(at.object))
	case q.r.Header.Get("If-None-Match") == "*" && ct.objects[at.object] != nil:
		return failed(http.StatusPreconditionFailed, "A precondition for this request was not met.")
	}
	return nil
}

func (q *request) putObject(at objectPath) (reply, error) {
	if err := q.mayPut(at); err != nil {
		return reply{}, err
	}
	manifest := q.query().Get("multipart-manifest") == "put"
	data, err := receive(q.r.Body)
	if err != nil {
		return reply{}, failed(499, "Client disconnected without sending enough data.")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	// The token was good when the upload began, and that is what counts.
	ct := q.account(at.account).containers[at.container]
	if ct == nil {
		return reply{}, failed(http.StatusNotFound, "The resource could not be found.")
	}
	o := &object{name: at.object, data: data, etag: data.md5, size: data.size, kind: q.r.Header.Get("Content-Type"), meta: http.Header{}}
	if o.kind == "" {
		o.kind = octets
	}
	if err := q.objectMeta(o); err != nil {
		return reply{}, err
	}
	if err := q.checkLink(at, o); err != nil {
		return reply{}, err
	}
	if manifest {
		if err := q.staticLarge(at, o); err != nil {
			return reply{}, err
		}
	} else if want := strings.Trim(q.r.Header.Get("ETag"), `"`); want != "" && !strings.EqualFold(want, data.md5) {
		return reply{}, failed(http.StatusUnprocessableEntity, "Unable to process the contained instructions")
	}
	q.store(ct, o)
	out := reply{status: http.StatusCreated}
	out.set("ETag", o.etag)
	if o.slo != nil {
		out.set("ETag", `"`+o.sloETag+`"`)
	}
	out.set("Last-Modified", lastModified(o.modified))
	if o.version != "" {
		out.set("X-Object-Version-Id", o.version)
	}
	return out, nil
}

// objectMeta takes an object's metadata from the request's headers.
func (q *request) objectMeta(o *object) error {
	takeMeta(o.meta, q.r.Header, "X-Object-Meta-", "X-Remove-Object-Meta-")
	for _, key := range []string{"Content-Encoding", "Content-Disposition", "Cache-Control", "Content-Language", manifestOf, linkTo, linkAccount, linkETag} {
		if v := q.r.Header.Get(key); v != "" {
			o.meta.Set(key, v)
		}
	}
	if v, err := url.PathUnescape(o.meta.Get(manifestOf)); v != "" && (err != nil || !strings.Contains(strings.TrimPrefix(v, "/"), "/")) {
		return failed(http.StatusBadRequest, "X-Object-Manifest must be in the format container/prefix")
	}
	now := q.now().Unix()
	if after := q.r.Header.Get("X-Delete-After"); after != "" {
		n, err := strconv.ParseInt(after, 10, 64)
		if err != nil || n < 0 {
			return failed(http.StatusBadRequest, "Non-integer X-Delete-After")
		}
		o.meta.Set(deleteAt, strconv.FormatInt(now+n, 10))
	} else if at := q.r.Header.Get(deleteAt); at != "" {
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil || n <= now {
			return failed(http.StatusBadRequest, "X-Delete-At in past")
		}
		o.meta.Set(deleteAt, at)
	}
	return nil
}

// staticLarge checks the parts a manifest names and makes an object of them.
func (q *request) staticLarge(at objectPath, o *object) error {
	var parts []struct {
		Path  string      `json:"path"`
		ETag  *string     `json:"etag"`
		Size  json.Number `json:"size_bytes"`
		Range string      `json:"range"`
	}
	if err := json.Unmarshal(o.data.held, &parts); err != nil || len(parts) == 0 {
		return failed(http.StatusBadRequest, "Manifest must be valid JSON.")
	}
	if len(parts) > 1000 {
		return failed(http.StatusRequestEntityTooLarge, "Number of segments must be <= 1000")
	}
	var problems []string
	whole := md5.New()
	for _, part := range parts {
		cn, on, _ := strings.Cut(strings.TrimPrefix(part.Path, "/"), "/")
		source := q.account(at.account).containers[cn]
		if source == nil || source.objects[on] == nil {
			problems = append(problems, part.Path+", 404 Not Found")
			continue
		}
		from := source.objects[on]
		s := segment{path: "/" + cn + "/" + on, etag: from.etag, size: from.size, last: -1, kind: from.kind, modified: from.modified}
		if from.slo != nil {
			s.etag, s.large = from.sloETag, true
		}
		if part.ETag != nil && *part.ETag != "" && *part.ETag != s.etag {
			problems = append(problems, part.Path+", Etag Mismatch")
		}
		if part.Size != "" && part.Size.String() != strconv.FormatInt(s.size, 10) {
			problems = append(problems, part.Path+", Size Mismatch")
		}
		sum := s.etag
		if part.Range != "" {
			first, last, _ := strings.Cut(part.Range, "-")
			a, errA := strconv.ParseInt(first, 10, 64)
			b, errB := strconv.ParseInt(last, 10, 64)
			if errA != nil || errB != nil || a > b || b >= s.size {
				problems = append(problems, part.Path+", Unsatisfiable Range")
				continue
			}
			s.first, s.last = a, b
			sum = fmt.Sprintf("%s:%s;", s.etag, part.Range)
		}
		_, _ = whole.Write([]byte(sum))
		o.slo = append(o.slo, s)
	}
	if problems != nil {
		return failed(http.StatusBadRequest, "Errors:\n%s", strings.Join(problems, "\n"))
	}
	o.size = 0
	for _, s := range o.slo {
		o.size += s.length()
	}
	o.sloETag = hex.EncodeToString(whole.Sum(nil))
	o.data = Bytes(encode(o.manifest()))
	o.etag = o.data.md5
	return nil
}

func (s segment) length() int64 {
	if s.last < 0 {
		return s.size
	}
	return s.last - s.first + 1
}

// manifest is a static large object's list of parts as Swift keeps it.
func (o *object) manifest() []any {
	var list []any
	for _, s := range o.slo {
		f := fields{"name": s.path, "hash": s.etag, "bytes": s.size, "content_type": s.kind, "last_modified": listStamp(s.modified)}
		if s.last >= 0 {
			f["range"] = fmt.Sprintf("%d-%d", s.first, s.last)
		}
		if s.large {
			f["sub_slo"] = true
		}
		list = append(list, f)
	}
	return list
}

// rawManifest is that list as it can be put again.
func (o *object) rawManifest() []any {
	var list []any
	for _, s := range o.slo {
		f := fields{"path": s.path, "etag": s.etag, "size_bytes": s.size}
		if s.last >= 0 {
			f["range"] = fmt.Sprintf("%d-%d", s.first, s.last)
		}
		list = append(list, f)
	}
	return list
}

// wanted finds the object, or the version of it, that a request names.
func (q *request) wanted(at objectPath, ct *container) (*object, error) {
	o := ct.objects[at.object]
	if id := q.query().Get("version-id"); id != "" {
		if o == nil || o.version != id {
			o = nil
			for _, old := range ct.old[at.object] {
				if old.version == id || id == "null" && old.version == "" {
					o = old
				}
			}
		}
	}
	if o == nil || o.mark {
		return nil, failed(http.StatusNotFound, "The resource could not be found.")
	}
	return o, nil
}

func (q *request) getObject(at objectPath, ct *container) (reply, error) {
	o, err := q.wanted(at, ct)
	if err == nil {
		at, o, err = q.follow(at, o)
	}
	if err != nil {
		return reply{}, err
	}
	h := o.meta.Clone()
	h.Set("Content-Type", o.kind)
	h.Set("Last-Modified", lastModified(o.modified))
	h.Set("X-Timestamp", swiftStamp(o.modified))
	h.Set("Accept-Ranges", "bytes")
	if o.version != "" {
		h.Set("X-Object-Version-Id", o.version)
	}
	whole, etag, err := q.bytesOf(at, o, h)
	if err != nil {
		return reply{}, err
	}
	h.Set("ETag", etag)
	if match := q.r.Header.Get("If-None-Match"); match != "" && (match == "*" || strings.Trim(match, `"`) == strings.Trim(etag, `"`)) {
		return reply{status: http.StatusNotModified, header: h}, nil
	}
	if match := q.r.Header.Get("If-Match"); match != "" && match != "*" && strings.Trim(match, `"`) != strings.Trim(etag, `"`) {
		return reply{}, failed(http.StatusPreconditionFailed, "A precondition for this request was not met.")
	}
	part, status, info, err := q.ranged(whole)
	if err != nil {
		return reply{}, err
	}
	if info != "" {
		h.Set("Content-Range", info)
	}
	return reply{status: status, header: h, data: part}, nil
}

// bytesOf is what reading an object gives: its own bytes, those of the parts
// of a large one, or its manifest.
func (q *request) bytesOf(at objectPath, o *object, h http.Header) (*payload, string, error) {
	p := &payload{}
	manifest := q.query().Get("multipart-manifest") == "get"
	switch {
	case o.slo != nil && manifest:
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("X-Static-Large-Object", "True")
		data := o.data
		if q.query().Get("format") == "raw" {
			data = Bytes(encode(o.rawManifest()))
		}
		p.add(data, 0, data.size)
		return p, data.md5, nil
	case o.slo != nil:
		h.Set("X-Static-Large-Object", "True")
		if q.r.Method == http.MethodHead {
			p.size = o.size // its parts are not looked at
		} else if err := q.addParts(p, at.account, o, 0); err != nil {
			return nil, "", err
		}
		return p, `"` + o.sloETag + `"`, nil
	case o.meta.Get(manifestOf) != "" && !manifest:
		return p, q.addPrefixed(p, at.account, o), nil
	}
	p.add(o.data, 0, o.data.size)
	return p, o.etag, nil
}

func (q *request) addParts(p *payload, account string, o *object, depth int) error {
	for _, s := range o.slo {
		cn, on, _ := strings.Cut(strings.TrimPrefix(s.path, "/"), "/")
		ct := q.account(account).containers[cn]
		if ct == nil || ct.objects[on] == nil || depth > 10 {
			return failed(http.StatusConflict, "There was a conflict when trying to complete your request.")
		}
		part := ct.objects[on]
		if part.slo != nil {
			if err := q.addParts(p, account, part, depth+1); err != nil {
				return err
			}
			continue
		}
		if part.etag != s.etag {
			return failed(http.StatusConflict, "There was a conflict when trying to complete your request.")
		}
		p.add(part.data, s.first, s.length())
	}
	return nil
}

// addPrefixed adds the parts of a dynamic large object: whatever begins with
// its prefix now.
func (q *request) addPrefixed(p *payload, account string, o *object) string {
	source, err := url.PathUnescape(o.meta.Get(manifestOf))
	if err != nil {
		source = o.meta.Get(manifestOf)
	}
	cn, prefix, _ := strings.Cut(strings.TrimPrefix(source, "/"), "/")
	sum := md5.New()
	if ct := q.account(account).containers[cn]; ct != nil {
		for _, name := range ct.names {
			if part := ct.objects[name]; strings.HasPrefix(name, prefix) && part != o {
				p.add(part.data, 0, part.data.size)
				_, _ = sum.Write([]byte(part.etag))
			}
		}
	}
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`
}

// postObject replaces an object's metadata; its data and hash stay.
func (q *request) postObject(at objectPath, ct *container) (reply, error) {
	o, err := q.wanted(at, ct)
	if err != nil {
		return reply{}, err
	}
	if o.meta.Get(linkTo) != "" {
		return reply{}, failed(http.StatusTemporaryRedirect, "The requested resource is a link.")
	}
	changed := *o
	changed.meta = http.Header{}
	if m := o.meta.Get(manifestOf); m != "" {
		changed.meta.Set(manifestOf, m)
	}
	if err := q.objectMeta(&changed); err != nil {
		return reply{}, err
	}
	if kind := q.r.Header.Get("Content-Type"); kind != "" {
		changed.kind = kind
	}
	changed.modified, changed.enc = q.tick(), nil
	ct.objects[at.object] = &changed
	return reply{status: http.StatusAccepted}, nil
}

func (q *request) deleteObject(at objectPath, ct *container) (reply, error) {
	if id := q.query().Get("version-id"); id != "" {
		return q.deleteVersion(at, ct, id)
	}
	o := ct.objects[at.object]
	if o == nil && !ct.versioned {
		return reply{}, failed(http.StatusNotFound, "The resource could not be found.")
	}
	if o != nil && o.slo != nil && q.query().Get("multipart-manifest") == "delete" {
		for _, s := range o.slo {
			cn, on, _ := strings.Cut(strings.TrimPrefix(s.path, "/"), "/")
			if parts := q.account(at.account).containers[cn]; parts != nil && parts.objects[on] != nil {
				q.removeObject(parts, on)
			}
		}
	}
	q.removeObject(ct, at.object)
	return gone()
}

func (q *request) deleteVersion(at objectPath, ct *container, id string) (reply, error) {
	if o := ct.objects[at.object]; o != nil && (o.version == id || id == "null" && o.version == "") {
		q.forget(ct, at.object)
		return gone()
	}
	old := slices.DeleteFunc(ct.old[at.object], func(o *object) bool { return o.version == id || id == "null" && o.version == "" })
	if len(old) == 0 {
		delete(ct.old, at.object)
	} else {
		ct.old[at.object] = old
	}
	return gone()
}
