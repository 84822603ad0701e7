package cloudtest

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/accounts"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func objectFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a container is made once and then accepted":                            containerTwice,
		"a container with objects is not deleted":                               containerFull,
		"metadata of a container adds up and is removed by name":                containerMeta,
		"access lists are kept as they are":                                     containerACL,
		"a list lets a project read and no other":                               containerShared,
		"data, size and hash come back":                                         objectData,
		"a wrong ETag is refused and nothing is kept":                           objectETag,
		"an upload that breaks off leaves nothing":                              objectAborted,
		"a Range is answered with those bytes":                                  objectRange,
		"what is unchanged is not sent again":                                   objectUnchanged,
		"new metadata replaces the old, moves last_modified and not the hash":   objectMeta,
		"a container does not move when an object of the same size is replaced": containerStands,
		"listings have pages by marker, prefixes and folds":                     objectPages,
		"names may hold what they like":                                         objectNames,
		"an object that should end in the past is refused":                      objectDeleteAt,
		"the time of a change is the server's":                                  objectTime,
		"who administers resellers enters every account":                        otherAccount,
		"a static large object is checked, listed and read as one":              staticLarge,
		"a manifest that does not fit is refused":                               staticWrong,
		"a raw manifest can be put again":                                       staticRaw,
		"a static large object whose part changed is a conflict":                staticChanged,
		"a dynamic large object lists nothing and reads its parts":              dynamicLarge,
		"versions are kept, listed and read":                                    versions,
		"an account has metadata of its own":                                    accountMeta,
		"a missing container is 404":                                            containerMissing,
	}
}

func (f *fact) newContainer(name string, opts containers.CreateOpts) string {
	f.Helper()
	name = f.name(name)
	_, err := containers.Create(f.ctx, f.Object, name, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return f.emptyContainer(ctx, name) })
	return name
}

// emptyContainer removes a container with all versions of all objects in it.
func (f *fact) emptyContainer(ctx context.Context, name string) error {
	pages, err := objects.List(f.Object, name, objects.ListOpts{Versions: true}).AllPages(ctx)
	if err != nil {
		return err
	}
	all, err := objects.ExtractInfo(pages)
	if err != nil {
		return err
	}
	for _, o := range all {
		opts := objects.DeleteOpts{}
		if o.VersionID != "" && o.VersionID != "null" {
			opts.ObjectVersionID = o.VersionID
		}
		if _, err := objects.Delete(ctx, f.Object, name, o.Name, opts).Extract(); err != nil && codeOf(err) != http.StatusNotFound {
			return err
		}
	}
	_, err = containers.Delete(ctx, f.Object, name).Extract()
	return err
}

func (f *fact) put(container, name, data string) {
	f.Helper()
	_, err := objects.Create(f.ctx, f.Object, container, name, objects.CreateOpts{Content: strings.NewReader(data), ContentType: "text/x-fact"}).Extract()
	f.ok(err)
}

func (f *fact) objects(container string, opts objects.ListOpts) []objects.Object {
	f.Helper()
	return list(f, objects.List(f.Object, container, opts), objects.ExtractInfo)
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func containerTwice(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.raw(f.Object, "PUT", c, nil, nil, http.StatusAccepted)
}

func containerFull(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "o", "data")
	_, err := containers.Delete(f.ctx, f.Object, c).Extract()
	f.refused(err, http.StatusConflict)
}

func containerMeta(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{Metadata: map[string]string{"A": "1", "B": "2"}})
	_, err := containers.Update(f.ctx, f.Object, c, containers.UpdateOpts{Metadata: map[string]string{"C": "3"}, RemoveMetadata: []string{"A"}}).Extract()
	f.ok(err)
	meta, err := containers.Get(f.ctx, f.Object, c, nil).ExtractMetadata()
	f.ok(err)
	same(f, "the metadata", fmt.Sprint(meta), "map[B:2 C:3]")
}

