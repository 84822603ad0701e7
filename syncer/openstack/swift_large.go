package openstack

import (
	"context"
	"crypto/md5" // Swift's tags are
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Large objects are cut: their parts go beside each other into a container of
// ours, and become one by a manifest, which bears the tag of the source. Parts
// that arrived stay when it breaks off, for their names say what they are of.
const (
	segmentsSuffix  = "_draas_segments"
	longestName     = 256       // bytes, of a container
	segmentAbove    = 1 << 30   // bytes
	segmentSize     = 256 << 20 // bytes
	segmentsAtOnce  = 4         // of one object
	segmentAttempts = 4
)

func (s *Side) segmentAbove() int64 {
	if s.options.SegmentAbove > 0 {
		return s.options.SegmentAbove
	}
	return segmentAbove
}

func (s *Side) segmentSize() int64 {
	if s.options.SegmentSize > 0 {
		return s.options.SegmentSize
	}
	return segmentSize
}

// segmentsOf is the container of a container's segments.
func segmentsOf(container string) string {
	if len(container)+len(segmentsSuffix) <= longestName {
		return container + segmentsSuffix
	}
	sum := sha256.Sum256([]byte(container))
	return hex.EncodeToString(sum[:16]) + segmentsSuffix
}

// segmentsUnder is what the names of an object's segments begin with.
func segmentsUnder(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]) + "/"
}

// segments finds the container of a container's segments, if there is one.
func (a account) segments(ctx context.Context, container string) (address string, there bool, err error) {
	address = a.base + "/" + escape(segmentsOf(container))
	h, err := a.ask(ctx, http.MethodHead, address, nil)
	switch {
	case cloud.NotFound(err):
		return address, false, nil
	case err != nil:
		return "", false, a.denied(err)
	case h.Get(containerMeta+holdsSegments) == "":
		return "", false, fmt.Errorf("container %s is not draas's: %w", segmentsOf(container), syncer.ErrTaken)
	}
	return address, true, nil
}

// makeSegments makes that container: of the same policy, and open to the same.
func (a account) makeSegments(ctx context.Context, container string) (string, error) {
	address, there, err := a.segments(ctx, container)
	if err != nil || there {
		return address, err
	}
	h, err := a.ask(ctx, http.MethodHead, a.base+"/"+escape(container), nil)
	if err != nil {
		return "", err
	}
	header := map[string]string{containerMeta + holdsSegments: "1"}
	for _, key := range []string{"X-Container-Read", "X-Storage-Policy"} {
		if v := h.Get(key); v != "" {
			header[key] = v
		}
	}
	_, err = a.ask(ctx, http.MethodPut, address, header)
	return address, err
}

// shareSegments lets those read the parts who may read what is made of them.
func (a account) shareSegments(ctx context.Context, container string, fields syncer.Fields) error {
	address, there, err := a.segments(ctx, container)
	if err != nil || !there {
		return ignore(err, syncer.ErrTaken)
	}
	header := make(map[string]string)
	containerHeader(header, syncer.Fields{"read": []any{".r:*"}}, fields, []string{"read"}) // whatever it was
	_, err = a.ask(ctx, http.MethodPost, address, header)
	return err
}

