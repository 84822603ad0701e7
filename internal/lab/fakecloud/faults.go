package fakecloud

import (
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a fault does to the requests it meets.
type What int

const (
	// Answer replies with Status instead of the service.
	Answer What = iota
	// Drop closes the connection without an answer.
	Drop
	// Stall stops reading the request, or sending the answer, until Delay is
	// over or the cloud dies; then it drops the connection.
	Stall
	// Pass changes nothing beside Delay and Do.
	Pass
	// ShortPage lists the first half of what should be listed, and no more.
	ShortPage
	// EmptyPage lists nothing.
	EmptyPage
	// RepeatPage lists the page before the one that was asked for again.
	RepeatPage
	// SkipPage leaves out the page that was asked for: the one after it comes.
	SkipPage
	// WrongScheme makes next links https, as a cloud behind a proxy does.
	WrongScheme
	// WrongHost makes next links point at another host.
	WrongHost
)

// Fault is a rule for requests to fail by. Requests are matched by service,
// method and path; of those it takes all, or the ones that Nth and Every
// choose, at most Times of them.
type Fault struct {
	Service string // a service type; empty for any
	Method  string // empty for any
	Path    string // a regular expression for the path with its query; empty for any

	Nth   int // only the n-th match, from 1
	Every int // every n-th match
	Times int // at most so often; 0 is no bound

	What       What
	Status     int           // for Answer
	RetryAfter string        // header of that answer
	Delay      time.Duration // before anything else; for Stall the length of it
	Do         func()        // called when the fault strikes, without any lock

	// Late strikes after the request was carried out: the change is made, its
	// answer lost or replaced.
	Late bool
	// Upload strikes when so many bytes of the request's body were read.
	// Only for routes that stream (data of images and objects).
	Upload int64
	// Download strikes when so many bytes of the answer's body were sent.
	// Its length was announced whole.
	Download int64
}

// Injected is a fault in force.
type Injected struct {
	book *faultBook
	rule *rule
}

type rule struct {
	Fault
	path *regexp.Regexp
	seen int
	hits int
}

// faultBook holds the faults and hooks of a cloud.
type faultBook struct {
	mu    sync.Mutex
	rules []*rule
	hooks []*hook
}

type hook struct{ f func(Request) }

// Inject puts a fault in force. It panics when the path is no regular expression.
func (c *Cloud) Inject(f Fault) *Injected {
	r := &rule{Fault: f}
	if f.Path != "" {
		r.path = regexp.MustCompile(f.Path)
	}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.rules = append(c.faults.rules, r)
	return &Injected{book: &c.faults, rule: r}
}

// Hits is how often the fault struck.
func (i *Injected) Hits() int {
	i.book.mu.Lock()
	defer i.book.mu.Unlock()
	return i.rule.hits
}

// Remove ends the fault.
func (i *Injected) Remove() {
	i.book.mu.Lock()
	defer i.book.mu.Unlock()
	i.book.rules = slices.DeleteFunc(i.book.rules, func(r *rule) bool { return r == i.rule })
}

// Heal ends all faults.
func (c *Cloud) Heal() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.rules = nil
}

// OnRequest calls f at each request before it is handled; no lock is held,
// so it may change the cloud. The function it gives ends that.
func (c *Cloud) OnRequest(f func(Request)) (stop func()) {
	h := &hook{f}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.hooks = append(c.faults.hooks, h)
	return func() {
		c.faults.mu.Lock()
		defer c.faults.mu.Unlock()
		c.faults.hooks = slices.DeleteFunc(c.faults.hooks, func(other *hook) bool { return other == h })
	}
}

// hit is a fault that strikes one request. Its methods work on nil: no fault.
type hit struct {
	Fault
}

// match calls the hooks and draws the fault for a request, if there is one:
// the first rule that strikes.
func (b *faultBook) match(q *request) *hit {
	b.mu.Lock()
	hooks := slices.Clone(b.hooks)
	var found *hit
	if len(b.rules) > 0 {
		target := q.r.URL.EscapedPath()
		if q.r.URL.RawQuery != "" {
			target += "?" + q.r.URL.RawQuery
		}
		for _, r := range b.rules {
			if r.strikes(q, target) {
				found = &hit{r.Fault}
				break
			}
		}
	}
	b.mu.Unlock()
	if len(hooks) > 0 {
		seen := q.describe()
		for _, h := range hooks {
			h.f(seen)
		}
	}
	if found != nil && found.What >= ShortPage {
		q.page = found
	}
	return found
}