func containerACL(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{ContainerRead: ".r:*,.rlistings", ContainerWrite: "p1:u1"})
	h, err := containers.Get(f.ctx, f.Object, c, nil).Extract()
	f.ok(err)
	same(f, "who may read", strings.Join(h.Read, ","), ".r:*,.rlistings")
	same(f, "who may write", strings.Join(h.Write, ","), "p1:u1")
	same(f, "the policy", h.StoragePolicy, "Policy-0")
}

func containerShared(f *fact) {
	p, other, u := f.newProject("p"), f.newProject("q"), f.newUser("u")
	f.enter(u.ID, p.ID)
	f.enter(u.ID, other.ID)
	c := f.newContainer("c", containers.CreateOpts{ContainerRead: p.ID + ":*"})
	f.put(c, "o", "data")
	for project, want := range map[string]int{p.ID: http.StatusOK, other.ID: http.StatusForbidden} {
		theirs, err := f.As(f.ctx, u.ID, "right-"+f.mark, project)
		f.ok(err)
		f.raw(in(theirs.Object, "AUTH_"+f.Project), "GET", c+"/o", nil, nil, want)
	}
}

// in gives a client of another account.
func in(c *gophercloud.ServiceClient, account string) *gophercloud.ServiceClient {
	copied := *c
	copied.Endpoint = c.Endpoint[:strings.LastIndex(c.Endpoint, "AUTH_")] + account + "/"
	return &copied
}

func objectData(f *fact) {
	c, data := f.newContainer("c", containers.CreateOpts{}), strings.Repeat("object data ", 1000)
	f.put(c, "o", data)
	got := objects.Download(f.ctx, f.Object, c, "o", nil)
	read, err := got.ExtractContent()
	f.ok(err)
	same(f, "the data", string(read), data)
	rows := f.objects(c, objects.ListOpts{})
	same(f, "objects", len(rows), 1)
	same(f, "its hash", rows[0].Hash, md5Hex(data))
	same(f, "its size", rows[0].Bytes, int64(len(data)))
	same(f, "its type", rows[0].ContentType, "text/x-fact")
	h, err := objects.Get(f.ctx, f.Object, c, "o", nil).Extract()
	f.ok(err)
	same(f, "the ETag", h.ETag, md5Hex(data))
	same(f, "the length", h.ContentLength, int64(len(data)))
}

func objectETag(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"ETag": md5Hex("other")}, http.StatusUnprocessableEntity)
	same(f, "objects", len(f.objects(c, objects.ListOpts{})), 0)
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"ETag": md5Hex("data")}, http.StatusCreated)
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"If-None-Match": "*"}, http.StatusPreconditionFailed)
}

func objectAborted(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	_, err := objects.Create(f.ctx, f.Object, c, "o", objects.CreateOpts{Content: &broken{left: 300000}, NoETag: true}).Extract()
	if err == nil {
		f.Fatal("the upload ended well")
	}
	same(f, "objects", len(f.objects(c, objects.ListOpts{})), 0)
}

func objectRange(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "o", "0123456789")
	raw, h := f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"Range": "bytes=2-4"}, http.StatusPartialContent)
	same(f, "the bytes", string(raw), "234")
	same(f, "the header", h.Get("Content-Range"), "bytes 2-4/10")
	raw, _ = f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"Range": "bytes=-3"}, http.StatusPartialContent)
	same(f, "the last bytes", string(raw), "789")
	raw, _ = f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"Range": "bytes=8-99"}, http.StatusPartialContent)
	same(f, "the bytes to an end beyond", string(raw), "89")
	f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"Range": "bytes=5-2"}, http.StatusOK)
	f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"Range": "bytes=10-"}, http.StatusRequestedRangeNotSatisfiable)
}

func objectUnchanged(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "o", "data")
	f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"If-None-Match": md5Hex("data")}, http.StatusNotModified)
	f.raw(f.Object, "GET", c+"/o", nil, map[string]string{"If-None-Match": md5Hex("other")}, http.StatusOK)
}

