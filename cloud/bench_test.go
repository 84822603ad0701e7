package cloud

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// zeros is a body without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

const copied = 256 << 20 // octets

// shelf gives a body and takes one.
func shelf(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/v3/auth/tokens"):
		w.Header().Set("X-Subject-Token", "t")
		say(w, http.StatusCreated, `{"token":{"expires_at":"2999-01-01T00:00:00Z","project":{"id":"p"},"catalog":[{"type":"image","endpoints":[{"interface":"public","url":"http://`+r.Host+`"}]}]}}`)
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Length", strconv.Itoa(copied))
		_, _ = io.CopyN(w, zeros{}, copied) // the client may be gone
	default:
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != copied {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// BenchmarkCopy is a body from one server to another over loopback, by Resuming
// and Upload, beside net/http with nothing around it.
func BenchmarkCopy(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(shelf))
	b.Cleanup(server.Close)
	b.Run("cloud", func(b *testing.B) {
		c, err := Parse(Source{Name: "dr"}, []byte(strings.Replace(passwordFile, authURL, server.URL, 1)), nil)
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(b.Context(), c, Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		client, err := s.Service("image")
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(copied)
		for b.Loop() {
			r, err := Resuming(b.Context(), func(ctx context.Context, at int64) (*Body, error) {
				return Download(ctx, client, client.ServiceURL("x"), at)
			})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Upload(b.Context(), client, client.ServiceURL("y"), Put{Body: r, Size: r.Total}); err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		b.SetBytes(copied)
		for b.Loop() {
			from, err := client.Get(server.URL + "/x")
			if err != nil {
				b.Fatal(err)
			}
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, server.URL+"/y", from.Body)
			if err != nil {
				b.Fatal(err)
			}
			req.ContentLength = copied
			to, err := client.Do(req)
			if err != nil || to.StatusCode != http.StatusCreated {
				b.Fatal(to, err)
			}
			if err := to.Body.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
