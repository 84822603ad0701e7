package fakecloud

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// objectState is what Swift knows, by account ("AUTH_" and the project).
type objectState struct {
	accounts map[string]*account
	last     time.Time // of the last time stamp given: no two are the same
}

type account struct {
	meta       http.Header // X-Account-Meta-*
	containers map[string]*container
	names      []string // sorted
	born       time.Time
}

type container struct {
	name      string
	meta      http.Header // X-Container-Meta-*, ACLs, policy, versions
	objects   map[string]*object
	names     []string             // sorted
	old       map[string][]*object // earlier versions and delete marks, oldest first
	versioned bool
	bytes     int64
	born      time.Time
	touched   time.Time // last change of its own metadata
}

type object struct {
	name     string
	data     *Content // own bytes; of a static large object its manifest
	etag     string
	kind     string      // content type
	meta     http.Header // X-Object-Meta-*, X-Delete-At, Content-Encoding and so on
	modified time.Time
	version  string
	mark     bool      // a version that says: deleted
	slo      []segment // parts of a static large object
	sloETag  string
	size     int64           // as listed
	enc      json.RawMessage // the row of its container's listing, once it was listed
}

// segment is a part of a static large object.
type segment struct {
	path        string // "/container/object"
	etag        string
	size        int64
	first, last int64 // of the range; last -1 is the whole
	kind        string
	modified    time.Time
	large       bool // it is one itself
}

const (
	listingMost   = 10000
	objectMost    = 5<<30 + 2
	emptyMD5      = "d41d8cd98f00b204e9800998ecf8427e"
	deletedKind   = "application/x-deleted;swift_versions_deleted=1"
	octets        = "application/octet-stream"
	versionsOn    = "X-Versions-Enabled"
	manifestOf    = "X-Object-Manifest"
	deleteAt      = "X-Delete-At"
	storagePolicy = "X-Storage-Policy"
)

// objectPath is where in Swift a request goes.
type objectPath struct{ account, container, object string }

// serveObjects routes a request of Swift by its escaped path.
func (c *Cloud) serveObjects(w http.ResponseWriter, r *http.Request) {
	rest, found := strings.CutPrefix(r.URL.EscapedPath(), "/object-store/v1/")
	if !found {
		c.serve(w, r, route{service: ObjectStore, pattern: "/info", open: true}, (*request).objectInfo)
		return
	}
	parts := strings.SplitN(rest, "/", 3)
	for i := range parts {
		name, err := url.PathUnescape(parts[i])
		if err != nil {
			name = parts[i]
		}
		parts[i] = name
	}
	at := objectPath{account: parts[0]}
	rt := route{service: ObjectStore, pattern: "/v1/{account}", open: true}
	handle := (*request).serveAccount
	if len(parts) > 1 && parts[1] != "" {
		at.container, rt.pattern, handle = parts[1], "/v1/{account}/{container}", (*request).serveContainer
	}
	if len(parts) > 2 && parts[2] != "" {
		at.object, rt.pattern, rt.stream, handle = parts[2], "/v1/{account}/{container}/{object}", true, (*request).serveObject
	}
	c.serve(w, r, rt, func(q *request) (reply, error) { return handle(q, at) })
}

func (q *request) objectInfo() (reply, error) {
	return ok(fields{"swift": fields{"version": "2.30.1", "account_listing_limit": listingMost, "container_listing_limit": listingMost,
		"max_file_size": int64(objectMost), "max_object_name_length": 1024, "max_container_name_length": 256, "policies": []any{fields{"name": "Policy-0", "default": true}}},
		"slo": fields{"max_manifest_segments": 1000, "min_segment_size": 1}, "dlo": fields{"max_segments": 0}, "bulk_delete": fields{"max_deletes_per_request": 10000},
		"object_versioning": fields{}, "tempurl": fields{"methods": []any{"GET", "HEAD", "PUT", "POST", "DELETE"}}})
}

// tick is the time of a change: two changes never have the same.
func (c *Cloud) tick() time.Time {
	t := c.now().UTC().Truncate(10 * time.Microsecond)
	if !t.After(c.objects.last) {
		t = c.objects.last.Add(10 * time.Microsecond)
	}
	c.objects.last = t
	return t
}

