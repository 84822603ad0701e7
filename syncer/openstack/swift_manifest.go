package openstack

import (
	"context"
	"crypto/md5" // Swift's tags are
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// part is an entry of a static large object's manifest.
type part struct {
	object string // ID: PROJECT/CONTAINER/OBJECT
	etag   string
	size   int64
	ranged string // "first-last", empty for all of it
	large  bool   // it is a large object itself
	data   string // base64, of one that has no object
}

// readParts reads a manifest as GET ?multipart-manifest=get gives it.
func readParts(project string, rows []row) ([]part, error) {
	parts := make([]part, 0, len(rows))
	for i, r := range rows {
		p := part{etag: strings.Trim(r.text("hash"), `"`), ranged: r.text("range"), large: r.yes("sub_slo"), data: r.text("data")}
		name, ok := strings.CutPrefix(r.text("name"), "/")
		if container, object, _ := strings.Cut(name, "/"); p.data == "" && (!ok || container == "" || object == "") {
			return nil, fmt.Errorf("part %d of the manifest names no object: %q", i+1, r.text("name"))
		}
		if p.data == "" {
			p.object = project + "/" + name
			if p.size, ok = r.whole("bytes"); !ok {
				return nil, fmt.Errorf("part %d of the manifest has no size", i+1)
			}
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, errors.New("the manifest is empty")
	}
	return parts, nil
}

// fieldsOf puts parts into a field.
func fieldsOf(parts []part) []any {
	out := make([]any, len(parts))
	for i, p := range parts {
		if p.data != "" {
			out[i] = map[string]any{"data": p.data}
			continue
		}
		m := map[string]any{"object": syncer.Ref{Key: syncer.Key{Kind: Object, ID: p.object}}, "etag": p.etag, "size": p.size}
		if p.ranged != "" {
			m["range"] = p.ranged
		}
		out[i] = m
	}
	return out
}

// partsOf is fieldsOf's reverse.
func partsOf(v any) []part {
	list, _ := v.([]any)
	parts := make([]part, 0, len(list))
	for _, e := range list {
		m := asMap(e)
		p := part{object: refID(m["object"])}
		p.etag, _ = m["etag"].(string)
		p.ranged, _ = m["range"].(string)
		p.data, _ = m["data"].(string)
		p.size, _ = m["size"].(int64)
		parts = append(parts, p)
	}
	return parts
}

// body is a manifest as PUT ?multipart-manifest=put takes it. The service
// compares tags and sizes with what it has.
func manifestBody(parts []part) []any {
	out := make([]any, len(parts))
	for i, p := range parts {
		if p.data != "" {
			out[i] = row{"data": p.data}
			continue
		}
		_, rest, _ := strings.Cut(p.object, "/")
		r := row{"path": "/" + rest, "etag": p.etag, "size_bytes": p.size}
		if p.ranged != "" {
			r["range"] = p.ranged
		}
		out[i] = r
	}
	return out
}

// sloTag is the tag of a static large object: the MD5 of those of its parts.
func sloTag(parts []part) string {
	h := md5.New()
	for _, p := range parts {
		text := p.etag
		if p.ranged != "" {
			text += ":" + p.ranged + ";"
		}
		_, _ = h.Write([]byte(text)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// manifest reads what a large object is made of into its fields, and gives its
// tag. Of a part that draas has cut the tag is that of the source.
func (k objects) manifest(ctx context.Context, a account, address string, o *syncer.Object) (string, error) {
	var rows []row
	h, err := call(ctx, a.c, objectStore, http.MethodGet, address+manifestOwn, nil, nil, &rows)
	if err != nil {
		return "", err
	}
	if h.Get(largeObject) == "" {
		return "", fmt.Errorf("the manifest was overwritten while it was read: %w", syncer.ErrChanged)
	}
	parts, err := readParts(a.project, rows)
	if err != nil {
		return "", err
	}
	for i, p := range parts {
		if !p.large {
			continue
		}
		_, rest, _ := strings.Cut(p.object, "/")
		h, err := a.ask(ctx, http.MethodHead, a.base+"/"+escape(rest), nil)
		if err != nil && !cloud.NotFound(err) {
			return "", err
		}
		if made := h.Get(objectMeta + sourceETag); made != "" {
			parts[i].etag = made
		}
	}
	o.Fields["segments"] = fieldsOf(parts)
	return sloTag(parts), nil
}

// putManifest writes a static large object whose parts are there. A part that
// draas has cut has another tag here than at the source.
func (k objects) putManifest(ctx context.Context, s *Side, a account, address string, h http.Header, want syncer.Object) error {
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return err
	}
	if !about.large {
		return errors.New("the target has no static large objects")
	}
	parts := partsOf(want.Fields["segments"])
	put := func() error {
		_, err := call(ctx, a.c, objectStore, http.MethodPut, address+manifestWrite, plain(h), manifestBody(parts), nil)
		return err
	}
	err = put()
	if statusOf(err) != http.StatusBadRequest {
		return err
	}
	for i, p := range parts {
		if p.object == "" {
			continue
		}
		o, headErr := k.head(ctx, s, p.object)
		switch {
		case errors.Is(headErr, syncer.ErrGone), headErr == nil && o.Fields["segments"] == nil && o.Content != plainContent(p.size, p.etag):
			return &syncer.Temporary{Err: fmt.Errorf("part %d is not there yet as the manifest says: %w", i+1, err)}
		case headErr != nil:
			return errors.Join(err, headErr)
		case cut(o):
			parts[i].etag = tagOf(o)
		}
	}
	return put() // all are there, by now
}

// symlink is where a symbolic link leads. A static one is refused as long as its
// target is not there.
func symlink(project string, h http.Header) any {
	value, err := url.PathUnescape(h.Get(linksTo))
	if err != nil {
		return nil
	}
	if other := h.Get(linkAccount); other != "" {
		_, project, _ = strings.Cut(other, "_")
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(value, "/"), "/")
	id := project + "/" + container
	if etag := h.Get(linkETag); etag != "" {
		return map[string]any{"object": syncer.Ref{Key: syncer.Key{Kind: Object, ID: id + "/" + name}}, "etag": strings.Trim(etag, `"`)}
	}
	return map[string]any{"container": syncer.Ref{Key: syncer.Key{Kind: Container, ID: id}}, "name": name}
}

func (k objects) putLink(ctx context.Context, a account, address string, h http.Header, want syncer.Object) error {
	link := asMap(want.Fields["symlink"])
	id := refID(link["object"])
	if id == "" {
		name, _ := link["name"].(string)
		id = refID(link["container"]) + "/" + name
	}
	project, rest, _ := strings.Cut(id, "/")
	h.Set(linksTo, escape(rest))
	if project != a.project {
		base := a.base[:len(a.base)-len(url.PathEscape(a.project))]
		h.Set(linkAccount, base[strings.LastIndex(base, "/")+1:]+project)
	}
	if etag, _ := link["etag"].(string); etag != "" {
		h.Set(linkETag, etag)
	}
	_, err := cloud.Upload(ctx, a.c, address, cloud.Put{Body: http.NoBody, Header: h})
	return err
}
