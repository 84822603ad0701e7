package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Kinds of Glance's.
const (
	Image       syncer.Kind = "image"
	ImageMember syncer.Kind = "image-member"
)

var glance = api{service: "image"}

func imageKinds() []handler { return []handler{images{}, imageMembers()} }

// images have one id at both sites, as long as that id was never deleted at the
// target: Glance gives no id a second time.
type images struct{}

func (images) traits() syncer.Traits {
	return syncer.Traits{Kind: Image, Marked: true, Unique: true, Body: true, Fixed: []string{"container_format", "disk_format"}}
}

func (images) service() string { return glance.service }

// imageBase are Glance's own fields: what else stands in an image are its
// owner's properties.
var imageBase = []string{"id", "name", "status", "visibility", "os_hidden", "protected", "tags", "container_format", "disk_format", "min_disk", "min_ram",
	"owner", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema", "direct_url",
	"locations", "stores", "validation_data", property}

// imageKept are the base fields that are kept alike.
var imageKept = []field{{name: "name", none: ""}, {name: "visibility"}, {name: "os_hidden", none: false}, {name: "protected", none: false},
	{name: "tags", set: true, none: []any{}}, {name: "container_format", once: true}, {name: "disk_format", once: true}, {name: "min_disk"}, {name: "min_ram"},
	{name: "owner", ref: Project}}

// imageRefs are properties that name other images.
var imageRefs = []string{"kernel_id", "ramdisk_id"}

// imageKeys are properties that name what the other cloud has not.
var imageKeys = []string{"img_signature_certificate_uuid", "cinder_encryption_key_id", "cinder_encryption_key_deletion_policy"}

func image(s *Side, in row) syncer.Object {
	o := syncer.Object{
		Key: syncer.Key{Kind: Image, ID: in.text("id")}, Project: in.text("owner"), Tags: in.texts("tags"),
		Natural: []any{in.text("id")}, Marker: parseMarker(in.text(property)), Fields: syncer.Fields{}, Content: syncer.Content{Size: -1},
	}
	if !o.Marker.IsZero() {
		o.Natural = []any{o.Marker.ID} // which may be another, where that id cannot be had again
	}
	name := in.text("name")
	if name == "" {
		name = o.ID
	}
	o.Name = s.inProject(o.Project, name)
	for _, f := range imageKept {
		o.Fields[f.name] = f.read(in[f.name])
	}
	properties := make(map[string]any)
	for name, v := range in {
		switch {
		case slices.Contains(imageBase, name) || strings.HasPrefix(name, "os_glance_"):
		case slices.Contains(imageKeys, name):
			o.Lost = append(o.Lost, "property "+name+": the key is not the other cloud's")
		case slices.Contains(imageRefs, name) && v != "":
			id, _ := v.(string)
			properties[name] = syncer.Ref{Key: syncer.Key{Kind: Image, ID: id}}
		default:
			properties[name] = v
		}
	}
	slices.Sort(o.Lost)
	o.Fields["properties"] = properties
	size, sized := in.whole("size")
	switch state := in.text("status"); {
	case properties["block_device_mapping"] != nil && sized && size == 0:
		o.Unsupported = "its content is a volume's snapshot"
	case state == "active" || state == "deactivated":
		if sized {
			o.Content.Size = size
		}
		if sum := in.text("os_hash_value"); sum != "" {
			o.Content.Sum = in.text("os_hash_algo") + ":" + sum
		}
	case !o.Marker.IsZero():
		o.Content.Size = 0 // begun by us, and to be filled
	default:
		o.Unsupported = "it has no content yet (" + state + ")"
	}
	if in.text("status") == "deactivated" {
		o.Unsupported = "deactivated: its content is not given out"
	}
	return o
}

// list needs two listings: hidden images are in neither without being asked for.
func (images) list(ctx context.Context, s *Side, _ syncer.Key, each func(syncer.Object) error) error {
	for _, hidden := range []string{"false", "true"} {
		query := url.Values{"visibility": {"all"}, "os_hidden": {hidden}}
		if err := s.pages(ctx, glance, "images", "images", query, func(in row) error { return each(image(s, in)) }); err != nil {
			return err
		}
	}
	return nil
}

func (images) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	in, err := s.image(ctx, o.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	return image(s, in), nil
}

func (s *Side) image(ctx context.Context, id string) (row, error) {
	var in row
	if _, err := s.call(ctx, glance, http.MethodGet, "images/"+url.PathEscape(id), nil, &in); err != nil {
		return nil, err
	}
	if in.text("id") != id {
		return nil, fmt.Errorf("the answer is not image %s", id)
	}
	return in, nil
}

