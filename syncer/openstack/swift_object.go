package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// objects bear no marker: a listing would not show it. What they are stands in
// their headers, which cost a request each; the listing tells by its times which
// of them have changed.
type objects struct{ *swift }

func (objects) traits() syncer.Traits {
	return syncer.Traits{Kind: Object, Within: Container, Ordered: true, Unique: true, Body: true, Fixed: []string{"name"}}
}

func (objects) service() string { return objectStore.service }

// Headers of an object's.
const (
	objectMeta    = "X-Object-Meta-"
	sourceETag    = "Draas-Etag" // behind objectMeta: of what we have cut into segments, whose own tag is another
	largeObject   = "X-Static-Large-Object"
	manifestOf    = "X-Object-Manifest"
	linksTo       = "X-Symlink-Target"
	linkAccount   = "X-Symlink-Target-Account"
	linkETag      = "X-Symlink-Target-Etag"
	deleteAt      = "X-Delete-At"
	emptyMD5      = "md5:d41d8cd98f00b204e9800998ecf8427e"
	sloAlgorithm  = "slo"
	manifestOwn   = "?multipart-manifest=get"
	manifestWrite = "?multipart-manifest=put"
	linkItself    = "?symlink=get"
)

// objectHeaders are those that are kept alike beside the metadata, by field.
var objectHeaders = map[string]string{
	"content_type": "Content-Type", "content_encoding": "Content-Encoding", "content_disposition": "Content-Disposition",
	"content_language": "Content-Language", "cache_control": "Cache-Control", "expires": "Expires", "robots": "X-Robots-Tag", "delete_at": deleteAt,
}

func (objects) list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
	a, address, err := s.at(within.ID)
	if err != nil {
		return err
	}
	_, err = a.names(ctx, address, objectCount, nil, func(r row) error {
		tag := strings.Trim(r.text("slo_etag"), `"`)
		content := syncer.Content{Sum: sloAlgorithm + ":" + tag}
		if tag == "" {
			tag = r.text("hash")
			size, _ := r.whole("bytes")
			content = plainContent(size, tag)
		}
		o := objectAt(s, within, r.text("name"))
		o.Revision = changedAt(listedTicks(r.text("last_modified")), tag)
		o.Content = content
		return each(o)
	})
	return a.denied(err)
}

func objectAt(s *Side, within syncer.Key, name string) syncer.Object {
	project, container, _ := split(within.ID)
	return syncer.Object{
		Key: syncer.Key{Kind: Object, ID: within.ID + "/" + name}, Within: within, Project: project,
		Name: s.inProject(project, container+"/"+name), Natural: []any{syncer.Ref{Key: within}, name},
	}
}

// changedAt is a revision: the time of the last change, and the tag of what the service
// holds under the name.
func changedAt(time, tag string) string { return time + " " + tag }

// tagOf is the tag in a revision.
func tagOf(o syncer.Object) string {
	_, tag, _ := strings.Cut(o.Revision, " ")
	return tag
}

// plainContent is that of an object whose tag is the MD5 of it. What another
// service made in parts has a tag of another form.
func plainContent(size int64, tag string) syncer.Content {
	if len(tag) == 32 && strings.Trim(tag, "0123456789abcdef") == "" {
		return syncer.Content{Size: size, Sum: "md5:" + tag}
	}
	return syncer.Content{Size: size, Sum: "etag:" + tag}
}

// cut tells whether an object is one that draas has cut into segments: the tag
// of what stands there is not that of the content.
func cut(o syncer.Object) bool {
	sum, md5 := strings.CutPrefix(o.Content.Sum, "md5:")
	return md5 && tagOf(o) != "" && tagOf(o) != sum
}

func (k objects) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	return k.head(ctx, s, o.ID)
}