func objectMeta(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "o", "data")
	f.raw(f.Object, "POST", c+"/o", nil, map[string]string{"X-Object-Meta-A": "1"}, http.StatusAccepted)
	before := f.objects(c, objects.ListOpts{})[0]
	f.raw(f.Object, "POST", c+"/o", nil, map[string]string{"X-Object-Meta-B": "2"}, http.StatusAccepted)
	after := f.objects(c, objects.ListOpts{})[0]
	same(f, "the hash", after.Hash, before.Hash)
	if !after.LastModified.After(before.LastModified) {
		f.Fatalf("last_modified stays %v", after.LastModified)
	}
	meta, err := objects.Get(f.ctx, f.Object, c, "o", nil).ExtractMetadata()
	f.ok(err)
	same(f, "the metadata", fmt.Sprint(meta), "map[B:2]")
	same(f, "the type", after.ContentType, "text/x-fact")
}

func containerStands(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "o", "data")
	head := func() string {
		_, h := f.raw(f.Object, "HEAD", c, nil, nil, http.StatusNoContent)
		return h.Get("X-Container-Bytes-Used") + " " + h.Get("X-Container-Object-Count") + " " + h.Get("X-Timestamp") + " " + h.Get("Last-Modified")
	}
	before := head()
	f.put(c, "o", "DATA")
	same(f, "the container", head(), before)
}

func objectPages(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	for _, name := range []string{"a", "b/1", "b/2", "b/c/3", "d"} {
		f.put(c, name, name)
	}
	pages, count := f.pages(objects.List(f.Object, c, objects.ListOpts{Limit: 2}), func(p pagination.Page) int {
		names, err := objects.ExtractNames(p)
		f.ok(err)
		return len(names)
	})
	same(f, "rows", count, 5)
	if pages < 3 {
		f.Fatalf("%d pages", pages)
	}
	same(f, "objects under b/", len(f.objects(c, objects.ListOpts{Prefix: "b/"})), 3)
	var folded []string
	for _, o := range f.objects(c, objects.ListOpts{Delimiter: "/"}) {
		folded = append(folded, o.Name+o.Subdir)
	}
	same(f, "the folded listing", strings.Join(folded, " "), "a b/ d")
	raw, _ := f.raw(f.Object, "GET", c+"?limit=2&marker=a", nil, map[string]string{"Accept": "text/plain"}, http.StatusOK)
	same(f, "the listing as text", string(raw), "b/1\nb/2\n")
}

func objectNames(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	names := []string{"two words", "a//b", "x/../y", "%25 & ?#", "ünïcode/ß", "trailing/"}
	for _, name := range names {
		f.raw(f.Object, "PUT", c+"/"+url.PathEscape(name), name, nil, http.StatusCreated)
		raw, _ := f.raw(f.Object, "GET", c+"/"+url.PathEscape(name), nil, nil, http.StatusOK)
		same(f, "the data of "+name, string(raw), name)
	}
	rows := f.objects(c, objects.ListOpts{})
	same(f, "objects", len(rows), len(names))
	for _, o := range rows {
		same(f, "the hash of "+o.Name, o.Hash, md5Hex(o.Name))
	}
}

func objectDeleteAt(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"X-Delete-At": "1000"}, http.StatusBadRequest)
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"X-Delete-At": "4000000000"}, http.StatusCreated)
	_, h := f.raw(f.Object, "HEAD", c+"/o", nil, nil, http.StatusOK)
	same(f, "its end", h.Get("X-Delete-At"), "4000000000")
}

func objectTime(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.raw(f.Object, "PUT", c+"/o", "data", map[string]string{"X-Timestamp": "1000000000.00000"}, http.StatusCreated)
	if at := f.objects(c, objects.ListOpts{})[0].LastModified; at.Year() < 2020 {
		f.Fatalf("it was modified at %v", at)
	}
}

