package cloud

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
)

func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close() // the fault
	}
}

// faults are what a service does to a request.
var faults = map[string]http.HandlerFunc{
	"429": func(w http.ResponseWriter, _ *http.Request) { say(w, 429, `{"overLimit":{"message":"slow down"}}`) },
	"503": func(w http.ResponseWriter, _ *http.Request) { say(w, 503, "") },
	"500": func(w http.ResponseWriter, _ *http.Request) { say(w, 500, `{"computeFault":{"message":"oops"}}`) },
	"501": func(w http.ResponseWriter, _ *http.Request) { say(w, 501, "") },
	"404": func(w http.ResponseWriter, _ *http.Request) {
		say(w, 404, `{"NeutronError":{"message":"no x","type":"N"}}`)
	},
	"403":         func(w http.ResponseWriter, _ *http.Request) { say(w, 403, `{"message":"not you"}`) },
	"409":         func(w http.ResponseWriter, _ *http.Request) { say(w, 409, `taken`) },
	"no answer":   func(w http.ResponseWriter, _ *http.Request) { hangUp(w) },
	"silence":     func(_ http.ResponseWriter, r *http.Request) { gone(r) },
	"slow answer": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200); flush(w); gone(r) },
	"cut short": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"a":`) // then the fault
		flush(w)
		hangUp(w)
	},
	"endless": func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
				return
			}
		}
	},
	"too long": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9999999999999")
		w.WriteHeader(200)
	},
	"no json": func(w http.ResponseWriter, _ *http.Request) { say(w, 200, "<html>") },
	"redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.2/", http.StatusFound)
	},
}

// gone waits until the client has hung up, which a server sees once it has read
// the request.
func gone(r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		<-r.Context().Done()
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() } // the client may be gone

// What is safe is sent again, and nothing else is; what may have been carried
// out is said to be.
func TestFaults(t *testing.T) {
	const all, once = 4, 1
	read := []string{"GET", "HEAD"}
	sure := []string{"GET", "PUT", "DELETE"}
	unsure := []string{"POST", "PATCH"}
	for _, test := range []struct {
		fault     string
		methods   []string
		attempts  int
		uncertain bool
		temporary bool
		is        func(error) bool
	}{
		{"429", append(sure, unsure...), all, false, true, nil},
		{"503", read, all, false, true, nil},
		{"503", []string{"PUT", "DELETE"}, all, true, true, nil},
		{"503", unsure, once, true, true, nil},
		{"500", sure[:1], all, false, true, nil},
		{"500", unsure, once, true, true, nil},
		{"501", sure, once, false, false, nil},
		{"404", append(sure, unsure...), once, false, false, NotFound},
		{"403", append(sure, unsure...), once, false, false, Denied},
		{"409", append(sure, unsure...), once, false, false, Conflict},
		{"no answer", read, all, false, true, nil},
		{"no answer", []string{"PUT", "DELETE"}, all, true, true, nil},
		{"no answer", unsure, once, true, true, nil},
		{"silence", sure[:1], 3, false, true, nil}, // then two minutes are over since the first
		{"silence", unsure, once, true, true, nil},
		{"slow answer", sure[:1], 3, false, true, nil},
		{"cut short", sure[:1], all, false, true, nil},
		{"cut short", unsure, once, true, true, nil},
		{"endless", sure[:1], once, false, false, nil},
		{"endless", unsure, once, true, false, nil},
		{"too long", sure[:1], once, false, false, nil},
		{"no json", sure[:1], once, false, true, nil},
		{"redirect", append(sure, unsure...), once, false, false, nil},
	} {
		for _, method := range test.methods {
			t.Run(test.fault+"/"+method, func(t *testing.T) {
				bubble(t, Options{MaxAnswer: 1 << 20}, func(t *testing.T, f *fake, s *Session) {
					f.handle(faults[test.fault])
					c, err := s.Service("image")
					if err != nil {
						t.Fatal(err)
					}
					opts := &gophercloud.RequestOpts{OkCodes: []int{200}}
					if method != "GET" && method != "HEAD" && method != "DELETE" {
						opts.JSONBody = map[string]any{"a": 1}
					}
					if method != "HEAD" {
						opts.JSONResponse = &map[string]any{}
					}
					_, err = c.Request(t.Context(), method, c.ServiceURL("images", "x"), opts)
					check(t, err, test.attempts, test.uncertain, test.temporary)
					if got := len(f.requests()); got != test.attempts {
						t.Errorf("sent %d times, want %d", got, test.attempts)
					}
					if test.is != nil && !test.is(err) {
						t.Errorf("%v is of another kind", err)
					}
					st := s.Stats()
					if image := st[1]; image.InFlight != 0 || image.Requests != int64(test.attempts) || image.Retries != int64(test.attempts-1) {
						t.Errorf("%+v", image)
					}
				})
			})
		}
	}
}

func check(t *testing.T, err error, attempts int, uncertain, temporary bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v", err, err)
	}
	_, again := Temporary(err)
	if e.Attempts != attempts || Uncertain(err) != uncertain || again != temporary {
		t.Errorf("%d attempts, uncertain %v, temporary %v: %v", e.Attempts, Uncertain(err), again, err)
	}
	if s := err.Error(); strings.Contains(s, "canary") || strings.Contains(s, "\n") || len(s) > 500 || !strings.HasPrefix(s, "dr: image: ") || errors.Is(err, io.EOF) {
		t.Error(s)
	}
}

// A 429 that follows a lost answer proves nothing of that.
func TestUncertainBefore(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		n := 0
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			if n++; n == 1 {
				hangUp(w)
				return
			}
			faults["429"](w, r)
		})
		c, err := s.Service("image")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Put(t.Context(), c.ServiceURL("x"), map[string]any{}, nil, nil)
		check(t, err, 4, true, true)
		f.set(func() { f.refuse = true })
		s.Close()
		check(t, post(t.Context(), c, "x"), 4, false, true) // nothing has left
	})
}

// Nor does a refusal that the lost request itself may have brought about; one
// of another kind stands.
func TestRefusedAfterALostAnswer(t *testing.T) {
	for status, uncertain := range map[int]bool{409: true, 412: true, 403: false, 404: false} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			n := 0
			f.handle(func(w http.ResponseWriter, _ *http.Request) {
				if n++; n == 1 {
					hangUp(w)
					return
				}
				say(w, status, "no")
			})
			c, err := s.Service("image")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Put(t.Context(), c.ServiceURL("x"), map[string]any{}, nil, nil)
			check(t, err, 2, uncertain, false)
		})
	}
}

// What fails once and then does not is not heard of.
func TestRecovers(t *testing.T) {
	for fault, serve := range faults {
		switch fault {
		case "404", "403", "409", "501", "endless", "too long", "no json", "redirect":
			continue
		}
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			n := 0
			f.handle(func(w http.ResponseWriter, r *http.Request) {
				if n++; n == 1 {
					serve(w, r)
					return
				}
				say(w, 200, `{"a":1}`)
			})
			if err := get(t, s, "image", "x"); err != nil || n != 2 {
				t.Errorf("%s: %v after %d requests", fault, err, n)
			}
		})
	}
}

// Links with the service's own scheme, host or path lead back to its endpoint,
// and no token goes anywhere else.
func TestLinks(t *testing.T) {
	const base = "http://127.0.0.1:9696/networking/v2.0/networks"
	for next, want := range map[string]string{
		base + "?marker=1": "GET 127.0.0.1:9696/networking/v2.0/networks?marker=1",
		"https://127.0.0.1:9696/networking/v2.0/networks?marker=1": "GET 127.0.0.1:9696/networking/v2.0/networks?marker=1",
		"http://10.0.0.9:9696/v2.0/networks?marker=1":              "GET 127.0.0.1:9696/networking/v2.0/networks?marker=1",
		"http://neutron.internal/v2.0/networks?marker=%2F":         "GET 127.0.0.1:9696/networking/v2.0/networks?marker=%2F",
		"http://127.0.0.1:9696/v2.0/networks?marker=1":             "GET 127.0.0.1:9696/networking/v2.0/networks?marker=1",
		"http://evil.example/collect":                              "",
		"http://evil.example/":                                     "",
		"http://user:x@evil.example/v2.0/networks":                 "",
		"http://127.0.0.1:9697/other":                              "",
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			n := 0
			f.handle(func(w http.ResponseWriter, _ *http.Request) {
				if n++; n > 1 {
					say(w, 200, `{"networks":[{"id":"b"}]}`)
					return
				}
				say(w, 200, fmt.Sprintf(`{"networks":[{"id":"a"}],"networks_links":[{"rel":"next","href":%q}]}`, next))
			})
			c, err := s.Service("network")
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			pages, err := networks.List(c, nil).AllPages(t.Context())
			if err == nil {
				all, failed := networks.ExtractNetworks(pages)
				seen, err = len(all), failed
			}
			got := f.requests()
			if want == "" {
				if !errors.Is(err, ErrForeign) || len(got) != 1 || Uncertain(err) {
					t.Errorf("%s: %v, %q", next, err, got)
				}
				if _, again := Temporary(err); again {
					t.Errorf("%s: temporary", next)
				}
				return
			}
			if err != nil || seen != 2 || len(got) != 2 || got[1] != want {
				t.Errorf("%s: %v, %d networks, %q", next, err, seen, got)
			}
		})
	}
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		c, err := s.Service("network")
		if err != nil {
			t.Fatal(err)
		}
		// What changes something is not led anywhere else.
		if _, err := c.Delete(t.Context(), "http://10.0.0.9:9696/v2.0/networks/x", nil); !errors.Is(err, ErrForeign) {
			t.Errorf("%v", err)
		}
		if got := f.requests(); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
}

// The library alone uploads an empty body after a 401 and reports success; its
// upload by our client is refused before anything is sent.
func TestLibraryUploadsNothing(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		var got []int64
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err == nil {
				f.set(func() { got = append(got, n) })
			}
			w.WriteHeader(204)
		})
		c, err := s.Service("image")
		if err != nil {
			t.Fatal(err)
		}
		provider, err := openstack.NewClient(authURL)
		if err != nil {
			t.Fatal(err)
		}
		provider.HTTPClient = http.Client{Transport: s.site.transport}
		auth := s.Cloud().Auth()
		if err := openstack.AuthenticateV3(t.Context(), provider, &auth, gophercloud.EndpointOpts{}); err != nil {
			t.Fatal(err)
		}
		bare := gophercloud.ServiceClient{ProviderClient: provider, Endpoint: c.Endpoint, ResourceBase: c.ResourceBase}
		f.expire()
		content := func() io.Reader { return io.MultiReader(strings.NewReader("content")) }
		err = imagedata.Upload(t.Context(), &bare, "x", content()).ExtractErr()
		if err != nil || len(got) != 1 || got[0] != 0 {
			t.Errorf("the library is better than it was: %v, %d", err, got)
		}
		f.requests()
		got = nil
		f.expire()
		err = imagedata.Upload(t.Context(), c, "x", content()).ExtractErr()
		if _, again := Temporary(err); !errors.Is(err, ErrStream) || again || Uncertain(err) || len(f.requests()) != 0 {
			t.Errorf("ours: %v", err)
		}
		f.expire()
		_, err = Upload(t.Context(), c, c.ServiceURL("images", "x", "file"), Put{Body: content(), Size: 7})
		if !Unauthorized(err) || len(got) != 0 {
			t.Errorf("ours: %v, %d", err, got)
		}
		if _, err = Upload(t.Context(), c, c.ServiceURL("images", "x", "file"), Put{Body: content(), Size: 7}); err != nil || len(got) != 1 || got[0] != 7 {
			t.Errorf("ours, with a new token: %v, %d", err, got)
		}
		// A body that can be read twice is.
		f.expire()
		if err = imagedata.Upload(t.Context(), c, "x", strings.NewReader("again")).ExtractErr(); err != nil || got[len(got)-1] != 5 {
			t.Errorf("%v, %d", err, got)
		}
	})
}