func swiftStamp(t time.Time) string { return fmt.Sprintf("%d.%05d", t.Unix(), t.Nanosecond()/10000) }
func listStamp(t time.Time) string  { return t.Format("2006-01-02T15:04:05.000000") }

// lastModified is a header's time: whole seconds, upwards.
func lastModified(t time.Time) string {
	return time.Unix(int64(math.Ceil(float64(t.UnixNano())/1e9)), 0).UTC().Format(http.TimeFormat)
}

// account gives an account; it comes to be when it is first used.
func (c *Cloud) account(name string) *account {
	if c.objects.accounts == nil {
		c.objects.accounts = map[string]*account{}
	}
	a := c.objects.accounts[name]
	if a == nil {
		a = &account{meta: http.Header{}, containers: map[string]*container{}, born: c.tick()}
		c.objects.accounts[name] = a
	}
	return a
}

// enter lets in who may: the account's own project with a role there, a
// reseller's administrator everywhere, others by the container's lists.
func (q *request) enter(at objectPath, ct *container, write bool) error {
	err := q.knownToSwift()
	if err == nil {
		if slices.Contains(q.token.names, "ResellerAdmin") {
			return nil
		}
		own := at.account == "AUTH_"+q.token.project
		if own && (q.token.admin || slices.Contains(q.token.names, "member") || slices.Contains(q.token.names, "swiftoperator")) {
			return nil
		}
		if ct != nil && q.admitted(ct, write) {
			return nil
		}
		return failed(http.StatusForbidden, "Access was denied to this resource.")
	}
	if ct != nil && !write && strings.Contains(ct.meta.Get("X-Container-Read"), ".r:*") && q.r.Header.Get("X-Auth-Token") == "" {
		return nil
	}
	return err
}

func (q *request) knownToSwift() error {
	q.open = false // Swift asks for the token itself
	return q.authenticated()
}

// admitted tells whether a container's ACL names the token's user or project.
func (q *request) admitted(ct *container, write bool) bool {
	list := ct.meta.Get("X-Container-Read")
	if write {
		list = ct.meta.Get("X-Container-Write")
	}
	for entry := range strings.SplitSeq(list, ",") {
		project, user, pair := strings.Cut(strings.TrimSpace(entry), ":")
		if pair && (project == "*" || project == q.token.project) && (user == "*" || user == q.token.user) {
			return true
		}
		if !pair && slices.Contains(q.token.names, project) {
			return true
		}
	}
	return false
}

func (q *request) serveAccount(at objectPath) (reply, error) {
	if err := q.enter(at, nil, true); err != nil {
		return reply{}, err
	}
	a := q.account(at.account)
	switch q.r.Method {
	case http.MethodHead:
		return reply{status: http.StatusNoContent, header: q.accountHeader(a)}, nil
	case http.MethodPost:
		if q.query().Has("bulk-delete") {
			return q.bulkDelete(at)
		}
		takeMeta(a.meta, q.r.Header, "X-Account-Meta-", "X-Remove-Account-Meta-")
		return gone()
	case http.MethodGet:
		return q.listContainers(a)
	}
	return reply{}, failed(http.StatusMethodNotAllowed, "The method is not allowed for this resource.")
}

func (q *request) accountHeader(a *account) http.Header {
	h := a.meta.Clone()
	var count int
	var bytes int64
	for _, ct := range a.containers {
		count, bytes = count+len(ct.objects), bytes+ct.bytes
	}
	h.Set("X-Account-Container-Count", strconv.Itoa(len(a.containers)))
	h.Set("X-Account-Object-Count", strconv.Itoa(count))
	h.Set("X-Account-Bytes-Used", strconv.FormatInt(bytes, 10))
	h.Set("X-Timestamp", swiftStamp(a.born))
	h.Set("X-Account-Storage-Policy-Policy-0-Object-Count", strconv.Itoa(count))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	return h
}