func otherAccount(f *fact) {
	p := f.newProject("p")
	theirs := in(f.Object, "AUTH_"+p.ID)
	f.raw(theirs, "PUT", "c", nil, nil, http.StatusCreated)
	f.raw(theirs, "PUT", "c/o", "data", nil, http.StatusCreated)
	found := list(f, containers.List(theirs, nil), containers.ExtractInfo)
	same(f, "containers", len(found), 1)
	f.raw(theirs, "DELETE", "c/o", nil, nil, http.StatusNoContent)
	f.raw(theirs, "DELETE", "c", nil, nil, http.StatusNoContent)
}

// putStatic makes a static large object of two parts and gives its manifest.
func (f *fact) putStatic(c string) string {
	f.Helper()
	f.put(c, "seg/1", "first part, ")
	f.put(c, "seg/2", "second part")
	manifest := fmt.Sprintf(`[{"path":"/%s/seg/1","etag":"%s","size_bytes":12},{"path":"/%s/seg/2","etag":"%s","size_bytes":11}]`,
		c, md5Hex("first part, "), c, md5Hex("second part"))
	f.raw(f.Object, "PUT", c+"/large?multipart-manifest=put", manifest, nil, http.StatusCreated)
	return manifest
}

// row finds an object in a listing, with the fields that gophercloud drops.
func (f *fact) row(c, name string) object {
	f.Helper()
	raw, _ := f.raw(f.Object, "GET", c+"?format=json&prefix="+name, nil, nil, http.StatusOK)
	var rows []object
	f.ok(json.Unmarshal(raw, &rows))
	for _, row := range rows {
		if text(row, "name") == name {
			return row
		}
	}
	f.Fatalf("%s is not listed", name)
	return nil
}

func staticLarge(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.putStatic(c)
	raw, h := f.raw(f.Object, "GET", c+"/large", nil, nil, http.StatusOK)
	same(f, "the data", string(raw), "first part, second part")
	whole := md5Hex(md5Hex("first part, ") + md5Hex("second part"))
	same(f, "the ETag", strings.Trim(h.Get("ETag"), `"`), whole)
	same(f, "what it is", h.Get("X-Static-Large-Object"), "True")
	part, _ := f.raw(f.Object, "GET", c+"/large", nil, map[string]string{"Range": "bytes=6-16"}, http.StatusPartialContent)
	same(f, "a range over both", string(part), "part, secon")
	head, err := objects.Get(f.ctx, f.Object, c, "large", nil).Extract()
	f.ok(err)
	same(f, "the length in the header", head.ContentLength, 23)
	same(f, "what gophercloud sees", head.StaticLargeObject, true)
	row := f.row(c, "large")
	same[any](f, "the size listed", row["bytes"], 23.0)
	same(f, "the slo_etag listed", strings.Trim(text(row, "slo_etag"), `"`), whole)
	if text(row, "hash") == whole {
		f.Fatal("the hash listed is not the manifest's")
	}
}

func staticWrong(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "seg/1", "part")
	for _, manifest := range []string{
		fmt.Sprintf(`[{"path":"/%s/seg/1","etag":"%s","size_bytes":4}]`, c, md5Hex("other")),
		fmt.Sprintf(`[{"path":"/%s/seg/1","size_bytes":5}]`, c),
		fmt.Sprintf(`[{"path":"/%s/seg/none"}]`, c),
	} {
		f.raw(f.Object, "PUT", c+"/large?multipart-manifest=put", manifest, nil, http.StatusBadRequest)
	}
	same(f, "objects", len(f.objects(c, objects.ListOpts{Prefix: "large"})), 0)
}

