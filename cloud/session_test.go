package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	idprojects "github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"
)

func ok(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, body) }
}

func get(t *testing.T, s *Session, kind string, path ...string) error {
	t.Helper()
	c, err := s.Service(kind)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	_, err = c.Get(t.Context(), c.ServiceURL(path...), &out, nil)
	return err
}

func post(ctx context.Context, c *gophercloud.ServiceClient, path string) error {
	_, err := c.Post(ctx, c.ServiceURL(path), map[string]any{"a": 1}, nil, &gophercloud.RequestOpts{OkCodes: []int{200, 201, 202}})
	return err
}

// Each service's requests go where its resources are, whatever the catalog
// calls it and wherever the version stands.
func TestService(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		f.handle(ok("{}"))
		for kind, want := range map[string]string{
			"image":         "GET 127.0.0.1:9292/v2/x",
			"block-storage": "GET 127.0.0.1:8776/v3/own/x",
			"volumev3":      "GET 127.0.0.1:8776/v3/own/x",
			"compute":       "GET 127.0.0.1/compute/v2.1/x",
			"network":       "GET 127.0.0.1:9696/networking/v2.0/x",
			"identity":      "GET 127.0.0.1:5000/identity/v3/x",
		} {
			if err := get(t, s, kind, "x"); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if got := f.requests(); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", kind, got, want)
			}
		}
		if s.Has("object-store") || !s.Has("volumev3") || !s.Has("identity") || s.Has("volumev2") {
			t.Error("has what it has not, or the other way round")
		}
		if _, err := s.Service("dns"); !errors.Is(err, ErrNoService) || !strings.Contains(err.Error(), "dr: dns") {
			t.Errorf("no dns: %v", err)
		}
		if got := s.Services(); !slices.Equal(got, []string{"block-storage", "compute", "image", "network"}) {
			t.Errorf("services %q", got)
		}
		id := s.Identity()
		if id.UserID != "u1" || id.ProjectID != "own" || id.ProjectDomainID != "default" || id.Roles[0] != "admin" || time.Until(id.Expires) != time.Hour {
			t.Errorf("%+v", id)
		}
		if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "canary") {
			t.Error(text)
		}
		if n := len(f.loggedIn()); n != 1 {
			t.Errorf("%d logins", n)
		}
	})
}

