package fakecloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// route says how a request is treated before its handler sees it.
type route struct {
	service string
	pattern string // as counted, e.g. "/v2.0/networks/{id}"
	open    bool   // needs no token
	stream  bool   // the handler reads the body itself and takes the lock itself
}

// request is one request on its way through the cloud.
type request struct {
	*Cloud
	route
	w     http.ResponseWriter
	r     *http.Request
	n     uint64 // its number
	token *token
	raw   []byte // the body, unless the route streams
	page  *hit   // a fault that bends the listing
}

// handler answers a request. Unless its route streams it holds the lock.
type handler func(q *request) (reply, error)

// reply is an answer. A body that is not nil is sent as JSON; raw as it is.
type reply struct {
	status int
	header http.Header
	body   any
	raw    []byte
	data   *payload // answers with bytes of an image or object
}

// apiError is an answer that tells why not; each service words it its own way.
type apiError struct {
	status int
	kind   string // Neutron's and Designate's name of the error
	text   string
}

func (e *apiError) Error() string { return e.text }

func failed(status int, format string, args ...any) error {
	return &apiError{status: status, text: fmt.Sprintf(format, args...)}
}

func failedAs(status int, kind, format string, args ...any) error {
	return &apiError{status: status, kind: kind, text: fmt.Sprintf(format, args...)}
}

// on registers a handler. pattern is "METHOD /path" below the prefix.
func (c *Cloud) on(service, prefix, method, pattern string, h handler) {
	c.onRoute(route{service: service, pattern: pattern}, prefix, method, h)
}

func (c *Cloud) onRoute(rt route, prefix, method string, h handler) {
	c.mux.HandleFunc(method+" "+prefix+rt.pattern, func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, rt, h)
	})
}

// bodyLimit bounds bodies that are not image or object data.
const bodyLimit = 16 << 20

// serve counts, spoils, checks, handles and answers one request.
func (c *Cloud) serve(w http.ResponseWriter, r *http.Request, rt route, h handler) {
	q := &request{Cloud: c, route: rt, w: w, r: r}
	if _, byHand := r.Context().Value(handKey{}).(Hand); byHand {
		q.serveHand(h)
		return
	}
	w.Header().Set("X-Openstack-Request-Id", "req-"+strconv.FormatUint(c.count(q), 10))
	f := c.faults.match(q)
	if !q.pause(c.latency()) || !f.begin(q) {
		return
	}
	if !rt.stream {
		raw, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit))
		if err != nil {
			panic(http.ErrAbortHandler) // the client left
		}
		q.raw = raw
	}
	out := q.handle(h)
	if f.instead(q, out) {
		return
	}
	q.write(out, f)
}

// serveHand does what serve does, for a Hand.
func (q *request) serveHand(h handler) {
	q.raw, _ = io.ReadAll(q.r.Body) // it is a buffer
	q.r.Body = io.NopCloser(bytes.NewReader(q.raw))
	q.write(q.handle(h), nil)
}

func (c *Cloud) latency() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opts.Latency
}

// pause waits, and tells false when the cloud or the client went meanwhile.
func (q *request) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.r.Context().Done():
	case <-q.dead():
	}
	return false
}

func (q *request) dead() <-chan struct{} {
	down, _ := q.r.Context().Value(downKey{}).(chan struct{})
	return down
}

// newestMicro is the minor number of the newest microversion spoken (Zed).
var newestMicro = map[string]int{Compute: 93, BlockStorage: 70}

// handle runs the handler under the lock and encodes what it says before the
// lock is gone: answers hold live rows.
func (q *request) handle(h handler) reply {
	if q.stream {
		if err := q.authenticate(); err != nil {
			return q.explain(err)
		}
		out, err := h(q)
		return q.settle(out, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.authenticated()
	if most := newestMicro[q.service]; err == nil && most > 0 && q.micro() > most {
		err = failed(http.StatusNotAcceptable, "Version %d is not supported by the API.", q.micro())
	}
	if err != nil {
		return q.explain(err)
	}
	out, err := h(q)
	return q.settle(out, err)
}

func (q *request) settle(out reply, err error) reply {
	if err != nil {
		return q.explain(err)
	}
	if out.body != nil {
		out.raw = encode(out.body)
		out.body = nil
		out.set("Content-Type", "application/json")
	}
	return out
}

func (out *reply) set(key, value string) {
	if out.header == nil {
		out.header = http.Header{}
	}
	out.header.Set(key, value)
}

// explain words an error as the request's service does.
func (q *request) explain(err error) reply {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, text: err.Error()}
	}
	out := reply{status: e.status}
	out.set("Content-Type", "application/json")
	title := http.StatusText(e.status)
	switch q.service {
	case Network:
		out.raw = encode(map[string]any{"NeutronError": map[string]any{"type": e.kind, "message": e.text, "detail": ""}})
	case Compute, BlockStorage:
		out.raw = encode(map[string]any{novaWord(e.status): map[string]any{"code": e.status, "message": e.text}})
	case DNS:
		out.raw = encode(map[string]any{"code": e.status, "type": e.kind, "message": e.text, "request_id": q.w.Header().Get("X-Openstack-Request-Id")})
	case Image, ObjectStore:
		out.set("Content-Type", "text/html; charset=UTF-8")
		out.raw = fmt.Appendf(nil, "<html><h1>%s</h1><p>%s</p></html>", title, html.EscapeString(e.text))
	default:
		out.raw = encode(map[string]any{"error": map[string]any{"code": e.status, "message": e.text, "title": title}})
	}
	if e.status == http.StatusUnauthorized {
		out.set("WWW-Authenticate", `Keystone uri="http://`+q.addr+`/identity"`)
	}
	return out
}

func novaWord(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "badRequest"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "itemNotFound"
	case http.StatusConflict:
		return "conflictingRequest"
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return "overLimit"
	}
	return "computeFault"
}

// write sends an answer, or as much of it as a fault lets through.
func (q *request) write(out reply, f *hit) {
	h := q.w.Header()
	for key, values := range out.header {
		h[key] = values
	}
	if out.data != nil {
		out.data.send(q, out.status, f)
		return
	}
	if out.status == http.StatusNoContent || out.status == http.StatusNotModified {
		q.w.WriteHeader(out.status)
		return
	}
	if h.Get("Content-Length") == "" {
		h.Set("Content-Length", strconv.Itoa(len(out.raw)))
	}
	q.w.WriteHeader(out.status)
	if q.r.Method == http.MethodHead {
		return
	}
	f.through(q, bytes.NewReader(out.raw), int64(len(out.raw)))
}

// input decodes the body, or that part of it which stands under a key.
func (q *request) input(key string) (fields, error) {
	var all fields
	d := json.NewDecoder(bytes.NewReader(q.raw))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Malformed request body: %v", err)
	}
	normal(all)
	if key == "" {
		return all, nil
	}
	in, ok := all[key].(fields)
	if !ok {
		return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Unable to find '%s' in request body", key)
	}
	return in, nil
}

// id is the wildcard {id} of the path.
func (q *request) id() string { return q.r.PathValue("id") }

func (q *request) query() url.Values { return q.r.URL.Query() }

// self is the URL by which the client came, without its query.
func (q *request) self() string { return "http://" + q.addr + q.r.URL.EscapedPath() }

func ok(body any) (reply, error)      { return reply{status: http.StatusOK, body: body}, nil }
func created(body any) (reply, error) { return reply{status: http.StatusCreated, body: body}, nil }
func gone() (reply, error)            { return reply{status: http.StatusNoContent}, nil }