func staticRaw(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.putStatic(c)
	raw, _ := f.raw(f.Object, "GET", c+"/large?multipart-manifest=get&format=raw", nil, nil, http.StatusOK)
	f.raw(f.Object, "PUT", c+"/again?multipart-manifest=put", string(raw), nil, http.StatusCreated)
	data, _ := f.raw(f.Object, "GET", c+"/again", nil, nil, http.StatusOK)
	same(f, "the data", string(data), "first part, second part")
	plain, _ := f.raw(f.Object, "GET", c+"/large?multipart-manifest=get", nil, nil, http.StatusOK)
	var parts []object
	f.ok(json.Unmarshal(plain, &parts))
	same(f, "parts", len(parts), 2)
	same(f, "the first part", text(parts[0], "name"), "/"+c+"/seg/1")
}

func staticChanged(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.putStatic(c)
	f.put(c, "seg/1", "FIRST PART, ")
	f.raw(f.Object, "GET", c+"/large", nil, nil, http.StatusConflict)
}

func dynamicLarge(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{})
	f.put(c, "seg/1", "first, ")
	f.put(c, "seg/2", "second")
	f.raw(f.Object, "PUT", c+"/large", "", map[string]string{"X-Object-Manifest": c + "/seg/"}, http.StatusCreated)
	raw, h := f.raw(f.Object, "GET", c+"/large", nil, nil, http.StatusOK)
	same(f, "the data", string(raw), "first, second")
	same(f, "its manifest", h.Get("X-Object-Manifest"), c+"/seg/")
	row := f.row(c, "large")
	same[any](f, "the size listed", row["bytes"], 0.0)
	same(f, "the hash listed", text(row, "hash"), md5Hex(""))
	own, _ := f.raw(f.Object, "GET", c+"/large?multipart-manifest=get", nil, nil, http.StatusOK)
	same(f, "its own data", string(own), "")
}

func versions(f *fact) {
	c := f.newContainer("c", containers.CreateOpts{VersionsEnabled: true})
	f.put(c, "o", "one")
	f.put(c, "o", "two")
	all := f.objects(c, objects.ListOpts{Versions: true})
	same(f, "versions", len(all), 2)
	same(f, "the newest is first", all[0].IsLatest, true)
	same(f, "its hash", all[0].Hash, md5Hex("two"))
	raw, _ := f.raw(f.Object, "GET", c+"/o?version-id="+all[1].VersionID, nil, nil, http.StatusOK)
	same(f, "the older data", string(raw), "one")
	f.raw(f.Object, "DELETE", c+"/o", nil, nil, http.StatusNoContent)
	f.raw(f.Object, "GET", c+"/o", nil, nil, http.StatusNotFound)
	all = f.objects(c, objects.ListOpts{Versions: true})
	same(f, "versions with the mark", len(all), 3)
	if !strings.HasPrefix(all[0].ContentType, "application/x-deleted") {
		f.Fatalf("the mark is of type %q", all[0].ContentType)
	}
	same(f, "objects", len(f.objects(c, objects.ListOpts{})), 0)
}

func accountMeta(f *fact) {
	key := "Fact-" + strings.ToUpper(f.mark[:1]) + f.mark[1:]
	_, err := accounts.Update(f.ctx, f.Object, accounts.UpdateOpts{Metadata: map[string]string{key: "1"}}).Extract()
	f.ok(err)
	meta, err := accounts.Get(f.ctx, f.Object, nil).ExtractMetadata()
	f.ok(err)
	same(f, "the metadata", meta[key], "1")
	_, err = accounts.Update(f.ctx, f.Object, accounts.UpdateOpts{RemoveMetadata: []string{key}}).Extract()
	f.ok(err)
}

func containerMissing(f *fact) {
	none := f.name("none")
	f.raw(f.Object, "GET", none, nil, nil, http.StatusNotFound)
	f.raw(f.Object, "HEAD", none, nil, nil, http.StatusNotFound)
	f.raw(f.Object, "PUT", none+"/o", "data", nil, http.StatusNotFound)
	f.raw(f.Object, "DELETE", none, nil, nil, http.StatusNotFound)
}