// head reads an object by its header, and a manifest by its parts.
func (k objects) head(ctx context.Context, s *Side, id string) (syncer.Object, error) {
	a, address, err := s.at(id)
	if err != nil {
		return syncer.Object{}, err
	}
	h, err := a.ask(ctx, http.MethodHead, address+linkItself, nil)
	if cloud.NotFound(err) {
		return syncer.Object{}, both{syncer.ErrGone, err}
	}
	if err != nil {
		return syncer.Object{}, a.denied(err)
	}
	project, container, name := split(id)
	o := objectAt(s, syncer.Key{Kind: Container, ID: project + "/" + container}, name)
	o.Fields = objectFields(name, h)
	size, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		size = -1
	}
	tag := strings.Trim(h.Get("Etag"), `"`)
	o.Content = plainContent(size, tag)
	switch made := h.Get(objectMeta + sourceETag); {
	case h.Get(linksTo) != "":
		o.Fields["symlink"] = symlink(project, h)
		o.Content = syncer.Content{Sum: emptyMD5}
	case h.Get(manifestOf) != "":
		// Its own size and tag, not those of what is behind it.
		if h, err = a.ask(ctx, http.MethodHead, address+manifestOwn, nil); err != nil {
			return syncer.Object{}, err
		}
		o.Fields["manifest"] = prefixed(project, h.Get(manifestOf))
		tag = strings.Trim(h.Get("Etag"), `"`)
		if size, err = strconv.ParseInt(h.Get("Content-Length"), 10, 64); err != nil {
			size = -1
		}
		o.Content = plainContent(size, tag)
	case h.Get(largeObject) == "":
	case made != "":
		o.Content.Sum = "md5:" + made
	default:
		sum, err := k.manifest(ctx, a, address, &o)
		if err != nil {
			return syncer.Object{}, err
		}
		o.Content = syncer.Content{Sum: sloAlgorithm + ":" + sum}
	}
	o.Revision = changedAt(ticks(h.Get("X-Timestamp")), tag)
	return o, nil
}

func objectFields(name string, h http.Header) syncer.Fields {
	metadata := make(map[string]any)
	for key := range h {
		if short, ok := strings.CutPrefix(key, objectMeta); ok && short != sourceETag {
			metadata[strings.ToLower(short)] = h.Get(key)
		}
	}
	f := syncer.Fields{"name": name, "metadata": metadata, "manifest": nil, "segments": nil, "symlink": nil}
	for field, key := range objectHeaders {
		if f[field] = nil; h.Get(key) != "" {
			f[field] = h.Get(key)
		}
	}
	return f
}

// header is objectFields' reverse: all of an object's headers, for a POST takes
// away what it does not give.
func header(f syncer.Fields) http.Header {
	h := make(http.Header)
	for key, v := range asMap(f["metadata"]) {
		if text, ok := v.(string); ok {
			h.Set(objectMeta+key, text)
		}
	}
	for field, key := range objectHeaders {
		if text, ok := f[field].(string); ok && text != "" {
			h.Set(key, text)
		}
	}
	if dlo := asMap(f["manifest"]); len(dlo) > 0 {
		_, container, _ := split(refID(dlo["container"]))
		prefix, _ := dlo["prefix"].(string)
		h.Set(manifestOf, escape(container+"/"+prefix))
	}
	return h
}

func plain(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for key := range h {
		out[key] = h.Get(key)
	}
	return out
}

func (k objects) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	name, err := nameOf(want)
	if err != nil {
		return syncer.Object{}, err
	}
	return k.head(ctx, s, want.Within.ID+"/"+name)
}

func (k objects) create(ctx context.Context, s *Side, want syncer.Object, body io.Reader) (syncer.Object, error) {
	name, err := nameOf(want)
	if err != nil {
		return syncer.Object{}, err
	}
	made, err := k.put(ctx, s, want.Within.ID+"/"+name, want, body, true)
	if cloud.NotFound(err) {
		err = fmt.Errorf("the container is not there: %w", err)
	}
	return made, err
}

// put writes an object and looks at what came of it.
func (k objects) put(ctx context.Context, s *Side, id string, want syncer.Object, body io.Reader, fresh bool) (syncer.Object, error) {
	a, address, err := s.at(id)
	if err != nil {
		return syncer.Object{}, err
	}
	h := header(want.Fields)
	if fresh {
		h.Set("If-None-Match", "*") // it takes nothing of anybody else's away
	}
	switch {
	case want.Fields["segments"] != nil:
		err = k.putManifest(ctx, s, a, address, h, want)
	case want.Fields["symlink"] != nil:
		err = k.putLink(ctx, a, address, h, want)
	default:
		err = k.putContent(ctx, s, a, id, h, want, body)
	}
	if err != nil {
		return syncer.Object{}, a.denied(written(err, fresh))
	}
	made, err := k.head(ctx, s, id)
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	if !holds(made.Content, want.Content) {
		err := fmt.Errorf("written %d bytes, %s; the service has %d bytes, %s: %w", want.Content.Size, want.Content.Sum, made.Content.Size, made.Content.Sum, syncer.ErrChanged)
		if fresh {
			err = errors.Join(err, k.remove(context.WithoutCancel(ctx), s, made))
		}
		return syncer.Object{}, err
	}
	return made, nil
}

