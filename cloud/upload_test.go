package cloud

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// stored is a service that keeps what it is sent whole.
type stored struct {
	whole  atomic.Pointer[[]byte]
	length atomic.Int64
}

func (k *stored) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.length.Store(r.ContentLength)
	got, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	k.whole.Store(&got)
	w.Header().Set("Etag", fmt.Sprintf("%x", sha256.Sum256(got)))
	w.WriteHeader(http.StatusCreated)
}

func TestUpload(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 1_000_000} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			var k stored
			f.handle(k.ServeHTTP)
			c, url := images(t, s)
			h, err := Upload(t.Context(), c, url, Put{Body: iotest.HalfReader(bytes.NewReader(content(size))), Size: int64(size),
				Header: http.Header{"content-type": {"application/octet-stream"}}})
			if err != nil || k.whole.Load() == nil || !bytes.Equal(*k.whole.Load(), content(size)) || k.length.Load() != int64(size) {
				t.Fatalf("%d octets: %v", size, err)
			}
			if h.Get("Etag") != fmt.Sprintf("%x", sha256.Sum256(content(size))) {
				t.Errorf("%v", h)
			}
			if st := s.Stats()[1]; st.BytesOut != int64(size) || st.Streams != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A body of another size than was said is never taken for whole.
func TestUploadSize(t *testing.T) {
	for name, test := range map[string]struct {
		body io.Reader
		size int64
		is   error
	}{
		"short":        {bytes.NewReader(content(999)), 1000, ErrSize},
		"long":         {bytes.NewReader(content(1001)), 1000, ErrSize},
		"much longer":  {bytes.NewReader(content(1_000_000)), 1000, ErrSize},
		"not empty":    {bytes.NewReader(content(1)), 0, ErrSize},
		"empty":        {bytes.NewReader(nil), 1000, ErrSize},
		"breaks":       {io.MultiReader(bytes.NewReader(content(400)), iotest.ErrReader(errSource)), 1000, errSource},
		"ends late":    {io.MultiReader(bytes.NewReader(content(1000)), iotest.ErrReader(errSource)), 1000, errSource},
		"other's end":  {io.MultiReader(bytes.NewReader(content(1000)), iotest.ErrReader(&Error{err: io.EOF})), 1000, io.EOF},
		"says nothing": {idle{}, 0, io.ErrNoProgress},
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			var k stored
			f.handle(k.ServeHTTP)
			c, url := images(t, s)
			_, err := Upload(t.Context(), c, url, Put{Body: test.body, Size: test.size})
			if k.whole.Load() != nil || Uncertain(err) || name != "other's end" && !errors.Is(err, test.is) || err == nil {
				t.Errorf("%s: %v, stored %v", name, err, k.whole.Load() != nil)
			}
		})
	}
}

var errSource = errors.New("the source broke")

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// untouched counts what is read of a body.
type untouched struct {
	io.Reader
	n atomic.Int64
}

func (u *untouched) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	u.n.Add(int64(n))
	return n, err
}

// An upload is sent once, whatever is answered; a refusal is heard before the
// body is spent, and what may have been stored is uncertain.
func TestUploadFaults(t *testing.T) {
	const size = 2 << 20
	whole := func(then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			then(w, r)
		}
	}
	part := func(then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			if _, err := io.CopyN(io.Discard, r.Body, size/2); err != nil {
				t.Error(err)
			}
			then(w, r)
		}
	}
	for name, test := range map[string]struct {
		serve     http.HandlerFunc
		status    int
		uncertain bool
		most      int64 // octets that are read of the body
	}{
		"refused":           {faults["403"], 403, false, 0},
		"throttled":         {faults["429"], 429, false, 0},
		"down":              {faults["503"], 503, false, 0},
		"stored, then 500":  {whole(faults["500"]), 500, true, size},
		"stored, no answer": {whole(faults["no answer"]), 0, true, size},
		"stored, silence":   {whole(faults["silence"]), 0, true, size},
		"part, no answer":   {part(faults["no answer"]), 0, false, size},
		"part, silence":     {part(stand), 0, false, size},
		"part, 507":         {part(early(507, "full")), 507, false, size},
		"part, 201":         {part(early(201, "")), 0, true, size},
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			f.handle(test.serve)
			c, url := images(t, s)
			body := &untouched{Reader: bytes.NewReader(content(size))}
			_, err := Upload(t.Context(), c, url, Put{Body: body, Size: size})
			var e *Error
			if !errors.As(err, &e) || e.Status != test.status || e.Uncertain != test.uncertain || e.Sent > body.n.Load() || len(f.requests()) != 1 {
				t.Errorf("%s: %v", name, err)
			}
			if body.n.Load() > test.most {
				t.Errorf("%s: %d octets were spent", name, body.n.Load())
			}
			if st := s.Stats()[1]; st.Streams != 0 || st.InFlight != 0 {
				t.Errorf("%s: %+v", name, st)
			}
		})
	}
}

// early answers, and does not hang up before the client does.
func early(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		say(w, status, text)
		flush(w)
		stand(w, r)
	}
}

// stand reads an octet a second and answers nothing, until the client hangs up.
func stand(_ http.ResponseWriter, r *http.Request) {
	for err := error(nil); err == nil; _, err = r.Body.Read(make([]byte, 1)) {
		time.Sleep(time.Second) // the bubble's
	}
}

// A token that ends soon is renewed before an upload, by the cloud's clock.
func TestUploadRenews(t *testing.T) {
	for name, test := range map[string]struct {
		ahead, lifetime, wait time.Duration
		logins                int
	}{
		"fresh":       {0, time.Hour, 50 * time.Minute, 1},
		"ends soon":   {0, time.Hour, 56 * time.Minute, 2},
		"clock ahead": {3 * time.Hour, time.Hour, 50 * time.Minute, 1},
		"clock late":  {-3 * time.Hour, time.Hour, 56 * time.Minute, 2},
		"ahead, soon": {3 * time.Hour, time.Hour, 56 * time.Minute, 2},
		"late, fresh": {-3 * time.Hour, time.Hour, 50 * time.Minute, 1},
		"short":       {0, 4 * time.Minute, time.Minute, 1},
		"short, late": {0, 4 * time.Minute, 3 * time.Minute, 2},
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, _ *Session) {
			f.set(func() { f.ahead, f.lifetime, f.logins = test.ahead, test.lifetime, nil })
			s, err := f.open(parse(t, passwordFile), Options{})
			if err != nil {
				t.Fatal(err)
			}
			var k stored
			f.handle(k.ServeHTTP)
			c, url := images(t, s)
			time.Sleep(test.wait) // the bubble's
			if _, err := Upload(t.Context(), c, url, Put{Body: strings.NewReader("x"), Size: 1}); err != nil || len(f.loggedIn()) != test.logins {
				t.Errorf("%s: %d logins, %v", name, len(f.loggedIn()), err)
			}
		})
	}
}

// A service that does not know Expect: 100-continue costs a second once.
func TestUploadWithoutContinue(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
		var asked []string
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Header.Get("Expect"))
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.CopyN(io.Discard, rw, r.ContentLength); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		})
		c, url := images(t, s)
		for i, want := range []time.Duration{time.Second, 0} {
			began := time.Now()
			_, err := Upload(t.Context(), c, url, Put{Body: bytes.NewReader(content(expectFrom)), Size: expectFrom})
			if took := time.Since(began); err != nil || took != want {
				t.Errorf("upload %d: %v, after %v", i, err, took)
			}
		}
		if len(asked) != 2 || asked[0] == "" || asked[1] != "" {
			t.Errorf("%q", asked)
		}
	})
}
