package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// chain is the way of a session's requests: to the right host, in turn, again
// where that is safe. Answers are read to their end before they are handed on,
// so that one cut short can be asked for again, and who reads slowly holds no
// place.
type chain struct{ s *Session }

// RoundTrip implements http.RoundTripper.
func (c *chain) RoundTrip(req *http.Request) (*http.Response, error) {
	v, out, err := c.prepare(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // nothing was read of it
		}
		return nil, err
	}
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }() // each attempt has its own
	}
	resp, err := v.retry(out, func(ctx context.Context) (*http.Response, error) { return v.once(ctx, out) })
	if resp != nil {
		resp.Request = out
	}
	return resp, err
}

// prepare is the request as it is sent, and the service it goes to.
func (c *chain) prepare(req *http.Request) (*service, *http.Request, error) {
	name, p, ok := c.s.at(req.Header.Get(serviceHeader), req.URL)
	v := c.s.site.service(name)
	if !ok {
		v = &service{site: c.s.site, name: "no service"}
		return nil, nil, v.fault(req, fmt.Errorf("%s: %w", req.URL.Host, ErrForeign), 0)
	}
	to, err := p.lead(req.Method, req.URL)
	if err != nil {
		return nil, nil, v.fault(req, err, 0)
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return nil, nil, v.fault(req, ErrStream, 0)
	}
	out := req.Clone(req.Context())
	out.URL, out.Host = to, ""
	out.Header.Del(serviceHeader)
	return v, out, nil
}

// idempotent reports whether a request may be sent again after it was perhaps
// carried out. A token too many does no harm.
func idempotent(method, path string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return isLogin(method, path)
}

func isLogin(method, path string) bool {
	return method == http.MethodPost && strings.HasSuffix(path, "/v3/auth/tokens")
}

// changes reports whether a request, once carried out, has changed anything.
func changes(method, path string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions && !isLogin(method, path)
}

// Waits between attempts: doubled each time, and drawn from the upper half.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

func backoff(attempt int) time.Duration {
	d := min(firstBackoff<<min(attempt-1, 10), lastBackoff)
	return d/2 + rand.N(d/2)
}

// retry sends a request until it has an answer that counts, may not be sent
// again, or attempts or time are used up.
func (v *service) retry(req *http.Request, once func(context.Context) (*http.Response, error)) (*http.Response, error) {
	o, ctx := v.site.options, req.Context()
	var first time.Time
	maybe := false // something that was sent may have been carried out
	for attempt := 1; ; attempt++ {
		resp, err := once(ctx)
		if first.IsZero() {
			first = time.Now()
		}
		maybe = maybe || err != nil && !unsent(err) || err == nil && retryStatus(resp.StatusCode)
		again, after := v.again(req, resp, err)
		after = max(after, backoff(attempt))
		last := attempt >= o.Attempts || time.Since(first)+after > o.RetryFor || ctx.Err() != nil
		switch {
		case again && !last:
		case err != nil:
			return nil, v.lost(req, err, attempt, maybe)
		default:
			if attempt > 1 {
				resp.Header.Set(attemptsHeader, strconv.Itoa(attempt))
			}
			if maybe {
				resp.Header.Set(maybeHeader, "1")
			}
			return resp, nil
		}
		if resp != nil {
			_ = resp.Body.Close() // read, or not wanted
		}
		v.retries.Add(1)
		if err := sleep(ctx, after); err != nil {
			return nil, v.lost(req, err, attempt, maybe)
		}
	}
}

// lost is fault after attempts of which one may have been carried out.
func (v *service) lost(req *http.Request, err error, attempts int, maybe bool) *Error {
	e := v.fault(req, err, attempts)
	e.Uncertain = maybe && changes(req.Method, req.URL.Path)
	return e
}

// again reports whether what came of a request allows that it is sent again,
// and after how long at the least.
func (v *service) again(req *http.Request, resp *http.Response, err error) (again bool, after time.Duration) {
	safe := idempotent(req.Method, req.URL.Path)
	switch {
	case err != nil:
		return !permanent(err) && req.Context().Err() == nil && (safe || unsent(err)), 0
	case isThrottle(resp):
		return true, v.after(resp)
	case retryStatus(resp.StatusCode):
		return safe, v.after(resp)
	}
	return false, 0
}

