package cloudtest

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func imageFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"the id of an image may be chosen":                      imageID,
		"the id of a deleted image never comes back":            imageBurned,
		"an administrator may choose the owner":                 imageOwner,
		"an image may have no name":                             imageUnnamed,
		"data is hashed and makes an image active":              imageData,
		"data comes once":                                       imageTwice,
		"an upload that breaks off leaves the image queued":     imageAborted,
		"an empty upload makes an image of nothing active":      imageEmpty,
		"a Range is answered with those bytes":                  imageRange,
		"hidden images are listed only when asked for":          imageHidden,
		"a protected image cannot be deleted":                   imageProtected,
		"images can be listed from a time on, in order":         imageSince,
		"pages have a marker and a relative next link":          imagePages,
		"names are not unique":                                  imageNames,
		"properties are text, and read-only fields are refused": imageFields,
		"fields and properties are patched":                     imagePatched,
		"tags select":                                           imageTags,
		"members see a shared image once they accept":           imageMembers,
		"only shared images have members":                       imageNoMembers,
		"community images are listed when asked for":            imageCommunity,
		"data needs the formats to be known":                    imageFormats,
		"an image without data gives no content":                imageNoData,
		"time stamps have whole seconds":                        imageSeconds,
	}
}

// newImage makes an image without data.
func (f *fact) newImage(more object) object {
	f.Helper()
	body := object{"name": f.name("i"), "disk_format": "raw", "container_format": "bare", "visibility": "private"}
	for key, value := range more {
		body[key] = value
	}
	image, _ := f.call(f.Image, "POST", "images", body, http.StatusCreated)
	f.later(func(ctx context.Context) error { return images.Delete(ctx, f.Image, text(image, "id")).ExtractErr() })
	same(f, "its status", text(image, "status"), "queued")
	return image
}

func octetStream() map[string]string {
	return map[string]string{"Content-Type": "application/octet-stream"}
}

func (f *fact) upload(id, data string) {
	f.Helper()
	f.raw(f.Image, "PUT", "images/"+id+"/file", data, octetStream(), http.StatusNoContent)
}

func (f *fact) image(id string) object {
	f.Helper()
	body, _ := f.call(f.Image, "GET", "images/"+id, nil, http.StatusOK)
	return body
}