func (r *rule) strikes(q *request, target string) bool {
	if r.Service != "" && r.Service != q.service || r.Method != "" && r.Method != q.r.Method {
		return false
	}
	if r.path != nil && !r.path.MatchString(target) {
		return false
	}
	r.seen++
	switch {
	case r.Times > 0 && r.hits >= r.Times,
		r.Nth > 0 && r.seen != r.Nth,
		r.Every > 0 && r.seen%r.Every != 0:
		return false
	}
	r.hits++
	return true
}

// breaks tells whether the fault ends the exchange by itself.
func (f *hit) breaks() bool { return f != nil && f.What <= Stall }

// begin does what a fault does before the request is handled; it tells false
// when nothing is left to handle.
func (f *hit) begin(q *request) bool {
	if f == nil {
		return true
	}
	if f.What != Stall && !q.pause(f.Delay) {
		return false
	}
	if f.Upload > 0 {
		q.r.Body = &brokenBody{ReadCloser: q.r.Body, left: f.Upload, f: f, q: q}
		return true
	}
	if f.Download > 0 || f.Late {
		return true
	}
	f.do()
	if f.breaks() {
		f.strike(q)
		return false
	}
	return true
}

func (f *hit) do() {
	if f.Do != nil {
		f.Do()
	}
}

// strike ends an exchange whose answer has not begun.
func (f *hit) strike(q *request) {
	switch f.What {
	case Answer:
		out := q.explain(failed(f.Status, "%s", http.StatusText(f.Status)))
		if f.RetryAfter != "" {
			out.set("Retry-After", f.RetryAfter)
		}
		q.write(out, nil)
	case Stall:
		q.pause(f.Delay)
		cutOff(q.w)
	default:
		cutOff(q.w)
	}
}

// instead does what a late fault does once the request is carried out, and
// what one does that struck in the midst of an upload.
func (f *hit) instead(q *request, out reply) bool {
	if body, ok := q.r.Body.(*brokenBody); ok && body.struck {
		f.strike(q)
		return true
	}
	if f == nil || !f.Late {
		return false
	}
	if out.data != nil {
		out.data.close()
	}
	f.do()
	if f.breaks() {
		f.strike(q)
		return true
	}
	return false
}

// through copies an answer's body, broken where the fault says.
func (f *hit) through(q *request, from io.Reader, size int64) {
	if f == nil || f.Download <= 0 || f.Download >= size {
		_, _ = io.Copy(q.w, from) // a client that left is no fault of ours
		return
	}
	_, _ = io.CopyN(q.w, from, f.Download)
	_ = http.NewResponseController(q.w).Flush()
	f.do()
	switch f.What {
	case Pass:
		_, _ = io.Copy(q.w, from)
		return
	case Stall:
		q.pause(f.Delay)
	}
	panic(http.ErrAbortHandler)
}

var errStruck = errors.New("the fault in mid-upload")

// brokenBody is a request's body that breaks after some bytes.
type brokenBody struct {
	io.ReadCloser
	left   int64
	f      *hit
	q      *request
	done   bool
	struck bool
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.struck {
		return 0, errStruck
	}
	if b.left > 0 {
		n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		return n, err
	}
	if !b.done {
		b.done = true
		b.f.do()
		if b.f.breaks() {
			b.struck = true
			return 0, errStruck
		}
	}
	return b.ReadCloser.Read(p)
}

// cutOff resets the connection, as a process that dies or a firewall does.
func cutOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the client would see a tidy end
	}
	_ = conn.Close()
}

// bend moves the bounds of a page as a fault says; size is the rows of a page.
func (q *request) bend(from, to, size, rows int) (int, int) {
	if q.page == nil {
		return from, to
	}
	switch q.page.What {
	case ShortPage:
		return from, from + (to-from)/2
	case EmptyPage:
		return from, from
	case RepeatPage:
		from = max(0, from-size)
		return from, min(from+size, rows)
	case SkipPage:
		from = min(from+size, rows)
		return from, min(from+size, rows)
	}
	return from, to
}

// cutShort tells that a listing ends here, whatever is left.
func (q *request) cutShort() bool {
	return q.page != nil && (q.page.What == ShortPage || q.page.What == EmptyPage)
}

// bendLink falsifies a next link.
func (f *hit) bendLink(link string) string {
	switch f.What {
	case WrongScheme:
		return "https://" + strings.TrimPrefix(link, "http://")
	case WrongHost:
		_, path, _ := strings.Cut(strings.TrimPrefix(link, "http://"), "/")
		return "http://cloud.invalid/" + path
	}
	return link
}