func (images) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	var found syncer.Object
	err := images{}.list(ctx, s, syncer.Key{}, func(o syncer.Object) error {
		if o.Marker == marker(want) {
			found = o
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return found, nil
	}
	if err == nil {
		err = syncer.ErrGone
	}
	return syncer.Object{}, err
}

// create makes the row, then fills it, and protects it last.
func (i images) create(ctx context.Context, s *Side, want syncer.Object, body io.Reader) (syncer.Object, error) {
	id, err := s.createImage(ctx, want, want.ID)
	if cloud.Conflict(err) {
		// Somebody has the id, or had it: it is not given again.
		switch _, there := s.image(ctx, want.ID); {
		case there == nil:
			return syncer.Object{}, errors.Join(syncer.ErrTaken, err)
		case !cloud.NotFound(there):
			return syncer.Object{}, there
		}
		id, err = s.createImage(ctx, want, "")
	}
	if err != nil {
		return syncer.Object{}, err
	}
	if err := s.fill(ctx, id, want, body); err != nil {
		gone, e := s.unmake(ctx, id, want)
		if err = errors.Join(err, e); !gone {
			err = &syncer.Uncertain{Err: err} // it can be filled yet
		}
		return syncer.Object{}, err
	}
	if want.Fields["protected"] == true {
		if err := s.patch(ctx, id, []any{row{"op": "replace", "path": "/protected", "value": true}}); err != nil {
			return syncer.Object{}, &syncer.Uncertain{Err: err}
		}
	}
	made, err := i.read(ctx, s, syncer.Object{Key: syncer.Key{Kind: Image, ID: id}})
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return made, nil
}

// unmake removes an image that has got wrong content: it can have no other. One
// without any bears its marker, and is filled later under the same id; one that
// has all of it (the answer was lost) is found later.
func (s *Side) unmake(ctx context.Context, id string, want syncer.Object) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	in, err := s.image(ctx, id)
	if err != nil {
		return cloud.NotFound(err), err
	}
	if in.text("status") != "active" || holds(image(s, in).Content, want.Content) {
		return false, nil
	}
	_, err = s.call(ctx, glance, http.MethodDelete, "images/"+url.PathEscape(id), nil, nil)
	return err == nil, err
}

func (s *Side) createImage(ctx context.Context, want syncer.Object, id string) (string, error) {
	body := row{property: markerText(want.Marker)}
	if id != "" {
		body["id"] = id
	}
	for _, f := range imageKept {
		if v := want.Fields[f.name]; v != nil && f.name != "protected" {
			body[f.name] = write(v)
		}
	}
	for name, v := range asMap(want.Fields["properties"]) {
		body[name] = write(v)
	}
	var made row
	if _, err := s.call(ctx, glance, http.MethodPost, "images", body, &made); err != nil {
		return "", err
	}
	if made.text("id") == "" {
		return "", &syncer.Uncertain{Err: errors.New("the answer has no id")}
	}
	return made.text("id"), nil
}

// fill uploads the content, and looks at what came of it: a service may call
// active what is cut off.
func (s *Side) fill(ctx context.Context, id string, want syncer.Object, body io.Reader) error {
	c, err := s.client(glance.service)
	if err != nil {
		return err
	}
	if body == nil || want.Content.Size < 0 {
		return fmt.Errorf("no content (%t), or none of a known size (%d bytes)", body == nil, want.Content.Size)
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}, "X-Openstack-Image-Size": {fmt.Sprint(want.Content.Size)}}
	if _, err := cloud.Upload(ctx, c, address(c, "images/"+url.PathEscape(id)+"/file"), cloud.Put{Body: body, Size: want.Content.Size, Header: header}); err != nil {
		if cloud.Conflict(err) || cloud.NotFound(err) {
			// An upload that was cut off before is still being ended: Glance says 409,
			// "from saving to saving", or 410 when its end came in between.
			return &syncer.Temporary{Err: err}
		}
		return err
	}
	in, err := s.image(ctx, id)
	if err != nil {
		return &syncer.Uncertain{Err: err}
	}
	if made := image(s, in).Content; in.text("status") != "active" || !holds(made, want.Content) {
		return fmt.Errorf("uploaded %d bytes, %s; the service has %d bytes, %s (%s): %w", want.Content.Size, want.Content.Sum, made.Size, made.Sum, in.text("status"), syncer.ErrChanged)
	}
	return nil
}

// holds compares content with what was to be written: sums of two algorithms say
// nothing of each other.
func holds(made, want syncer.Content) bool {
	one, _, _ := strings.Cut(made.Sum, ":")
	other, _, _ := strings.Cut(want.Sum, ":")
	return made.Size == want.Size && (made.Sum == want.Sum || made.Sum == "" || want.Sum == "" || one != other)
}