func (f *fact) uuid() string {
	sum := sha512.Sum512([]byte(f.mark))
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

func imageID(f *fact) {
	id := f.uuid()
	same(f, "its id", text(f.newImage(object{"id": id}), "id"), id)
	f.call(f.Image, "POST", "images", object{"id": id}, http.StatusConflict)
	f.call(f.Image, "POST", "images", object{"id": "not-a-uuid"}, http.StatusBadRequest)
}

func imageBurned(f *fact) {
	id := text(f.newImage(nil), "id")
	f.ok(images.Delete(f.ctx, f.Image, id).ExtractErr())
	f.call(f.Image, "POST", "images", object{"id": id, "name": f.name("again")}, http.StatusConflict)
}

func imageOwner(f *fact) {
	p, u := f.newProject("p"), f.newUser("u")
	same(f, "its owner", text(f.newImage(object{"owner": p.ID}), "owner"), p.ID)
	f.enter(u.ID, p.ID)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	f.call(c.Image, "POST", "images", object{"name": f.name("x"), "owner": f.Project}, http.StatusForbidden)
}

func imageUnnamed(f *fact) {
	if i := f.newImage(object{"name": nil}); i["name"] != nil {
		f.Fatalf("its name is %v", i["name"])
	}
}

func imageData(f *fact) {
	id, data := text(f.newImage(nil), "id"), strings.Repeat("image data ", 1000)
	f.upload(id, data)
	i, sum := f.image(id), sha512.Sum512([]byte(data))
	same(f, "its status", text(i, "status"), "active")
	same[any](f, "its size", i["size"], float64(len(data)))
	same(f, "its algorithm", text(i, "os_hash_algo"), "sha512")
	same(f, "its hash", text(i, "os_hash_value"), hex.EncodeToString(sum[:]))
	body, err := imagedata.Download(f.ctx, f.Image, id).Extract()
	f.ok(err)
	read, err := io.ReadAll(body)
	f.ok(err)
	f.ok(body.Close())
	same(f, "its data", string(read), data)
	typed, err := images.Get(f.ctx, f.Image, id).Extract()
	f.ok(err)
	same[any](f, "the hash as gophercloud shows it", typed.Properties["os_hash_value"], hex.EncodeToString(sum[:]))
}

func imageTwice(f *fact) {
	id := text(f.newImage(nil), "id")
	f.upload(id, "first")
	f.raw(f.Image, "PUT", "images/"+id+"/file", "second", octetStream(), http.StatusConflict)
	same[any](f, "its size", f.image(id)["size"], 5.0)
}

// broken gives some bytes and then an error, as a source that dies.
type broken struct{ left int }

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the source died")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func imageAborted(f *fact) {
	id := text(f.newImage(nil), "id")
	if err := imagedata.Upload(f.ctx, f.Image, id, &broken{left: 300000}).ExtractErr(); err == nil {
		f.Fatal("the upload ended well")
	}
	// Glance may not have begun with the first when the client is gone: then it is
	// queued, is saving a moment later, and refuses another one for so long; or, when
	// the first ends during the second, says at the end of that: 410.
	f.until("another upload is taken", func() bool {
		resp, err := f.Image.Put(f.ctx, f.Image.ServiceURL("images", id, "file"), nil, nil, &gophercloud.RequestOpts{
			RawBody: strings.NewReader("whole"), MoreHeaders: octetStream(), OkCodes: []int{http.StatusNoContent}})
		if code := codeOf(err); code == http.StatusConflict || code == http.StatusGone {
			return false
		}
		f.ok(err)
		f.ok(resp.Body.Close())
		return true
	})
	same(f, "its status", text(f.image(id), "status"), "active")
}

// until waits for what a service does in its own time.
func (f *fact) until(what string, done func() bool) {
	f.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			f.Fatalf("never: %s", what)
		}
	}
}

func imageEmpty(f *fact) {
	id := text(f.newImage(nil), "id")
	f.upload(id, "")
	i := f.image(id)
	same(f, "its status", text(i, "status"), "active")
	same[any](f, "its size", i["size"], 0.0)
}

func imageRange(f *fact) {
	id := text(f.newImage(nil), "id")
	f.upload(id, "0123456789")
	raw, h := f.raw(f.Image, "GET", "images/"+id+"/file", nil, map[string]string{"Range": "bytes=3-5"}, http.StatusPartialContent)
	same(f, "the bytes", string(raw), "345")
	same(f, "the header", h.Get("Content-Range"), "bytes 3-5/10")
	raw, _ = f.raw(f.Image, "GET", "images/"+id+"/file", nil, map[string]string{"Range": "bytes=8-"}, http.StatusPartialContent)
	same(f, "the last bytes", string(raw), "89")
	f.raw(f.Image, "GET", "images/"+id+"/file", nil, map[string]string{"Range": "bytes=10-"}, http.StatusRequestedRangeNotSatisfiable)
}

// images lists the fact's own images.
func (f *fact) images(opts images.ListOpts) []images.Image {
	f.Helper()
	opts.Name = f.name("i")
	return list(f, images.List(f.Image, opts), images.ExtractImages)
}

func imageHidden(f *fact) {
	f.newImage(object{"os_hidden": true})
	f.newImage(nil)
	same(f, "images", len(f.images(images.ListOpts{Visibility: "all"})), 1)
	same(f, "hidden images", len(f.images(images.ListOpts{Visibility: "all", Hidden: true})), 1)
}

