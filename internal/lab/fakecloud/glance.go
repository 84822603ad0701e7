package fakecloud

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// imageState is what Glance knows.
type imageState struct {
	rows    table
	data    map[string]*Content
	members map[string]*table // by image
	burned  map[string]bool   // ids of deleted images: they never come back
}

func (c *Cloud) imageRoutes() {
	s := &c.images
	s.data, s.members, s.burned = map[string]*Content{}, map[string]*table{}, map[string]bool{}
	on := func(method, pattern string, h handler) { c.on(Image, "/image", method, pattern, h) }
	for _, root := range []string{"/{$}", "/versions"} {
		c.onRoute(route{service: Image, pattern: root, open: true}, "/image", "GET", func(q *request) (reply, error) {
			return reply{status: http.StatusMultipleChoices, body: fields{"versions": []any{fields{"id": "v2.15", "status": "CURRENT",
				"links": []any{fields{"rel": "self", "href": "http://" + q.addr + "/image/v2/"}}}}}}, nil
		})
	}
	on("GET", "/v2/images", (*request).imageList)
	on("POST", "/v2/images", (*request).imageCreate)
	on("GET", "/v2/images/{id}", func(q *request) (reply, error) {
		r, err := q.image()
		if err != nil {
			return reply{}, err
		}
		return ok(r.f)
	})
	on("PATCH", "/v2/images/{id}", (*request).imagePatch)
	on("DELETE", "/v2/images/{id}", (*request).imageDelete)
	c.onRoute(route{service: Image, pattern: "/v2/images/{id}/file", stream: true}, "/image", "PUT", (*request).imageUpload)
	on("GET", "/v2/images/{id}/file", (*request).imageDownload)
	on("PUT", "/v2/images/{id}/tags/{tag}", func(q *request) (reply, error) { return q.imageTag(true) })
	on("DELETE", "/v2/images/{id}/tags/{tag}", func(q *request) (reply, error) { return q.imageTag(false) })
	on("POST", "/v2/images/{id}/actions/deactivate", func(q *request) (reply, error) { return q.imageAction("active", "deactivated") })
	on("POST", "/v2/images/{id}/actions/reactivate", func(q *request) (reply, error) { return q.imageAction("deactivated", "active") })
	c.memberRoutes(on)
}

// reserved are the fields of an image that Glance alone writes.
func reserved(key string) bool {
	return strings.HasPrefix(key, "os_glance_") || slices.Contains([]string{"created_at", "updated_at", "status", "checksum", "size", "virtual_size",
		"direct_url", "self", "file", "schema", "stores", "os_hash_algo", "os_hash_value"}, key)
}

// basic are an image's own fields; all others are properties.
func basic() fields {
	return fields{"id": nil, "name": nil, "visibility": "shared", "protected": false, "os_hidden": false, "container_format": nil, "disk_format": nil,
		"min_disk": int64(0), "min_ram": int64(0), "owner": nil, "tags": []any{}}
}

// image finds the image of the path, if the token may see it.
func (q *request) image() (*row, error) {
	r := q.images.rows.get(q.id())
	if r == nil || !q.seesImage(r) {
		return nil, failed(http.StatusNotFound, "No image found with ID %s", q.id())
	}
	return r, nil
}

// ownImage is image for a change: what is only visible may not be changed.
func (q *request) ownImage() (*row, error) {
	r, err := q.image()
	if err == nil && !q.token.admin && text(r.f, "owner") != q.token.project {
		return nil, failed(http.StatusForbidden, "You are not authorized to complete this action.")
	}
	return r, err
}

func (q *request) seesImage(r *row) bool {
	if q.token.admin || text(r.f, "owner") == q.token.project {
		return true
	}
	switch text(r.f, "visibility") {
	case "public", "community":
		return true
	case "shared":
		return q.memberStatus(r) != ""
	}
	return false
}

func (q *request) memberStatus(r *row) string {
	if t := q.images.members[r.id()]; t != nil {
		if m := t.get(q.token.project); m != nil {
			return text(m.f, "status")
		}
	}
	return ""
}

func (q *request) imageList() (reply, error) {
	query := q.query()
	keys, dirs := imageSort(query)
	for _, key := range keys {
		if reserved := []string{"name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"}; !slices.Contains(reserved, key) {
			return reply{}, failed(http.StatusBadRequest, "Invalid sort key: %s.", key)
		}
	}
	match, err := q.imageFilter(query)
	if err != nil {
		return reply{}, err
	}
	rows := q.images.rows.all(match)
	sorted(rows, keys, dirs, true)
	page, next, err := q.cut(rows, paging{standard: 25, most: 1000, lost: http.StatusBadRequest})
	if err != nil {
		return reply{}, err
	}
	body := fields{"images": array(page, nil), "first": "/v2/images", "schema": "/v2/schemas/images"}
	if next != "" {
		link := q.next(next)
		if i := strings.Index(link, "/v2/"); q.page == nil && i >= 0 {
			link = link[i:] // Glance leaves scheme and host away
		}
		body["next"] = link
	}
	return ok(body)
}

