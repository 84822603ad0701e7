package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// through is a site whose object store's requests and answers are altered on
// their way.
func through(t *testing.T, name string, ask func(*http.Request), alter func(*http.Response)) site {
	t.Helper()
	return throughTo(t, name, "object_store_endpoint_override", "/object-store/v1/AUTH_%(project_id)s", ask, alter)
}

// throughTo is through for the service that is behind a path.
func throughTo(t *testing.T, name, override, path string, ask func(*http.Request), alter func(*http.Response)) site {
	t.Helper()
	fake := fakecloud.New(t, fakecloud.Options{})
	to, err := url.Parse(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // of clients that went
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			ask(r.Out)
		},
		ModifyResponse: func(r *http.Response) error {
			alter(r)
			return nil
		},
	})
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	yaml := strings.Replace(fake.YAML(name), "    interface: public", "    interface: public\n    "+override+": "+server.URL+path, 1)
	return site{openSide(t, name, yaml, Options{Site: name, SegmentAbove: 4000, SegmentSize: 1000}), fake}
}

func object(within, name, content string) syncer.Object {
	o := syncer.Object{Key: syncer.Key{Kind: Object, ID: "source/box/" + name}, Within: syncer.Key{Kind: Container, ID: within},
		Content: syncer.Content{Size: int64(len(content)), Sum: "md5:" + tagged(content)}, Fields: syncer.Fields{"name": name}}
	o.Natural = []any{syncer.Ref{Key: o.Within}, name}
	return o
}

// A service that has something else than what was sent is not believed: the
// object is removed again, a segment is sent again.
func TestServiceAlters(t *testing.T) {
	var put, head atomic.Int64
	west := through(t, "west", func(*http.Request) {}, func(r *http.Response) {
		path := r.Request.URL.Path
		if r.Request.Method == http.MethodPut && strings.Contains(path, segmentsSuffix+"/") && r.StatusCode == http.StatusCreated && put.Add(-1) >= 0 {
			r.Header.Set("Etag", tagged("something else"))
		}
		if r.Request.Method == http.MethodPut && strings.HasSuffix(path, "/obj") && r.Request.Header.Get("Etag") != tagged(random(100)) {
			t.Error("the service was not told the sum")
		}
		if r.Request.Method == http.MethodHead && strings.HasSuffix(path, "/obj") && r.StatusCode == http.StatusOK && head.Add(-1) >= 0 {
			r.Header.Set("Etag", tagged("something else"))
		}
	})
	box := west.session.Identity().ProjectID + "/box"
	west.swiftCall(t, http.MethodPut, box, nil, nil)

	content := random(100)
	head.Store(1)
	if _, err := west.Create(t.Context(), object(box, "obj", content), strings.NewReader(content)); !errors.Is(err, syncer.ErrChanged) {
		t.Errorf("another sum at the service: %v", err)
	}
	west.missing(t, Object, box+"/obj")
	if _, err := west.Create(t.Context(), object(box, "obj", content), strings.NewReader(content)); err != nil {
		t.Errorf("the same sum: %v", err)
	}

	content = random(5_000)
	put.Store(2)
	if _, err := west.Create(t.Context(), object(box, "big", content), ranged(content)); err != nil {
		t.Errorf("two segments with another sum: %v", err)
	}
	if got := west.content(t, box+"/big"); got != content {
		t.Errorf("%d bytes are wrong", differing(got, content))
	}
	put.Store(1000)
	if _, err := west.Create(t.Context(), object(box, "never", content), ranged(content)); !errors.Is(err, errDamaged) {
		t.Errorf("all segments with another sum: %v", err)
	}
	west.missing(t, Object, box+"/never")
}

// ranged is a body in memory of which parts can be read.
type ranged string

func (ranged) Read([]byte) (int, error) { return 0, errors.New("read as a whole") }

// From implements [syncer.Ranged].
func (r ranged) From(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(r[offset:]))), nil
}

// Pages that overlap give each object once, and all of them; and what a listing
// lacks in its midst is missed.
func TestPagesOverlap(t *testing.T) {
	west := through(t, "west", func(*http.Request) {}, func(r *http.Response) {
		if r.Request.URL.Query().Get("marker") != "c" {
			return
		}
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close() // it was read
		var rows []json.RawMessage
		if err == nil {
			err = json.Unmarshal(text, &rows)
		}
		if err != nil || len(rows) != 3 {
			t.Errorf("the page behind c: %s, %v", text, err)
			return
		}
		text = []byte(`[{"name":"a","hash":"x","bytes":1},` + string(rows[0]) + "," + string(rows[1]) + "]")
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Length", strconv.Itoa(len(text)))
	})
	box := west.session.Identity().ProjectID + "/box"
	west.swiftCall(t, http.MethodPut, box, nil, nil)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		west.upload(t, box+"/"+name, name, nil)
	}
	west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: "/box\\?format=json$", Times: 1, What: fakecloud.ShortPage})
	var names []string
	for _, o := range west.all(t, Object, syncer.Key{Kind: Container, ID: box}) {
		_, _, name := split(o.ID)
		names = append(names, name)
	}
	if strings.Join(names, "") != "abcdef" {
		t.Errorf("listed %q", names)
	}
	a, address, err := west.at(box)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		n, count int64
		pages    int
		last     string
		whole    bool
	}{
		{995, 1000, 3, "f", true},
		{995, 1000, 3, "e", false}, // f stands behind it
		{995, 1000, 2, "f", false}, // of one page, and an empty one
		{500, 1000, 3, "f", false}, // too much is missing
		{10_000, 10_110, 4, "f", true},
		{10_000, 10_112, 4, "f", false},
	} {
		if err := a.short(t.Context(), address, c.last, c.n, c.count, c.pages); (err == nil) != c.whole {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A service that does not look at If-Match is found out by its tag.
func TestServiceIgnoresConditions(t *testing.T) {
	var asked atomic.Int64
	east := through(t, "east", func(r *http.Request) {
		if r.Header.Get("If-Match") == `"`+tagged("content")+`"` {
			asked.Add(1)
		}
		r.Header.Del("If-Match")
	}, func(*http.Response) {})
	box := east.session.Identity().ProjectID + "/box"
	east.swiftCall(t, http.MethodPut, box, nil, nil)
	east.upload(t, box+"/obj", "content", nil)
	o := east.get(t, Object, box+"/obj")
	read := func() (string, error) {
		body, err := east.Open(t.Context(), o, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		text, err := io.ReadAll(body)
		return string(text), err
	}
	if text, err := read(); text != "content" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	east.upload(t, box+"/obj", "CONTENT", nil)
	if text, err := read(); text != "" || !errors.Is(err, syncer.ErrChanged) {
		t.Errorf("another content of the same size: %q, %v", text, err)
	}
	if asked.Load() != 2 {
		t.Errorf("%d of 2 requests had the condition", asked.Load())
	}
}