// takeMeta takes metadata headers over: an empty value removes one, and so
// does the header that says so.
func takeMeta(into, from http.Header, prefix, remove string) {
	for key, values := range from {
		key = textproto.CanonicalMIMEHeaderKey(key)
		if strings.HasPrefix(key, prefix) {
			if values[0] == "" {
				into.Del(key)
			} else {
				into[key] = []string{values[0]}
			}
		}
		if name, found := strings.CutPrefix(key, remove); found {
			into.Del(prefix + name)
		}
	}
}

func (q *request) listContainers(a *account) (reply, error) {
	var rows []listed
	for _, name := range a.names {
		ct := a.containers[name]
		rows = append(rows, listed{name, func() any {
			return fields{"name": name, "count": len(ct.objects), "bytes": ct.bytes, "last_modified": listStamp(ct.touched)}
		}})
	}
	return q.listing(rows, q.accountHeader(a))
}

// listed is a row of one of Swift's listings.
type listed struct {
	name string
	body func() any
}

// listing cuts, folds and words a listing. Rows are in order of their names.
func (q *request) listing(rows []listed, header http.Header) (reply, error) {
	query := q.query()
	limit := listingMost
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > listingMost {
			return reply{}, failed(http.StatusPreconditionFailed, "Maximum limit is %d", listingMost)
		}
		limit = n
	}
	prefix, delimiter := query.Get("prefix"), query.Get("delimiter")
	marker, end := query.Get("marker"), query.Get("end_marker")
	var fit []listed
	for _, row := range rows {
		if !strings.HasPrefix(row.name, prefix) || end != "" && row.name >= end {
			continue
		}
		if i := strings.Index(row.name[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			dir := row.name[:len(prefix)+i+len(delimiter)]
			if len(fit) > 0 && fit[len(fit)-1].name == dir {
				continue
			}
			row = listed{dir, func() any { return fields{"subdir": dir} }}
		}
		fit = append(fit, row)
	}
	if query.Get("reverse") == "true" && marker == "" {
		slices.Reverse(fit)
	}
	from := 0
	if marker != "" {
		from, _ = slices.BinarySearchFunc(fit, marker, func(row listed, m string) int { return strings.Compare(row.name, m) })
		for from < len(fit) && fit[from].name <= marker {
			from++
		}
	}
	from, to := q.bend(from, min(from+limit, len(fit)), limit, len(fit))
	return q.words(fit[from:to], header)
}

func (q *request) words(rows []listed, header http.Header) (reply, error) {
	if q.query().Get("format") == "json" || strings.Contains(q.r.Header.Get("Accept"), "application/json") {
		list := make([]any, len(rows))
		for i, row := range rows {
			list[i] = row.body()
		}
		out := reply{status: http.StatusOK, header: header, raw: encode(list)}
		out.set("Content-Type", "application/json; charset=utf-8")
		return out, nil
	}
	var text strings.Builder
	for _, row := range rows {
		text.WriteString(row.name + "\n")
	}
	out := reply{status: http.StatusOK, header: header, raw: []byte(text.String())}
	if text.Len() == 0 {
		out.status = http.StatusNoContent
	}
	out.set("Content-Type", "text/plain; charset=utf-8")
	return out, nil
}

// bulkDelete removes the objects and containers a body lists.
func (q *request) bulkDelete(at objectPath) (reply, error) {
	deleted, missing := 0, 0
	for line := range strings.SplitSeq(string(q.raw), "\n") {
		name, err := url.PathUnescape(strings.TrimSpace(line))
		if err != nil || name == "" {
			continue
		}
		cn, on, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
		ct := q.account(at.account).containers[cn]
		switch {
		case ct == nil, on != "" && ct.objects[on] == nil:
			missing++
		case on == "":
			q.account(at.account).drop(cn)
			deleted++
		default:
			q.removeObject(ct, on)
			deleted++
		}
	}
	return ok(fields{"Number Deleted": deleted, "Number Not Found": missing, "Errors": []any{}, "Response Status": "200 OK", "Response Body": ""})
}

func (a *account) drop(name string) {
	delete(a.containers, name)
	if i, found := slices.BinarySearch(a.names, name); found {
		a.names = slices.Delete(a.names, i, i+1)
	}
}