// retryStatus reports whether a status may be another one the next time.
func retryStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// isThrottle reports whether an answer says that the request was too much, and
// was not looked at. Older computes say it by 413.
func isThrottle(resp *http.Response) bool {
	return throttled(resp.StatusCode) || resp.StatusCode == http.StatusRequestEntityTooLarge && resp.Header.Get("Retry-After") != ""
}

func (v *service) after(resp *http.Response) time.Duration {
	return retryAfter(resp.Header, time.Now(), v.site.options.MaxPause)
}

// enter waits for a request's turn at the site and the service.
func (v *service) enter(ctx context.Context, l *limiter) (turn, error) {
	for _, wait := range []func(context.Context) error{v.site.pacer.request, v.pacer.request, v.limiter.wait} {
		if err := wait(ctx); err != nil {
			return turn{}, unsentError{err}
		}
	}
	t, err := l.acquire(ctx)
	if err != nil {
		return turn{}, unsentError{err}
	}
	return t, nil
}

// learn tells the limiter what came of a request, which gives its place back.
func (v *service) learn(ctx context.Context, t turn, resp *http.Response, err error) {
	busy := resp != nil && (isThrottle(resp) || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout)
	switch {
	case busy && isThrottle(resp):
		v.throttled.Add(1)
		v.slower(t, v.after(resp), resp.Status)
	case busy:
		v.slower(t, v.after(resp), resp.Status)
	case err == nil:
		t.good()
	case isTimeout(err) && ctx.Err() == nil:
		v.failed.Add(1)
		v.slower(t, 0, "no answer in time")
	default:
		v.failed.Add(1)
		t.leave()
	}
}

func (v *service) slower(t turn, pause time.Duration, why string) {
	if t.bad(pause) {
		_, _, limit, _ := v.limiter.state()
		v.site.options.Log.Info("service asked for less", "cloud", v.site.cloud.Name, "service", v.name, "why", why, "pause", pause, "limit", limit)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// once sends a request and reads the whole answer.
func (v *service) once(ctx context.Context, req *http.Request) (*http.Response, error) {
	out, cancel, err := v.attempt(ctx, req)
	if err != nil {
		return nil, err
	}
	defer cancel()
	t, err := v.enter(ctx, v.limiter)
	if err != nil {
		return nil, err
	}
	if err := v.pay(ctx, max(req.ContentLength, 0)); err != nil {
		t.leave()
		return nil, unsentError{err}
	}
	// The time of an attempt begins with its turn.
	left := &allowance{timer: time.AfterFunc(v.site.options.AnswerTimeout, cancel), until: time.Now().Add(v.site.options.AnswerTimeout)}
	defer left.timer.Stop()
	v.requests.Add(1)
	resp, err := v.site.transport.RoundTrip(out)
	if err == nil {
		v.heard(resp.Header)
		v.out.Add(max(req.ContentLength, 0))
		err = v.readAll(ctx, resp, left)
	}
	if err != nil && out.Context().Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer in %v: %w", v.site.options.AnswerTimeout, context.DeadlineExceeded)
	}
	if err != nil {
		v.learn(ctx, t, nil, err)
		return nil, err
	}
	v.learn(ctx, t, resp, nil)
	return resp, nil
}

// attempt is a request that can be sent, with a body of its own.
func (v *service) attempt(ctx context.Context, req *http.Request) (*http.Request, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	out := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			cancel()
			return nil, nil, err
		}
		out.Body = body
	}
	return out, cancel, nil
}

// pay waits for octets that are sent at once.
func (v *service) pay(ctx context.Context, n int64) error {
	for n > 0 {
		part := int(min(n, paceChunk))
		n -= int64(part)
		if err := errors.Join(v.site.pacer.octets(ctx, part), v.pacer.octets(ctx, part)); err != nil {
			return err
		}
	}
	return nil
}

// metered reports whether octets are counted out.
func (v *service) metered() bool { return len(v.site.pacer.windows)+len(v.pacer.windows) > 0 }