// written says what a refused write means to the engine.
func written(err error, fresh bool) error {
	switch status := statusOf(err); {
	case errors.Is(err, syncer.ErrChanged), cloud.Uncertain(err):
		return err
	case status == http.StatusPreconditionFailed && fresh:
		return both{syncer.ErrTaken, err}
	case status == http.StatusUnprocessableEntity: // another sum than was said
		return both{syncer.ErrChanged, err}
	case cloud.Unauthorized(err): // the next request has a new token
		return &syncer.Temporary{Err: err}
	}
	return err
}

// putContent uploads an object in one piece, or in segments where it is large.
func (k objects) putContent(ctx context.Context, s *Side, a account, id string, h http.Header, want syncer.Object, body io.Reader) error {
	if body == nil || want.Content.Size < 0 {
		return errors.New("no content, or none of a known size")
	}
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return err
	}
	if want.Content.Size > about.maxFile && (!about.large || want.Fields["manifest"] != nil) {
		return fmt.Errorf("%d bytes are more than the target takes in one piece, and it has no large objects", want.Content.Size)
	}
	sum, md5 := strings.CutPrefix(want.Content.Sum, "md5:")
	if md5 && about.large && want.Fields["manifest"] == nil && want.Content.Size > min(s.segmentAbove(), about.maxFile) {
		return k.putSegmented(ctx, s, a, id, h, want, body)
	}
	if md5 {
		h.Set("Etag", sum)
	}
	_, address, err := s.at(id)
	if err != nil {
		return err
	}
	_, err = cloud.Upload(ctx, a.c, address, cloud.Put{Body: body, Size: want.Content.Size, Header: h})
	return err
}

func (k objects) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, body io.Reader) (syncer.Object, error) {
	now, err := k.head(ctx, s, have.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	if now.Revision != have.Revision {
		return syncer.Object{}, fmt.Errorf("written by others since it was looked at: %w", syncer.ErrChanged)
	}
	anew := func(field string) bool { return field == "" || field == "segments" || field == "symlink" }
	// A link's own metadata cannot be posted: that leads to what it links to.
	if slices.ContainsFunc(fields, anew) || now.Fields["symlink"] != nil || (now.Fields["manifest"] == nil) != (want.Fields["manifest"] == nil) {
		if body == nil && want.Content.Size > 0 && want.Fields["segments"] == nil {
			return syncer.Object{}, errors.New("it has to be written anew, and its content was not given")
		}
		if body == nil {
			body = http.NoBody
		}
		made, err := k.put(ctx, s, have.ID, want, body, false)
		if err == nil && cut(now) && tagOf(now) != tagOf(made) {
			err = k.tidy(ctx, s, have.ID, made)
		}
		return made, err
	}
	a, address, err := s.at(have.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	h := header(want.Fields)
	if cut(now) {
		h.Set(objectMeta+sourceETag, strings.TrimPrefix(now.Content.Sum, "md5:"))
	}
	if _, err := a.ask(ctx, http.MethodPost, address, plain(h)); err != nil {
		return syncer.Object{}, a.denied(err)
	}
	return k.head(ctx, s, have.ID)
}

// remove deletes an object, and the segments that we have cut it into.
func (k objects) remove(ctx context.Context, s *Side, have syncer.Object) error {
	a, address, err := s.at(have.ID)
	if err != nil {
		return err
	}
	if _, err := a.ask(ctx, http.MethodDelete, address, nil); err != nil && !cloud.NotFound(err) {
		return a.denied(err)
	}
	if !cut(have) {
		return nil
	}
	return k.tidy(ctx, s, have.ID, syncer.Object{})
}

// prefixed is what a dynamic large object is made of: all that begins with a
// prefix in a container.
func prefixed(project, value string) any {
	value, err := url.PathUnescape(value)
	if err != nil {
		return nil
	}
	container, prefix, _ := strings.Cut(strings.TrimPrefix(value, "/"), "/")
	return map[string]any{"container": syncer.Ref{Key: syncer.Key{Kind: Container, ID: project + "/" + container}}, "prefix": prefix}
}
