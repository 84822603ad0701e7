package cloudtest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// known is one thing that is known of a service.
type known struct {
	service string // Identity, Image and so on: the field of Clients it needs
	name    string
	run     func(f *fact)
}

// allKnown lists all that is known.
func allKnown() []known {
	var all []known
	for service, facts := range map[string]map[string]func(*fact){
		"Identity": identityFacts(), "Image": imageFacts(), "Network": networkFacts(), "Compute": computeFacts(),
		"Block": blockFacts(), "Object": objectFacts(), "DNS": dnsFacts(),
	} {
		for name, run := range facts {
			all = append(all, known{service, name, run})
		}
	}
	return all
}

// Conformance checks every fact of the services that the cloud has, and tells
// how many that were. What the facts make they take away again, but for the
// security groups named default that Neutron makes for their projects.
func Conformance(t *testing.T, admin *Clients) int {
	t.Helper()
	n := 0
	for _, k := range allKnown() {
		if admin.service(k.service) == nil {
			continue
		}
		n++
		t.Run(k.service+"/"+k.name, func(t *testing.T) { k.check(t, admin) })
	}
	t.Logf("conformance: %d facts", n)
	return n
}

// check runs one fact.
func (k known) check(t *testing.T, admin *Clients) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a listing that never ends must end
	defer cancel()
	k.run(&fact{T: t, Clients: admin, ctx: ctx, mark: strings.ToLower(rand.Text()[:8])})
}

func (c *Clients) service(name string) *gophercloud.ServiceClient {
	return map[string]*gophercloud.ServiceClient{"Identity": c.Identity, "Image": c.Image, "Network": c.Network, "Compute": c.Compute,
		"Block": c.Block, "Object": c.Object, "DNS": c.DNS}[name]
}

// fact is a running fact.
type fact struct {
	*testing.T
	*Clients
	ctx  context.Context
	mark string // in every name it gives
}

type object = map[string]any

// name is a name that nothing else has.
func (f *fact) name(s string) string { return "fact-" + f.mark + "-" + s }

// ok ends the fact at an error.
func (f *fact) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// refused wants an error with this status.
func (f *fact) refused(err error, status int) {
	f.Helper()
	if !gophercloud.ResponseCodeIs(err, status) {
		f.Fatalf("got %v, want status %d", err, status)
	}
}

// same compares two values.
func same[V comparable](f *fact, what string, got, want V) {
	f.Helper()
	if got != want {
		f.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// later runs when the fact is over, last first. What is already gone is well.
func (f *fact) later(undo func(ctx context.Context) error) {
	f.Cleanup(func() {
		err := undo(context.Background()) // the test's own context is over
		if err != nil && !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			f.Errorf("clean up: %v", err)
		}
	})
}

// call sends a request that the typed clients cannot express, below the
// service's base, and wants a status.
func (f *fact) call(c *gophercloud.ServiceClient, method, path string, body any, status int) (object, http.Header) {
	f.Helper()
	return f.callWith(c, method, path, body, nil, status)
}

func (f *fact) callWith(c *gophercloud.ServiceClient, method, path string, body any, headers map[string]string, status int) (object, http.Header) {
	f.Helper()
	raw, header := f.raw(c, method, path, body, headers, status)
	var out object
	if len(raw) > 0 && strings.Contains(header.Get("Content-Type"), "json") && raw[0] == '{' {
		f.ok(json.Unmarshal(raw, &out))
	}
	return out, header
}

// raw is call for answers that are no JSON. A body that is a string or a
// reader is sent as it is.
func (f *fact) raw(c *gophercloud.ServiceClient, method, path string, body any, headers map[string]string, status int) ([]byte, http.Header) {
	f.Helper()
	opts := &gophercloud.RequestOpts{OkCodes: []int{status}, MoreHeaders: map[string]string{}, KeepResponseBody: true}
	switch body := body.(type) {
	case nil:
	case string:
		opts.RawBody = strings.NewReader(body)
	case io.Reader:
		opts.RawBody = body
	default:
		opts.JSONBody = body
	}
	for key, value := range headers {
		opts.MoreHeaders[key] = value
	}
	resp, err := c.Request(f.ctx, method, c.ServiceURL(strings.Split(path, "/")...), opts)
	if err != nil {
		f.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	f.ok(err)
	return raw, resp.Header
}

// pages walks a listing and tells how many pages and rows it had.
func (f *fact) pages(p pagination.Pager, rows func(pagination.Page) int) (pages, count int) {
	f.Helper()
	f.ok(p.EachPage(f.ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		pages++
		count += rows(page)
		return true, nil
	}))
	return pages, count
}

// list walks a listing and gives all its rows.
func list[V any](f *fact, p pagination.Pager, extract func(pagination.Page) ([]V, error)) []V {
	f.Helper()
	all, err := p.AllPages(f.ctx)
	f.ok(err)
	rows, err := extract(all)
	f.ok(err)
	return rows
}

func text(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

func inner(o object, key string) object {
	in, _ := o[key].(object)
	return in
}

func items(o object, key string) []any {
	in, _ := o[key].([]any)
	return in
}