// readAll reads an answer into memory, up to the bound.
func (v *service) readAll(ctx context.Context, resp *http.Response, left *allowance) error {
	defer func() { _ = resp.Body.Close() }() // it was read, or is not wanted
	most := v.site.options.MaxAnswer
	if resp.ContentLength > most && resp.Request.Method != http.MethodHead {
		return fmt.Errorf("%d octets: %w", resp.ContentLength, ErrTooLong)
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(min(resp.ContentLength, 1<<20)) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(&paced{ctx, v, resp.Body, left}, most+1))
	if err != nil {
		return err
	}
	if n > most {
		return fmt.Errorf("more than %d octets: %w", most, ErrTooLong)
	}
	text := buf.Bytes()
	if resp.StatusCode >= http.StatusBadRequest {
		// It ends in an error of the library's, which may end anywhere.
		for _, s := range v.secrets(resp.Request) {
			text = bytes.ReplaceAll(text, []byte(s), []byte(secretMark))
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// secrets are what a service might repeat of a request.
func (v *service) secrets(req *http.Request) []string {
	out := v.site.cloud.Secrets()
	if token := req.Header.Get("X-Auth-Token"); token != "" {
		out = append(out, token)
	}
	return out
}

// allowance is the time that a service has for an answer.
type allowance struct {
	timer *time.Timer
	until time.Time
}

// off runs what is not the service's fault.
func (a *allowance) off(wait func() error) error {
	if !a.timer.Stop() { // it is over
		return wait()
	}
	began := time.Now()
	err := wait()
	a.until = a.until.Add(time.Since(began))
	a.timer.Reset(time.Until(a.until))
	return err
}

// paced reads a body at the site's and the service's rate.
type paced struct {
	ctx  context.Context
	v    *service
	r    io.Reader
	left *allowance
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:p.v.site.pacer.limit(p.v.pacer.limit(len(b)))])
	p.v.in.Add(int64(n))
	if err == nil && p.v.metered() {
		err = p.left.off(func() error { return p.v.pay(p.ctx, int64(n)) })
	}
	return n, err
}

// fault is a request without an answer that counts.
func (v *service) fault(req *http.Request, err error, attempts int) *Error {
	if errors.Is(err, io.EOF) {
		// To a reader this would be the end of what it reads.
		err = fmt.Errorf("the connection was closed: %w", io.ErrUnexpectedEOF)
	}
	e := &Error{Cloud: v.site.cloud.Name, Service: v.name, Method: req.Method, Path: req.URL.EscapedPath(), Attempts: attempts, err: err}
	e.Said = said(err.Error(), v.secrets(req))
	e.Uncertain = changes(req.Method, req.URL.Path) && !unsent(err) && attempts > 0
	return e
}

// refusal is an answer that is none of those hoped for.
func (v *service) refusal(method, path string, status int, h http.Header, body []byte, token string) *Error {
	e := &Error{Cloud: v.site.cloud.Name, Service: v.name, Method: method, Path: path, Status: status, Attempts: 1}
	e.Said = said(message(body), append(v.site.cloud.Secrets(), token))
	e.After = retryAfter(h, time.Now(), v.site.options.MaxPause)
	e.Uncertain = changes(method, path) && (status >= http.StatusInternalServerError && status != http.StatusNotImplemented || status == http.StatusRequestTimeout)
	if n, err := strconv.Atoi(h.Get(attemptsHeader)); err == nil {
		e.Attempts = n
	}
	// A refusal to look at the last attempt says nothing of those before, and
	// what is taken, or not as was said, may be so by one of them.
	e.Uncertain = e.Uncertain || changes(method, path) && h.Get(maybeHeader) != "" && (throttled(status) || status == http.StatusConflict || status == http.StatusPreconditionFailed)
	return e
}

// explain makes the library's errors ours, and keeps them beneath.
func (s *Session) explain(method, address string, opts *gophercloud.RequestOpts, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	u, parsed := url.Parse(address)
	if parsed != nil {
		u = &url.URL{}
	}
	mark := ""
	if opts != nil {
		mark = opts.MoreHeaders[serviceHeader]
	}
	name, _, _ := s.at(mark, u)
	v, token := s.site.service(name), s.provider.Token()
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		e := v.refusal(method, u.EscapedPath(), code.Actual, code.ResponseHeader, code.Body, token)
		e.err = err
		return e
	}
	e := &Error{Cloud: s.site.cloud.Name, Service: name, Method: method, Path: u.EscapedPath(), Attempts: 1, err: err}
	e.Said = said("an answer that cannot be read: "+err.Error(), append(s.site.cloud.Secrets(), token))
	e.Uncertain = changes(method, u.Path)
	return e
}