func TestCatalog(t *testing.T) {
	for name, test := range map[string]struct {
		catalog []any
		beside  string
		kind    string
		want    string // base, or what the error says
	}{
		"unversioned volumes":  {[]any{endpoint("block-storage", "http://127.0.0.1/volume")}, "", "volumev3", "http://127.0.0.1/volume/v3/own/"},
		"unversioned computes": {[]any{endpoint("compute", "http://127.0.0.1:8774/")}, "", "compute", "http://127.0.0.1:8774/v2.1/"},
		"versioned images":     {[]any{endpoint("image", "http://127.0.0.1/image/v2/")}, "", "image", "http://127.0.0.1/image/v2/"},
		"first name first":     {[]any{endpoint("volume", "http://127.0.0.1/a/v3"), endpoint("volumev3", "http://127.0.0.1/b/v3")}, "", "block-storage", "http://127.0.0.1/b/v3/"},
		"two regions":          {[]any{endpoint("dns", "http://127.0.0.1:1", "public", "a"), endpoint("dns", "http://127.0.0.1:2", "public", "b")}, "", "dns", "region_name"},
		"that region":          {[]any{endpoint("dns", "http://127.0.0.1:1", "public", "a"), endpoint("dns", "http://127.0.0.1:2", "public", "b")}, "region_name: b", "dns", "http://127.0.0.1:2/v2/"},
		"no such region":       {[]any{endpoint("dns", "http://127.0.0.1:1")}, "region_name: b", "dns", "no such service: no public endpoint for region b"},
		"no such interface":    {[]any{endpoint("dns", "http://127.0.0.1:1")}, "interface: admin", "dns", "no admin endpoint"},
		"interface":            {[]any{endpoint("dns", "http://127.0.0.1:1", "internal")}, "interface: internal", "dns", "http://127.0.0.1:1/v2/"},
		"plain":                {[]any{endpoint("dns", "http://d.example")}, "", "dns", "plain http"},
		"override":             {nil, "object_store_endpoint_override: https://o.example/v1/AUTH_%(project_id)s", "object-store", "https://o.example/v1/AUTH_own/"},
		"unknown":              {[]any{endpoint("rca", "http://127.0.0.1:1/x")}, "", "rca", "http://127.0.0.1:1/x/"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.catalog = test.catalog
			text := passwordFile
			if test.beside != "" {
				text += "    " + test.beside + "\n"
			}
			s, err := f.open(parse(t, text), Options{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := s.Service(test.kind)
			got := fmt.Sprint(err)
			if err == nil {
				got = c.ResourceBaseURL()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("%s: %s, want %s", name, got, test.want)
			}
			if errors.Is(err, ErrNoService) != strings.HasPrefix(test.want, "no ") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// What is wrong with a login is said, without what it was made with.
func TestLoginRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		_, err := f.open(parse(t, strings.Replace(passwordFile, canary, canary+"2", 1)), Options{})
		if !Unauthorized(err) || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "dr: identity: POST /identity/v3/auth/tokens: 401 Unauthorized: no, not by") {
			t.Errorf("%v", err)
		}
		var code gophercloud.ErrUnexpectedResponseCode
		if !errors.As(err, &code) || strings.Contains(code.Error(), "canary") || !strings.Contains(code.Error(), "no, not by") {
			t.Errorf("beneath: %v", code)
		}
		for name, answer := range map[string]http.HandlerFunc{
			"not json": func(w http.ResponseWriter, _ *http.Request) { say(w, 201, canary) },
			"no token": func(w http.ResponseWriter, _ *http.Request) { say(w, 201, `{}`) },
			"unscoped": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Subject-Token", "t")
				say(w, 201, `{"token":{}}`)
			},
			"moved": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://127.0.0.2/v3/auth/tokens", http.StatusTemporaryRedirect)
			},
		} {
			f.set(func() { f.login = answer })
			if s, err := f.open(parse(t, passwordFile), Options{}); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("%s: %v %v", name, s, err)
			}
		}
		f.set(func() {
			f.login = func(w http.ResponseWriter, _ *http.Request) { say(w, 503, `<html><b>down</b></html>`) }
		})
		_, err = f.open(parse(t, passwordFile), Options{})
		if _, again := Temporary(err); !again || Uncertain(err) || !strings.Contains(err.Error(), "503 Service Unavailable: down (after 4 attempts)") {
			t.Errorf("%v", err)
		}
	})
}

func TestOpen(t *testing.T) {
	c := parse(t, file(strings.Replace(plainAuth, "https://k.example", "http://127.0.0.1:1", 1), ""))
	_, err := Open(t.Context(), c, Options{Attempts: 1})
	if _, again := Temporary(err); !again || !strings.Contains(err.Error(), "open cloud dr:") {
		t.Errorf("%v", err)
	}
	for name, o := range map[string]Options{
		"rate":    {Rates: []Rate{{From: "1:00"}}},
		"service": {ServiceRates: map[string][]Rate{"image": {{BytesPerSecond: -1}}}},
		"none":    {Concurrency: -1},
	} {
		if _, err := Open(t.Context(), c, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A token that ends is renewed once for all who met its end, and what was
// refused for it is sent again with its body.
func TestTokenEnds(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		var bodies []string
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			b := make([]byte, 100)
			n, _ := r.Body.Read(b) // short
			f.set(func() { bodies = append(bodies, string(b[:n])) })
			say(w, 201, "{}")
		})
		c, err := s.Service("image")
		if err != nil {
			t.Fatal(err)
		}
		f.expire()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := post(t.Context(), c, "images"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(f.loggedIn()); n != 2 {
			t.Errorf("%d logins", n)
		}
		if len(bodies) != 4 || slices.Compact(bodies)[0] != `{"a":1}` {
			t.Errorf("bodies %q", bodies)
		}
		f.set(func() {
			f.login = func(w http.ResponseWriter, _ *http.Request) { say(w, 401, `{"error":{"message":"disabled"}}`) }
		})
		f.expire()
		err = post(t.Context(), c, "images")
		if !Unauthorized(err) || Uncertain(err) {
			t.Errorf("%v", err)
		}
	})
}

