package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// open reads the content. Nothing is asked for before the first octet is read:
// who waits for its turn at the target holds no place at the source.
func (objects) open(ctx context.Context, s *Side, o syncer.Object, from int64) (io.ReadCloser, error) {
	if o.Content.Size == 0 { // as of manifests and links: what they are stands in the fields
		return http.NoBody, nil
	}
	a, address, err := s.at(o.ID)
	if err != nil {
		return nil, err
	}
	if o.Fields["manifest"] != nil {
		address += manifestOwn
	}
	c := *a.c
	c.MoreHeaders = map[string]string{}
	for key, v := range a.c.MoreHeaders {
		c.MoreHeaders[key] = v
	}
	if tag := tagOf(o); tag != "" {
		c.MoreHeaders["If-Match"] = `"` + tag + `"`
	}
	return &lazy{start: func() (io.ReadCloser, error) {
		return cloud.Resuming(ctx, func(ctx context.Context, offset int64) (*cloud.Body, error) {
			body, err := cloud.Download(ctx, &c, address, from+offset)
			if err != nil {
				return nil, err
			}
			tag := strings.Trim(body.Header.Get("Etag"), `"`)
			if tag != "" && tag != tagOf(o) || body.Total >= 0 && o.Content.Size >= 0 && body.Total != o.Content.Size {
				_ = body.Close() // of another
				return nil, fmt.Errorf("%d octets, tag %s: %w", body.Total, tag, cloud.ErrChanged)
			}
			if body.Offset -= from; body.Total >= 0 {
				body.Total -= from
			}
			return body, nil
		})
	}}, nil
}

// lazy is a body that is opened when it is first read.
type lazy struct {
	start func() (io.ReadCloser, error)
	body  io.ReadCloser
	err   error
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.body == nil && l.err == nil {
		body, err := l.start()
		if l.err = err; err == nil {
			l.body = body
		}
	}
	if l.err != nil {
		return 0, altered(l.err)
	}
	n, err := l.body.Read(p)
	if err != nil && err != io.EOF {
		err = altered(err)
	}
	return n, err
}

// altered says what an answer to a reading means: that it is not the content
// any more which was listed.
func altered(err error) error {
	if status := statusOf(err); errors.Is(err, cloud.ErrChanged) || status == http.StatusPreconditionFailed || status == http.StatusNotFound || status == http.StatusRequestedRangeNotSatisfiable {
		return both{syncer.ErrChanged, err}
	}
	return err
}

func (l *lazy) Close() error {
	if l.err == nil {
		l.err = errors.New("read after close")
	}
	if l.body == nil {
		return nil
	}
	body := l.body
	l.body = nil
	return body.Close()
}