func imageSort(query url.Values) (keys, dirs []string) {
	if s := query.Get("sort"); s != "" {
		for pair := range strings.SplitSeq(s, ",") {
			key, dir, _ := strings.Cut(pair, ":")
			if dir == "" {
				dir = "desc"
			}
			keys, dirs = append(keys, key), append(dirs, dir)
		}
		return keys, dirs
	}
	keys, dirs = query["sort_key"], query["sort_dir"]
	if keys == nil {
		keys = []string{"created_at"}
	}
	if len(dirs) == 1 { // one direction serves all keys
		for len(dirs) < len(keys) {
			dirs = append(dirs, dirs[0])
		}
	}
	return keys, dirs
}

// imageFilter compiles the query of a listing.
func (q *request) imageFilter(query url.Values) (func(*row) bool, error) {
	visibility := query.Get("visibility")
	hidden, err := strconv.ParseBool(strings.ToLower(query.Get("os_hidden")))
	hidden = hidden && err == nil
	tests := []func(*row) bool{
		func(r *row) bool { return q.inListing(r, visibility) && flag(r.f, "os_hidden") == hidden },
	}
	for key, values := range query {
		value := values[0]
		switch key {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "os_hidden", "member_status":
		case "tag":
			tests = append(tests, func(r *row) bool {
				return !slices.ContainsFunc(values, func(tag string) bool { return !slices.Contains(texts(r.f, "tags"), tag) })
			})
		case "size_min", "size_max":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, failed(http.StatusBadRequest, "Invalid value '%s' for %s", value, key)
			}
			tests = append(tests, func(r *row) bool {
				return key == "size_min" && number(r.f, "size") >= n || key == "size_max" && number(r.f, "size") <= n
			})
		case "created_at", "updated_at":
			test, err := timeFilter(key, value)
			if err != nil {
				return nil, err
			}
			tests = append(tests, test)
		default:
			tests = append(tests, func(r *row) bool {
				if list, found := strings.CutPrefix(value, "in:"); found {
					return slices.Contains(strings.Split(list, ","), text(r.f, key))
				}
				return sameText(r.f[key], value)
			})
		}
	}
	return func(r *row) bool {
		for _, test := range tests {
			if !test(r) {
				return false
			}
		}
		return true
	}, nil
}

// inListing tells whether an image belongs in a listing: what is only for the
// community is listed when it is asked for.
func (q *request) inListing(r *row, visibility string) bool {
	have, own := text(r.f, "visibility"), text(r.f, "owner") == q.token.project
	if !q.seesImage(r) {
		return false
	}
	if have == "shared" && !own && !q.token.admin {
		want := q.query().Get("member_status")
		if want == "" {
			want = "accepted"
		}
		if want != "all" && q.memberStatus(r) != want {
			return false
		}
	}
	switch visibility {
	case "all":
		return true
	case "":
		return have != "community" || own
	}
	return have == visibility
}

// timeFilter is "gte:2026-01-02T03:04:05Z" and its kin.
func timeFilter(key, value string) (func(*row) bool, error) {
	op, when, found := strings.Cut(value, ":")
	if !found || !slices.Contains([]string{"gt", "gte", "lt", "lte", "eq", "neq"}, op) {
		op, when = "eq", value
	}
	if len(when) < 19 {
		return nil, failed(http.StatusBadRequest, "Invalid time format: '%s' does not match the ISO 8601 format.", when)
	}
	when = strings.TrimSuffix(when[:19], "Z") + "Z"
	return func(r *row) bool {
		n := strings.Compare(text(r.f, key), when)
		switch op {
		case "gt":
			return n > 0
		case "gte":
			return n >= 0
		case "lt":
			return n < 0
		case "lte":
			return n <= 0
		case "neq":
			return n != 0
		}
		return n == 0
	}, nil
}

func (q *request) imageCreate() (reply, error) {
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	id := text(in, "id")
	if id == "" {
		id = q.uuid()
	}
	if !regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(id) {
		return reply{}, failed(http.StatusBadRequest, "Invalid image id format")
	}
	for key, value := range in {
		if key == "os_hash_algo" || key == "os_hash_value" {
			continue // newImage leaves them out
		}
		if err := q.imageField(key, value); err != nil {
			return reply{}, err
		}
	}
	if q.images.rows.get(id) != nil || q.images.burned[id] {
		return reply{}, failed(http.StatusConflict, "Image ID %s already exists!", id)
	}
	r := q.newImage(id, q.token.project, in)
	out := reply{status: http.StatusCreated, body: r.f}
	out.set("Location", q.self()+"/"+id)
	return out, nil
}