func imageProtected(f *fact) {
	id := text(f.newImage(object{"protected": true}), "id")
	f.refused(images.Delete(f.ctx, f.Image, id).ExtractErr(), http.StatusForbidden)
	_, err := images.Update(f.ctx, f.Image, id, images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}).Extract()
	f.ok(err)
}

func imageSince(f *fact) {
	i := f.newImage(nil)
	f.newImage(nil)
	at, err := time.Parse(time.RFC3339, text(i, "updated_at"))
	f.ok(err)
	since := func(at time.Time) int {
		opts := images.ListOpts{Sort: "updated_at:asc", UpdatedAtQuery: &images.ImageDateQuery{Date: at, Filter: images.FilterGTE}}
		found := f.images(opts)
		if !slices.IsSortedFunc(found, func(a, b images.Image) int { return a.UpdatedAt.Compare(b.UpdatedAt) }) {
			f.Fatal("the images are in no order")
		}
		return len(found)
	}
	same(f, "images since", since(at), 2)
	same(f, "images later", since(at.Add(time.Hour)), 0)
}

func imagePages(f *fact) {
	for range 5 {
		f.newImage(nil)
	}
	seen := map[string]bool{}
	pages, count := f.pages(images.List(f.Image, images.ListOpts{Name: f.name("i"), Limit: 2}), func(p pagination.Page) int {
		rows, err := images.ExtractImages(p)
		f.ok(err)
		for _, i := range rows {
			seen[i.ID] = true
		}
		return len(rows)
	})
	same(f, "pages", pages, 3)
	same(f, "rows", count, 5)
	same(f, "images", len(seen), 5)
	body, _ := f.call(f.Image, "GET", "images?limit=2&name="+f.name("i"), nil, http.StatusOK)
	if !strings.HasPrefix(text(body, "next"), "/v2/images?") {
		f.Fatalf("the next link is %q", text(body, "next"))
	}
}

func imageNames(f *fact) {
	f.newImage(nil)
	f.newImage(nil)
	same(f, "images of the name", len(f.images(images.ListOpts{})), 2)
}

func imageFields(f *fact) {
	i := f.newImage(object{"hw_disk_bus": "scsi", "empty": ""})
	same(f, "a property", text(i, "hw_disk_bus"), "scsi")
	f.call(f.Image, "POST", "images", object{"name": f.name("x"), "number": 5}, http.StatusBadRequest)
	readOnly := object{"status": "active", "checksum": md5Hex("x"), "created_at": "2026-01-02T03:04:05Z", "self": "/v2/images/x", "os_glance_import_task": "x"}
	for key, value := range readOnly {
		f.call(f.Image, "POST", "images", object{"name": f.name("x"), key: value}, http.StatusForbidden)
	}
	hashed := f.newImage(object{"os_hash_algo": "md5", "os_hash_value": "x"}) // not heard, and not refused
	same[any](f, "the hash", hashed["os_hash_value"], nil)
	_, err := images.Update(f.ctx, f.Image, text(hashed, "id"), images.UpdateOpts{images.UpdateImageProperty{Op: images.AddOp, Name: "os_hash_value", Value: "x"}}).Extract()
	f.refused(err, http.StatusForbidden)
}

func imagePatched(f *fact) {
	id := text(f.newImage(object{"old": "1", "stays": "1"}), "id")
	changed, err := images.Update(f.ctx, f.Image, id, images.UpdateOpts{
		images.ReplaceImageName{NewName: f.name("new")},
		images.ReplaceImageTags{NewTags: []string{"a", "b"}},
		images.UpdateImageProperty{Op: images.AddOp, Name: "fresh", Value: "2"},
		images.UpdateImageProperty{Op: images.RemoveOp, Name: "old"},
	}).Extract()
	f.ok(err)
	same(f, "its name", changed.Name, f.name("new"))
	same(f, "its tags", len(changed.Tags), 2)
	same[any](f, "the new property", changed.Properties["fresh"], "2")
	same[any](f, "the old property", changed.Properties["old"], nil)
	same[any](f, "the other property", changed.Properties["stays"], "1")
	_, err = images.Update(f.ctx, f.Image, id, images.UpdateOpts{images.UpdateImageProperty{Op: images.ReplaceOp, Name: "none", Value: "1"}}).Extract()
	f.refused(err, http.StatusConflict)
	_, err = images.Update(f.ctx, f.Image, id, images.UpdateOpts{images.ReplaceImageChecksum{Checksum: "x"}}).Extract()
	f.refused(err, http.StatusForbidden)
}