// dropSegments removes the container of a container's segments.
func (a account) dropSegments(ctx context.Context, container string) error {
	address, there, err := a.segments(ctx, container)
	if err != nil || !there {
		return ignore(err, syncer.ErrTaken)
	}
	if err := a.dropUnder(ctx, address, "", ""); err != nil {
		return err
	}
	_, err = a.ask(ctx, http.MethodDelete, address, nil)
	if cloud.NotFound(err) {
		return nil
	}
	return err
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// dropUnder deletes the segments whose names begin so, but for those that begin
// with keep.
func (a account) dropUnder(ctx context.Context, address, prefix, keep string) error {
	query := url.Values{}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	var names []string
	_, err := a.names(ctx, address, objectCount, query, func(r row) error {
		if name := r.text("name"); keep == "" || !strings.HasPrefix(name, keep) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headed)
	for _, name := range names {
		g.Go(func() error {
			_, err := a.ask(ctx, http.MethodDelete, address+"/"+escape(name), nil)
			if cloud.NotFound(err) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// tidy removes the segments of an object that made, as it is now, is not made of.
func (k objects) tidy(ctx context.Context, s *Side, id string, made syncer.Object) error {
	project, container, name := split(id)
	a, err := s.account(project)
	if err != nil {
		return err
	}
	address, there, err := a.segments(ctx, container)
	if err != nil || !there {
		return ignore(err, syncer.ErrTaken)
	}
	keep := ""
	if cut(made) {
		keep = segmentsUnder(name) + strings.TrimPrefix(made.Content.Sum, "md5:") + "/"
	}
	return a.dropUnder(ctx, address, segmentsUnder(name), keep)
}

// segmented is an upload in segments.
type segmented struct {
	a       account
	address string // of the segments' container
	prefix  string // of this content's segments
	content syncer.Content
	size    int64 // of a segment
	parts   []part
	there   []bool
}

func (k objects) putSegmented(ctx context.Context, s *Side, a account, id string, h http.Header, want syncer.Object, body io.Reader) error {
	_, container, name := split(id)
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return err
	}
	size := max(s.segmentSize(), (want.Content.Size+about.maxSegments-1)/about.maxSegments)
	if size > about.maxFile {
		return fmt.Errorf("%d bytes are more than the target takes in %d segments", want.Content.Size, about.maxSegments)
	}
	sum := strings.TrimPrefix(want.Content.Sum, "md5:")
	u := &segmented{a: a, content: want.Content, size: size, prefix: fmt.Sprintf("%s%s/%d/%d/", segmentsUnder(name), sum, want.Content.Size, size)}
	if u.address, err = a.makeSegments(ctx, container); err != nil {
		return err
	}
	u.parts = make([]part, (want.Content.Size+size-1)/size)
	u.there = make([]bool, len(u.parts))
	for i := range u.parts {
		u.parts[i].object = a.project + "/" + segmentsOf(container) + "/" + fmt.Sprintf("%s%08d", u.prefix, i)
		u.parts[i].size = min(size, want.Content.Size-int64(i)*size)
	}
	if err := u.look(ctx); err != nil {
		return err
	}
	if ranged, ok := body.(syncer.Ranged); ok {
		err = u.parallel(ctx, ranged)
	} else {
		err = u.inTurn(ctx, body)
	}
	if err != nil {
		if errors.Is(err, syncer.ErrChanged) { // nobody will ask for these again
			err = errors.Join(err, a.dropUnder(context.WithoutCancel(ctx), u.address, u.prefix, ""))
		}
		return err
	}
	_, address, err := s.at(id)
	if err != nil {
		return err
	}
	h.Set(objectMeta+sourceETag, sum)
	if _, err := call(ctx, a.c, objectStore, http.MethodPut, address+manifestWrite, plain(h), manifestBody(u.parts), nil); err != nil {
		return err
	}
	if err := a.dropUnder(ctx, u.address, segmentsUnder(name), u.prefix); err != nil {
		return &syncer.Uncertain{Err: err} // it is there
	}
	return nil
}

// look finds the segments that arrived when it was tried before.
func (u *segmented) look(ctx context.Context) error {
	found := make(map[string]row)
	_, err := u.a.names(ctx, u.address, objectCount, url.Values{"prefix": {u.prefix}}, func(r row) error {
		found[r.text("name")] = maps.Clone(r)
		return nil
	})
	for i := range u.parts {
		_, _, name := split(u.parts[i].object)
		r := found[name]
		if size, ok := r.whole("bytes"); ok && size == u.parts[i].size && r.text("hash") != "" {
			u.parts[i].etag, u.there[i] = r.text("hash"), true
		}
	}
	return err
}

// parallel uploads segments beside each other, each from its own place in the
// source: no more than the buffers of the connections is held. After an error
// none is begun, and those under way are ended: what is broken off may arrive
// later, when nobody looks for it any more.
func (u *segmented) parallel(ctx context.Context, body syncer.Ranged) error {
	var g errgroup.Group
	var failed atomic.Bool
	g.SetLimit(segmentsAtOnce)
	for i := range u.parts {
		if u.there[i] {
			continue
		}
		g.Go(func() error {
			if failed.Load() {
				return nil // the error is another's
			}
			err := u.again(ctx, i, body)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	return g.Wait()
}

// again uploads a segment until it has arrived, a few times at most.
func (u *segmented) again(ctx context.Context, i int, body syncer.Ranged) error {
	for attempt := 1; ; attempt++ {
		from, err := body.From(ctx, int64(i)*u.size)
		if err == nil {
			err = u.send(ctx, i, from)
			_ = from.Close() // what follows is of another segment
		}
		after, temporary := cloud.Temporary(err)
		switch {
		case err == nil, errors.Is(err, syncer.ErrChanged), attempt == segmentAttempts, ctx.Err() != nil:
			return err
		case !temporary && !cloud.Unauthorized(err) && !errors.Is(err, errDamaged):
			return err
		}
		if err := pause(ctx, max(after, segmentPause<<attempt)); err != nil {
			return err
		}
	}
}

// segmentPause doubles with each attempt.
const segmentPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errDamaged: a segment did not arrive as it was sent.
var errDamaged = errors.New("the service has another sum than what was sent")

// send uploads one segment from where body is.
func (u *segmented) send(ctx context.Context, i int, body io.Reader) error {
	sum := md5.New()
	_, _, name := split(u.parts[i].object)
	put := cloud.Put{Body: io.TeeReader(io.LimitReader(body, u.parts[i].size), sum), Size: u.parts[i].size, Header: http.Header{"Content-Type": {"application/octet-stream"}}}
	h, err := cloud.Upload(ctx, u.a.c, u.address+"/"+escape(name), put)
	if err != nil {
		return fmt.Errorf("segment %d: %w", i+1, err)
	}
	u.parts[i].etag = hex.EncodeToString(sum.Sum(nil))
	if got := strings.Trim(h.Get("Etag"), `"`); got != u.parts[i].etag {
		return fmt.Errorf("segment %d: %w", i+1, errDamaged)
	}
	return nil
}

// inTurn uploads segments from a body that cannot be read but once; then the
// sum of all is known at its end.
func (u *segmented) inTurn(ctx context.Context, body io.Reader) error {
	var whole hash.Hash = md5.New()
	body = io.TeeReader(body, whole)
	for i := range u.parts {
		if err := u.send(ctx, i, body); err != nil {
			return err
		}
	}
	switch n, err := io.Copy(io.Discard, body); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("more than %d bytes: %w", u.content.Size, syncer.ErrChanged)
	case u.content.Sum != "md5:"+hex.EncodeToString(whole.Sum(nil)):
		return fmt.Errorf("the sum is another than %s: %w", u.content.Sum, syncer.ErrChanged)
	}
	return nil
}
