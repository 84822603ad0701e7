package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// Body is a body on its way. It is to be closed; until then it holds a place
// among the service's streams.
type Body struct {
	io.ReadCloser
	Offset int64 // of its first octet, in the whole
	Total  int64 // of the whole, -1 if the server does not say
	Header http.Header
}

// Tag is what the server says of the content, by which a later answer can be
// seen to be of the same; "" if nothing. Of a range it may be silent.
func (b *Body) Tag() string {
	if tag := b.Header.Get("Etag"); tag != "" {
		return tag
	}
	return b.Header.Get("Content-Md5")
}

// Download asks for what is behind an address of a client's service, from an
// offset on. Until the answer begins it is asked for again like any other
// request; after that nothing is: see Resuming. A server that sends the whole
// instead of the range gives ErrRangeIgnored.
func Download(ctx context.Context, client *gophercloud.ServiceClient, address string, offset int64) (*Body, error) {
	c, err := chainOf(client)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if err := c.s.fresh(ctx); err != nil {
			return nil, err
		}
		body, err := c.download(ctx, client, address, offset)
		var e *Error
		if attempt == 1 && errors.As(err, &e) && e.Status == http.StatusUnauthorized && c.s.provider.ReauthFunc != nil {
			continue // the token was refused, and is now renewed
		}
		return body, err
	}
}

// chainOf finds the way of a client that Session.Service has made.
func chainOf(client *gophercloud.ServiceClient) (*chain, error) {
	c, ok := client.HTTPClient.Transport.(*chain)
	if !ok {
		return nil, errors.New("a client that no session of package cloud has made")
	}
	return c, nil
}

// request is one as gophercloud would make it.
func (c *chain) request(ctx context.Context, client *gophercloud.ServiceClient, method, address string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, errors.New("not an address")
	}
	req.Header.Set("User-Agent", c.s.provider.UserAgent.Join())
	for k, v := range client.MoreHeaders {
		req.Header.Set(k, v)
	}
	if client.Microversion != "" && client.Type != "" {
		req.Header.Set("OpenStack-API-Version", client.Type+" "+client.Microversion)
	}
	req.Header.Set("X-Auth-Token", c.s.provider.Token())
	return req, nil
}

func (c *chain) download(ctx context.Context, client *gophercloud.ServiceClient, address string, offset int64) (*Body, error) {
	req, err := c.request(ctx, client, http.MethodGet, address)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	v, out, err := c.prepare(req)
	if err != nil {
		return nil, err
	}
	resp, err := v.retry(out, func(ctx context.Context) (*http.Response, error) { return v.open(ctx, out) })
	if err != nil {
		return nil, err
	}
	body, err := v.body(out, resp, offset)
	if err != nil {
		_ = resp.Body.Close() // not wanted
		if Unauthorized(err) {
			c.s.refuse(out.Header.Get("X-Auth-Token"))
		}
		return nil, err
	}
	return body, nil
}

// body is the answer to a download, if it is the one that was asked for.
func (v *service) body(req *http.Request, resp *http.Response, offset int64) (*Body, error) {
	b := &Body{ReadCloser: resp.Body, Offset: offset, Total: -1, Header: resp.Header}
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		first, last, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != offset || total >= 0 && last != total-1 || resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
			return nil, v.fault(req, fmt.Errorf("a range that was not asked for: %q", resp.Header.Get("Content-Range")), 1)
		}
		b.Total = total
	case resp.StatusCode == http.StatusOK && offset == 0:
		b.Total = resp.ContentLength
	case resp.StatusCode == http.StatusOK:
		return nil, v.fault(req, ErrRangeIgnored, 1)
	case resp.StatusCode == http.StatusNoContent && offset == 0:
		b.Total = 0 // Glance's of an image without data
	default:
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		if err != nil {
			text = nil // the status says enough
		}
		return nil, v.refusal(req.Method, req.URL.EscapedPath(), resp.StatusCode, resp.Header, text, req.Header.Get("X-Auth-Token"))
	}
	return b, nil
}

// maxRefusal bounds what is read of a stream's refusal, in octets.
const maxRefusal = 64 << 10

// open sends a request whose answer is a stream, and waits for its beginning.
func (v *service) open(ctx context.Context, req *http.Request) (*http.Response, error) {
	t, err := v.enter(ctx, v.streams)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(v.site.options.AnswerTimeout, func() {
		cancel(fmt.Errorf("no answer in %v: %w", v.site.options.AnswerTimeout, context.DeadlineExceeded))
	})
	v.requests.Add(1)
	resp, err := v.site.transport.RoundTrip(req.Clone(ctx))
	if !timer.Stop() && err == nil {
		_ = resp.Body.Close() // it came too late
		err = ctx.Err()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && isTimeout(cause) {
			err = cause
		}
		cancel(nil)
		t.leave()
		v.failed.Add(1)
		return nil, err
	}
	v.heard(resp.Header)
	if isThrottle(resp) {
		v.throttled.Add(1)
		v.limiter.pause(v.after(resp))
	}
	stall := time.AfterFunc(v.site.options.StallTimeout, func() { cancel(ErrStalled) })
	stall.Stop() // it runs while somebody reads
	resp.Body = &flow{v: v, req: req, from: resp.Body, ctx: ctx, cancel: cancel, turn: t, stall: stall}
	return resp, nil
}

// flow is the body of a stream.
type flow struct {
	v      *service
	req    *http.Request
	from   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	turn   turn
	stall  *time.Timer
	closed sync.Once
}

// Read reads at the site's rate, and not for ever from a server that has
// stopped.
func (f *flow) Read(p []byte) (int, error) {
	f.stall.Reset(f.v.site.options.StallTimeout)
	n, err := f.from.Read(p[:f.v.site.pacer.limit(f.v.pacer.limit(len(p)))])
	f.stall.Stop()
	f.v.in.Add(int64(n))
	if err == nil {
		err = f.v.pay(f.ctx, int64(n))
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if errors.Is(context.Cause(f.ctx), ErrStalled) {
		err = ErrStalled
	}
	return n, f.v.fault(f.req, err, 1)
}

// Close ends the stream and gives its place back.
func (f *flow) Close() error {
	var err error
	f.closed.Do(func() {
		f.cancel(nil)
		err = f.from.Close()
		f.turn.leave()
	})
	return err
}
