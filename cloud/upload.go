package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// Put is an upload.
type Put struct {
	Method string // PUT, unless set
	Body   io.Reader
	// Size is what Body has. One that has more or less is not uploaded: it
	// breaks off before the service has Size octets, with ErrSize.
	Size   int64
	Header http.Header // of the request, its Content-Type for one
}

// Upload sends a body to an address of a client's service, once: it is not
// repeated, whatever becomes of it. The token is renewed before if it ends soon,
// and the service is asked whether it takes the body before that is sent
// (Expect: 100-continue). An answer of 2xx is success, and its header is
// returned. A 401 is an error for which Unauthorized holds; the next request
// brings a new token. The body is not closed.
func Upload(ctx context.Context, client *gophercloud.ServiceClient, address string, put Put) (http.Header, error) {
	c, err := chainOf(client)
	if err != nil {
		return nil, err
	}
	if put.Size < 0 || put.Body == nil {
		return nil, errors.New("upload: want a body and its size")
	}
	if put.Method == "" {
		put.Method = http.MethodPut
	}
	if err := c.s.fresh(ctx); err != nil {
		return nil, err
	}
	req, err := c.request(ctx, client, put.Method, address)
	if err != nil {
		return nil, err
	}
	for k, v := range put.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	v, out, err := c.prepare(req)
	if err != nil {
		return nil, err
	}
	h, err := v.upload(out, put)
	if Unauthorized(err) {
		c.s.refuse(out.Header.Get("X-Auth-Token"))
	}
	return h, err
}

// expectFrom is from which size on a service is asked before it gets a body: a
// smaller one costs less than the question.
const expectFrom = 256 << 10

func (v *service) upload(req *http.Request, put Put) (http.Header, error) {
	t, err := v.enter(req.Context(), v.streams)
	if err != nil {
		return nil, v.fault(req, err, 0)
	}
	defer t.leave()
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	from := newMeasured(ctx, v, put, cancel)
	defer from.finish()
	out := req.Clone(ctx)
	if put.Size == 0 {
		if err := from.ended(); err != nil {
			return nil, v.fault(req, err, 0)
		}
		out.Body = http.NoBody
	} else {
		out.Body, out.ContentLength = from, put.Size
	}
	if put.Size >= expectFrom && !v.mute.Load() {
		out.Header.Set("Expect", "100-continue")
		out = out.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { from.awaited.Store(true) }}))
	}
	v.requests.Add(1)
	resp, err := v.site.transport.RoundTrip(out)
	if err != nil {
		return nil, v.broken(ctx, req, put, from, cancel, err)
	}
	v.heard(resp.Header)
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	_ = resp.Body.Close() // as much was read as is wanted
	cancel(nil)
	sent := from.finish()
	if sent > 0 && out.Header.Get("Expect") != "" && !from.awaited.Load() {
		v.mute.Store(true) // it costs a second each time
	}
	if isThrottle(resp) {
		v.throttled.Add(1)
		v.limiter.pause(v.after(resp))
	}
	if resp.StatusCode/100 == 2 {
		if sent != put.Size { // it answered before it can have had all
			e := v.fault(req, fmt.Errorf("status %d after %d octets of %d: %w", resp.StatusCode, sent, put.Size, ErrSize), 1)
			e.Sent, e.Uncertain = sent, true
			return nil, e
		}
		return resp.Header, nil
	}
	if err != nil {
		text = nil // the status says enough
	}
	e := v.refusal(req.Method, req.URL.EscapedPath(), resp.StatusCode, resp.Header, text, req.Header.Get("X-Auth-Token"))
	e.Sent, e.Uncertain = sent, e.Uncertain && sent == put.Size
	return nil, e
}

// broken is an upload without an answer.
func (v *service) broken(ctx context.Context, req *http.Request, put Put, from *measured, cancel context.CancelCauseFunc, err error) *Error {
	v.failed.Add(1)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	sent := from.finish()
	if from.err != nil {
		err = fmt.Errorf("read what is sent: %w", from.err)
	}
	e := v.fault(req, err, 1)
	e.Sent = sent
	// With a length before it, what has come in part is not complete.
	e.Uncertain = sent == put.Size && !unsent(err) && from.err == nil
	return e
}

// measured hands out exactly as many octets as were said. The last goes only
// when the source has ended behind it: a service must not take the beginning of
// a longer body for the whole.
type measured struct {
	ctx   context.Context
	v     *service
	from  io.Reader
	size  int64
	stall *time.Timer
	wait  time.Duration

	awaited atomic.Bool // by the service

	mu   sync.Mutex // held while the source is read
	over bool
	sent int64
	err  error // the source's, or that it is not of its size
}

func newMeasured(ctx context.Context, v *service, put Put, cancel context.CancelCauseFunc) *measured {
	m := &measured{ctx: ctx, v: v, from: put.Body, size: put.Size, wait: v.site.options.StallTimeout}
	m.stall = time.AfterFunc(m.wait, func() { cancel(ErrStalled) })
	m.stall.Stop() // it runs between two reads: while the network has what was read
	return m
}

// finish ends the reading, and says how much went. The transport may still be
// about to read when its answer is there; the source is the caller's again.
func (m *measured) finish() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stall.Stop()
	m.over = true
	return m.sent
}

// Read implements io.Reader for the transport.
func (m *measured) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stall.Stop()
	switch {
	case m.err != nil:
		return 0, m.err
	case m.over:
		return 0, errors.New("read after the end")
	case m.sent == m.size:
		return 0, io.EOF
	}
	n, err := m.next(p)
	if err != nil {
		m.err = err
		return 0, err
	}
	m.v.out.Add(int64(n))
	if m.sent += int64(n); m.sent < m.size {
		m.stall.Reset(m.wait)
	}
	return n, nil
}

// next reads the source.
func (m *measured) next(p []byte) (int, error) {
	left := m.size - m.sent
	p = p[:m.v.site.pacer.limit(m.v.pacer.limit(int(min(int64(len(p)), left))))]
	n, err := m.from.Read(p)
	switch {
	case err != nil && err != io.EOF:
		return 0, err
	case err == io.EOF && int64(n) < left:
		return 0, fmt.Errorf("%d octets instead of %d: %w", m.sent+int64(n), m.size, ErrSize)
	case err == nil && int64(n) == left:
		if err := m.ended(); err != nil {
			return 0, err
		}
	}
	return n, m.v.pay(m.ctx, int64(n))
}

// Close is of the transport's; the source is the caller's to close.
func (m *measured) Close() error { return nil }

// ended sees that the source has nothing more.
func (m *measured) ended() error {
	var more [1]byte
	for range 100 { // as bufio asks
		switch n, err := m.from.Read(more[:]); {
		case n > 0:
			return fmt.Errorf("more than %d octets: %w", m.size, ErrSize)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}