func imageTags(f *fact) {
	id := text(f.newImage(object{"tags": []string{f.mark}}), "id")
	f.raw(f.Image, "PUT", "images/"+id+"/tags/more", nil, nil, http.StatusNoContent)
	same(f, "images with both tags", len(f.images(images.ListOpts{Tags: []string{f.mark, "more"}})), 1)
	f.raw(f.Image, "DELETE", "images/"+id+"/tags/more", nil, nil, http.StatusNoContent)
	f.raw(f.Image, "DELETE", "images/"+id+"/tags/more", nil, nil, http.StatusNotFound)
	same(f, "images with both tags", len(f.images(images.ListOpts{Tags: []string{f.mark, "more"}})), 0)
}

func imageMembers(f *fact) {
	id, p, u := text(f.newImage(object{"visibility": "shared"}), "id"), f.newProject("p"), f.newUser("u")
	f.enter(u.ID, p.ID)
	m, err := members.Create(f.ctx, f.Image, id, p.ID).Extract()
	f.ok(err)
	same(f, "the status", m.Status, "pending")
	_, err = members.Create(f.ctx, f.Image, id, p.ID).Extract()
	f.refused(err, http.StatusConflict)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	see := func() int {
		return len(list(f, images.List(c.Image, images.ListOpts{Name: f.name("i")}), images.ExtractImages))
	}
	same(f, "images seen before", see(), 0)
	_, err = members.Update(f.ctx, c.Image, id, p.ID, members.UpdateOpts{Status: "accepted"}).Extract()
	f.ok(err)
	same(f, "images seen", see(), 1)
	same(f, "members", len(list(f, members.List(f.Image, id), members.ExtractMembers)), 1)
	f.ok(members.Delete(f.ctx, f.Image, id, p.ID).ExtractErr())
	same(f, "images seen after", see(), 0)
}

func imageNoMembers(f *fact) {
	id, p := text(f.newImage(nil), "id"), f.newProject("p")
	_, err := members.Create(f.ctx, f.Image, id, p.ID).Extract()
	f.refused(err, http.StatusForbidden)
}

func imageCommunity(f *fact) {
	p := f.newProject("p")
	f.newImage(object{"visibility": "community", "owner": p.ID})
	same(f, "images", len(f.images(images.ListOpts{})), 0)
	same(f, "community images", len(f.images(images.ListOpts{Visibility: images.ImageVisibilityCommunity})), 1)
	same(f, "all images", len(f.images(images.ListOpts{Visibility: "all"})), 1)
}

func imageFormats(f *fact) {
	id := text(f.newImage(object{"disk_format": nil, "container_format": nil}), "id")
	f.raw(f.Image, "PUT", "images/"+id+"/file", "data", octetStream(), http.StatusBadRequest)
	f.raw(f.Image, "PUT", "images/"+id+"/file", "data", map[string]string{"Content-Type": "text/plain"}, http.StatusUnsupportedMediaType)
}

func imageNoData(f *fact) {
	f.raw(f.Image, "GET", "images/"+text(f.newImage(nil), "id")+"/file", nil, nil, http.StatusNoContent)
}

func imageSeconds(f *fact) {
	if at := text(f.newImage(nil), "updated_at"); len(at) != len("2026-01-02T03:04:05Z") {
		f.Fatalf("updated_at is %q", at)
	}
}

// codeOf is the status an error carries, 0 when it carries none.
func codeOf(err error) int {
	var e gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &e) {
		return e.Actual
	}
	return 0
}