func (i images) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, body io.Reader) (syncer.Object, error) {
	if slices.Contains(fields, "") {
		now, err := s.image(ctx, have.ID)
		if err != nil {
			return syncer.Object{}, err
		}
		if now.text("status") == "saving" && s.young(now) {
			return syncer.Object{}, &syncer.Temporary{Err: errors.New("an upload that was cut off is still being ended")}
		}
		if now.text("status") != "queued" {
			// Content cannot be changed: another image takes its place, under another id.
			if err := i.remove(ctx, s, have); err != nil {
				return syncer.Object{}, err
			}
			return i.create(ctx, s, want, body)
		}
		if err := s.fill(ctx, have.ID, want, body); err != nil {
			return syncer.Object{}, err
		}
	}
	if ops := imagePatch(have, want, fields); len(ops) > 0 {
		if err := s.patch(ctx, have.ID, ops); err != nil {
			return syncer.Object{}, err
		}
	}
	return i.read(ctx, s, have)
}

// young: an image was changed within the last quarter of an hour, by Glance's
// clock. One that is called saving for longer is so for ever: Glance has died.
func (s *Side) young(image row) bool {
	at, err := time.Parse(time.RFC3339, image.text("updated_at"))
	skew, _ := s.session.Skew(glance.service)
	return err == nil && time.Now().Add(skew).Sub(at) < 15*time.Minute
}

// imagePatch are the operations that make an image as wanted.
func imagePatch(have, want syncer.Object, fields []string) []any {
	var ops []any
	for _, f := range imageKept {
		if slices.Contains(fields, f.name) && !f.once {
			ops = append(ops, row{"op": "replace", "path": "/" + f.name, "value": write(want.Fields[f.name])})
		}
	}
	if !slices.Contains(fields, "properties") {
		return ops
	}
	is, wanted := asMap(have.Fields["properties"]), asMap(want.Fields["properties"])
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		op := "add"
		if _, there := is[name]; there {
			op = "replace"
		}
		ops = append(ops, row{"op": op, "path": "/" + pointer(name), "value": write(wanted[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, kept := wanted[name]; !kept {
			ops = append(ops, row{"op": "remove", "path": "/" + pointer(name)})
		}
	}
	return ops
}

// pointer escapes a name for a JSON pointer (RFC 6901, section 3).
func pointer(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

func (s *Side) patch(ctx context.Context, id string, ops []any) error {
	header := map[string]string{"Content-Type": "application/openstack-images-v2.1-json-patch"}
	_, err := s.callWith(ctx, glance, http.MethodPatch, "images/"+url.PathEscape(id), header, ops, nil)
	return err
}

func (images) remove(ctx context.Context, s *Side, have syncer.Object) error {
	if have.Fields["protected"] == true {
		if err := s.patch(ctx, have.ID, []any{row{"op": "replace", "path": "/protected", "value": false}}); err != nil {
			return err
		}
	}
	_, err := s.call(ctx, glance, http.MethodDelete, "images/"+url.PathEscape(have.ID), nil, nil)
	return err
}

// open reads the content, from where a broken stream ended if it breaks.
func (images) open(ctx context.Context, s *Side, o syncer.Object, from int64) (io.ReadCloser, error) {
	c, err := s.client(glance.service)
	if err != nil {
		return nil, err
	}
	return s.resuming(ctx, c, "images/"+url.PathEscape(o.ID)+"/file", from)
}

func (s *Side) resuming(ctx context.Context, c *gophercloud.ServiceClient, path string, from int64) (io.ReadCloser, error) {
	return cloud.Resuming(ctx, func(ctx context.Context, offset int64) (*cloud.Body, error) {
		body, err := cloud.Download(ctx, c, address(c, path), from+offset)
		if err != nil {
			return nil, err
		}
		if body.Offset -= from; body.Total >= 0 {
			body.Total -= from
		}
		return body, nil
	})
}

// imageMembers are the projects that an image is shared with.
func imageMembers() handler {
	return &link{
		Traits: syncer.Traits{Kind: ImageMember, Within: Image, Unique: true, Slow: true}, api: glance,
		rows: func(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
			in, err := s.image(ctx, within.ID)
			if err != nil || in.text("visibility") != "shared" {
				return err
			}
			return s.pages(ctx, glance, "images/"+url.PathEscape(within.ID)+"/members", "members", nil, func(m row) error {
				return each(linked(ImageMember, syncer.Fields{
					"image":  syncer.Ref{Key: within},
					"member": syncer.Ref{Key: syncer.Key{Kind: Project, ID: m.text("member_id")}},
					status:   m.text("status"),
				}, within, "member of "+in.text("name")))
			})
		},
		path: func(f syncer.Fields) string {
			return "images/" + escaped(f["image"]) + "/members/" + escaped(f["member"])
		},
		set: func(ctx context.Context, s *Side, path string, f syncer.Fields) error {
			member := escaped(f["member"])
			if _, err := s.call(ctx, glance, http.MethodPost, strings.TrimSuffix(path, "/"+member), row{"member": write(f["member"])}, nil); err != nil && !cloud.Conflict(err) {
				return err
			}
			if f[status] == "pending" {
				return nil
			}
			_, err := s.call(ctx, glance, http.MethodPut, path, row{"status": f[status]}, nil)
			return err
		},
		show: func(answer row, fields syncer.Fields) { fields[status] = answer.text("status") },
	}
}
