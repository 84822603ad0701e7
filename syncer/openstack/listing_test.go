package openstack

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// answer replaces what a service has said.
func answer(r *http.Response, status int, text string) {
	_ = r.Body.Close() // not wanted
	r.StatusCode, r.Status = status, http.StatusText(status)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
}

// listed gives a listing's ids, or why it is none.
func (s site) listed(t *testing.T, kind syncer.Kind, within syncer.Key) (ids []string, err error) {
	t.Helper()
	l, err := s.List(t.Context(), kind, within, func(o syncer.Object) error {
		ids = append(ids, o.ID)
		return nil
	})
	if err == nil && !l.Complete {
		t.Errorf("%s: not complete, and no error", kind)
	}
	return ids, err
}

// A Keystone with a list_limit says that it has left something out, and gives no
// link to it.
func TestListingThatSaysItIsCut(t *testing.T) {
	cut := false
	east := throughTo(t, "east", "identity_endpoint_override", "/identity/v3", func(*http.Request) {}, func(r *http.Response) {
		if !cut || !strings.HasSuffix(r.Request.URL.Path, "/users") {
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		answer(r, r.StatusCode, string(bytes.TrimSuffix(bytes.TrimSpace(text), []byte("}")))+`,"truncated":true}`)
	})
	if ids, err := east.listed(t, User, syncer.Key{}); err != nil || len(ids) == 0 {
		t.Errorf("%d users, %v", len(ids), err)
	}
	cut = true
	if _, err := east.listed(t, User, syncer.Key{}); err == nil || !strings.Contains(err.Error(), "cut the listing off") {
		t.Errorf("cut: %v", err)
	}
}

// The counter of a container in shards may be behind its listing, which goes on
// to its end.
func TestCounterBehindTheListing(t *testing.T) {
	west := through(t, "west", func(*http.Request) {}, func(r *http.Response) {
		if r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, "/box") {
			r.Header.Set(objectCount, "2")
		}
	})
	box := west.session.Identity().ProjectID + "/box"
	west.swiftCall(t, http.MethodPut, box, nil, nil)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		west.upload(t, box+"/"+name, name, nil)
	}
	west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: "/box\\?format=json$", Times: 1, What: fakecloud.ShortPage})
	if ids, err := west.listed(t, Object, syncer.Key{Kind: Container, ID: box}); err != nil || len(ids) != 6 {
		t.Errorf("%q, %v", ids, err)
	}
}

// "Not found" of an account, or of a container that was listed, is the object
// store's to say: a proxy in front of it that leads nowhere says it too.
func TestNotFoundByAProxy(t *testing.T) {
	missing, proxy := "", false
	west := through(t, "west", func(*http.Request) {}, func(r *http.Response) {
		if missing == "" || !strings.HasSuffix(r.Request.URL.Path, missing) {
			return
		}
		if proxy {
			r.Header.Del("X-Openstack-Request-Id")
			r.Header.Del("X-Trans-Id")
		}
		answer(r, http.StatusNotFound, "<html>nothing here</html>")
	})
	project := west.session.Identity().ProjectID
	west.swiftCall(t, http.MethodPut, project+"/box", nil, nil)
	within := syncer.Key{Kind: Project, ID: project}
	for _, missing = range []string{"AUTH_" + project, "/box"} {
		for _, proxy = range []bool{false, true} {
			if ids, err := west.listed(t, Container, within); len(ids) != 0 || (err != nil) != proxy {
				t.Errorf("%s, by a proxy %t: %q, %v", missing, proxy, ids, err)
			}
		}
	}
}

// What an account has of its own is named for each project, by its keys, and
// keeps nothing else from being carried.
func TestMetadataOfAccountsIsNamed(t *testing.T) {
	east, west, in := twoBoxes(t, "content")
	project, _, _ := strings.Cut(in, "/")
	for _, s := range []site{east, west} {
		for _, p := range s.all(t, Project, syncer.Key{}) {
			if p.Name != "acme" && p.Stance != syncer.Given {
				continue
			}
			a, err := s.account(p.ID)
			if err == nil {
				_, err = a.ask(t.Context(), http.MethodPost, a.base, map[string]string{accountMeta + "Temp-Url-Key": "secret", accountMeta + "Quota-Bytes": "1000"})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	e := engine(t, east, west, onlyObjects)
	p, err := e.Plan(t.Context(), syncer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, c := range p.Changes {
		if c.Verb != syncer.Unsupported {
			continue
		}
		if named = append(named, c.Name); c.Reason != "the metadata of the account is not carried: quota-bytes, temp-url-key" {
			t.Errorf("%s: %s", c.Name, c.Reason)
		}
		if c.Name == "acme/account" && c.Key != (syncer.Key{Kind: Container, ID: project + "/"}) {
			t.Errorf("it is named as %s", c.Key)
		}
	}
	if !slices.Contains(named, "acme/account") || slices.Contains(named, "service/account") {
		t.Errorf("named are %q", named)
	}
	for range 2 {
		if r := run(t, e, syncer.Options{}, syncer.Unsupported); r.Outcome() != syncer.Clean {
			t.Errorf("outcome %d", r.Outcome())
		}
		alike(t, east, west, in, "content")
	}
}

// Filters go by names that begin with the project's: they are those of now, and
// of all projects.
func TestNamesOfProjectsAreWhole(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{})
	names := func() (all []string) {
		for _, o := range east.all(t, Network, syncer.Key{}) {
			all = append(all, o.Name)
		}
		slices.Sort(all)
		return all
	}
	made := func(project string) {
		id := east.make(t, identity, "projects", "project", row{"name": project})
		east.make(t, neutron, "networks", "network", row{"name": "net", "project_id": id})
	}
	made("a")
	stop := errors.New("enough")
	if _, err := east.List(t.Context(), Project, syncer.Key{}, func(syncer.Object) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, []string{"a/net"}) {
		t.Errorf("after a listing that was broken off: %q", got)
	}
	made("b")
	if _, err := east.Kinds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, []string{"a/net", "b/net"}) {
		t.Errorf("in the next run: %q", got)
	}
}