func (c *Cloud) newImage(id, owner string, in fields) *row {
	f := basic()
	f["owner"] = owner
	maps.Copy(f, in)
	maps.Copy(f, fields{"id": id, "status": "queued", "checksum": nil, "os_hash_algo": nil, "os_hash_value": nil, "size": nil,
		"virtual_size": nil, "created_at": c.stampNow(), "updated_at": c.stampNow(), "self": "/v2/images/" + id,
		"file": "/v2/images/" + id + "/file", "schema": "/v2/schemas/image"})
	return c.images.rows.add(f)
}

// imageField checks a field that a client sets.
func (q *request) imageField(key string, value any) error {
	switch {
	case key == "locations" || reserved(key):
		return failed(http.StatusForbidden, "Attribute '%s' is read-only.", key)
	case key == "owner" && !q.token.admin && value != q.token.project:
		return failed(http.StatusForbidden, "You are not permitted to create images owned by '%v'.", value)
	case key == "visibility":
		if !slices.Contains([]any{"public", "private", "shared", "community"}, value) {
			return failed(http.StatusBadRequest, "Invalid value '%v' for visibility.", value)
		}
		if value == "public" && !q.token.admin {
			return failed(http.StatusForbidden, "You are not authorized to complete publicize_image action.")
		}
	}
	if _, isBasic := basic()[key]; !isBasic {
		if _, isText := value.(string); !isText {
			return failed(http.StatusBadRequest, "Provided object does not match schema 'image': %v is not of type 'string'. Failed validating %s.", value, key)
		}
	}
	return nil
}

func (q *request) imageTouch(r *row) { r.set("updated_at", q.stampNow()) }

func (q *request) imagePatch() (reply, error) {
	r, err := q.ownImage()
	if err != nil {
		return reply{}, err
	}
	var changes []struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	d := json.NewDecoder(strings.NewReader(string(q.raw)))
	d.UseNumber()
	if err := d.Decode(&changes); err != nil {
		return reply{}, failed(http.StatusBadRequest, "Request body must be a JSON array of operation objects.")
	}
	if !strings.HasPrefix(q.r.Header.Get("Content-Type"), "application/openstack-images-v2.") {
		return reply{}, failed(http.StatusUnsupportedMediaType, "Unsupported Content-Type")
	}
	next := maps.Clone(r.f)
	for _, change := range changes {
		key := strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(change.Path, "/"), "~1", "/"), "~0", "~")
		_, isBasic := basic()[key]
		_, has := next[key]
		value := normal(change.Value)
		switch {
		case change.Op == "remove" && (isBasic || reserved(key)):
			return reply{}, failed(http.StatusForbidden, "Property %s may not be removed.", key)
		case !has && change.Op != "add":
			return reply{}, failed(http.StatusConflict, "Property %s does not exist.", key)
		case change.Op == "remove":
			delete(next, key)
			continue
		case (key == "disk_format" || key == "container_format") && text(r.f, "status") != "queued", key == "id":
			return reply{}, failed(http.StatusForbidden, "Attribute '%s' is read-only.", key)
		}
		if err := q.imageField(key, value); err != nil {
			return reply{}, err
		}
		next[key] = value
	}
	r.f, r.enc = next, nil
	q.imageTouch(r)
	return ok(r.f)
}

func (q *request) imageDelete() (reply, error) {
	r, err := q.ownImage()
	if err != nil {
		return reply{}, err
	}
	if flag(r.f, "protected") {
		return reply{}, failed(http.StatusForbidden, "Image %s is protected and cannot be deleted.", r.id())
	}
	q.images.rows.remove(r.id())
	delete(q.images.data, r.id())
	delete(q.images.members, r.id())
	q.images.burned[r.id()] = true
	return gone()
}

func (q *request) imageTag(add bool) (reply, error) {
	r, err := q.ownImage()
	if err != nil {
		return reply{}, err
	}
	tags := texts(r.f, "tags")
	if add {
		tags = withTag(tags, q.r.PathValue("tag"))
	} else if tags, err = withoutTag(tags, q.r.PathValue("tag")); err != nil {
		return reply{}, err
	}
	r.set("tags", anys(tags))
	q.imageTouch(r)
	return gone()
}

func (q *request) imageAction(from, to string) (reply, error) {
	r, err := q.image()
	if err != nil {
		return reply{}, err
	}
	if err := q.needAdmin(); err != nil {
		return reply{}, err
	}
	if s := text(r.f, "status"); s != from && s != to {
		return reply{}, failed(http.StatusForbidden, "Not allowed to %s image in status '%s'", to, s)
	}
	r.set("status", to)
	q.imageTouch(r)
	return gone()
}