func TestAs(t *testing.T) {
	bubble(t, Options{Projects: 2}, func(t *testing.T, f *fake, s *Session) {
		f.handle(ok("{}"))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				p, err := s.As(t.Context(), "p1")
				if err != nil || p.Identity().ProjectID != "p1" {
					t.Errorf("%v, %v", p, err)
				}
			})
		}
		all.Wait()
		p, err := s.As(t.Context(), "p1")
		if err != nil {
			t.Fatal(err)
		}
		if err := get(t, p, "volumev3", "x"); err != nil {
			t.Error(err)
		}
		if got := f.requests(); got[0] != "GET 127.0.0.1:8776/v3/p1/x" {
			t.Errorf("%q", got)
		}
		for _, id := range []string{"own", "p2", "p1", "p3", "p1", "p2"} { // of p1 to p3 two are kept
			if p, err := p.As(t.Context(), id); err != nil || p.Identity().ProjectID != id {
				t.Errorf("%s: %v, %v", id, p, err)
			}
		}
		if got := f.loggedIn(); !slices.Equal(got, []string{"own", "p1", "p2", "p3", "p2"}) {
			t.Errorf("logins %q", got)
		}
		if st := s.Stats(); len(st) != 2 || st[0].Service != "block-storage" || st[0].Requests != 1 || st[1].Requests != 5 {
			t.Errorf("%+v", st)
		}
		f.set(func() { f.login = func(w http.ResponseWriter, _ *http.Request) { say(w, 403, `{}`) } })
		if _, err := s.As(t.Context(), "p9"); !Denied(err) {
			t.Errorf("%v", err)
		}
		f.set(func() { f.login = nil })
		if _, err := s.As(t.Context(), "p9"); err != nil {
			t.Errorf("after a refusal: %v", err)
		}
		if _, err := s.As(t.Context(), ""); err == nil {
			t.Error("as nobody")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s, err := f.open(parse(t, file("auth_url: "+authURL+"\napplication_credential_id: i\napplication_credential_secret: "+canary, "")), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.As(t.Context(), "other"); !errors.Is(err, ErrOneProject) {
			t.Errorf("%v", err)
		}
	})
}

// Who waits for another's login gets his own turn if the other gives up.
func TestAsGivesUp(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		stuck := make(chan struct{})
		first := true
		f.set(func() {
			f.login = func(w http.ResponseWriter, r *http.Request) {
				f.mu.Lock()
				mine := first
				first = false
				f.mu.Unlock()
				if mine {
					<-stuck
					return
				}
				f.token(w, r)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.As(ctx, "p1"); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := s.As(t.Context(), "p1"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(stuck)
		all.Wait()
	})
}

// The cloud's clock is told from ours.
func TestServerTime(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		f.handle(ok("{}"))
		if _, _, known := s.serverTime("image"); known {
			t.Error("known before it was asked")
		}
		f.set(func() { f.ahead = -time.Hour })
		began := time.Now()
		if err := get(t, s, "image", "x"); err != nil {
			t.Fatal(err)
		}
		date, seen, known := s.serverTime("image")
		skew, _ := s.Skew("image")
		if !known || !seen.Equal(began) || skew != -time.Hour || !date.Equal(began.Add(-time.Hour)) {
			t.Errorf("%v, %v, %v", date, seen, skew)
		}
	})
}

// The library's own calls work through the session: pages of projects, and a
// service's root above the base.
func TestLibrary(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/compute/", "/compute/v2.1/":
				say(w, 200, `{"versions":[{"id":"v2.1","status":"CURRENT","version":"2.95","min_version":"2.1","links":[]}]}`)
			default:
				say(w, 200, `{"projects":[{"id":"1","name":"a"}],"links":{"next":null}}`)
			}
		})
		identity, err := s.Service("identity")
		if err != nil {
			t.Fatal(err)
		}
		pages, err := idprojects.List(identity, nil).AllPages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all, err := idprojects.ExtractProjects(pages); err != nil || len(all) != 1 {
			t.Errorf("%v, %v", all, err)
		}
		nova, err := s.Service("compute")
		if err != nil {
			t.Fatal(err)
		}
		versions, err := utils.GetSupportedMicroversions(t.Context(), nova)
		if err != nil || versions.MaxMinor != 95 {
			t.Errorf("%+v, %v", versions, err)
		}
	})
}
