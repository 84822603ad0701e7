package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// content is the same octets at each place.
func content(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7 + i>>8)
	}
	return out
}

func images(t *testing.T, s *Session) (*gophercloud.ServiceClient, string) {
	t.Helper()
	c, err := s.Service("image")
	if err != nil {
		t.Fatal(err)
	}
	return c, c.ServiceURL("images", "x", "file")
}

func readAll(t *testing.T, b io.ReadCloser) []byte {
	t.Helper()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	return got
}

func serveContent(whole []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole))
	}
}

func TestDownload(t *testing.T) {
	whole := content(300_000)
	bubble(t, Options{Streams: 1, MaxAnswer: 1000}, func(t *testing.T, f *fake, s *Session) {
		f.handle(serveContent(whole))
		c, url := images(t, s)
		c.Microversion = "2.1"
		for _, offset := range []int64{0, 1, 299_999} {
			b, err := Download(t.Context(), c, url, offset)
			if err != nil {
				t.Fatal(err)
			}
			if b.Total != 300_000 || b.Offset != offset {
				t.Errorf("from %d: %d of %d", offset, b.Offset, b.Total)
			}
			if st := s.Stats()[1]; st.Streams != 1 || st.InFlight != 0 {
				t.Errorf("%+v", st)
			}
			if got := readAll(t, b); !bytes.Equal(got, whole[offset:]) {
				t.Errorf("from %d: %d octets, others than those", offset, len(got))
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		if st := s.Stats()[1]; st.BytesIn != 300_000+299_999+1 || st.Streams != 0 {
			t.Errorf("%+v", st)
		}
		_, err := Download(t.Context(), c, url, 300_000)
		var e *Error
		if !errors.As(err, &e) || e.Status != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("behind the end: %v", err)
		}
		f.requests()
		f.expire()
		b, err := Download(t.Context(), c, url, 0) // renews the token
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil { // unread
			t.Error(err)
		}
		if n := len(f.requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// Answers that are not what was asked for are no body.
func TestDownloadOfOther(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		header string
		is     error
	}{
		"whole":          {200, "", ErrRangeIgnored},
		"other start":    {206, "bytes 6-8/9", nil},
		"not to the end": {206, "bytes 5-7/10", nil},
		"no range":       {206, "", nil},
		"length":         {206, "bytes 5-9/10", nil}, // the body has 3
		"multipart":      {206, "multipart", nil},
		"gone":           {404, "", nil},
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			f.handle(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Range"); got != "bytes=5-" {
					t.Errorf("range %q", got)
				}
				w.Header().Set("Content-Range", test.header)
				say(w, test.status, "abc")
			})
			c, url := images(t, s)
			b, err := Download(t.Context(), c, url, 5)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || NotFound(err) != (test.status == 404) {
				t.Errorf("%s: %v, %v", name, b, err)
			}
			if st := s.Stats()[1]; st.Streams != 0 {
				t.Errorf("%s: %+v", name, st)
			}
		})
	}
}

// breaking serves so many octets a time, and then each time another fault.
func breaking(t *testing.T, whole []byte, step int) http.HandlerFunc {
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
			var err error
			if from, err = strconv.Atoi(strings.TrimSuffix(v, "-")); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(whole)-1, len(whole)))
		}
		n++
		switch n % 4 {
		case 1:
			w.Header().Del("Content-Range")
			say(w, 503, "")
			return
		case 2:
			hangUp(w)
			return
		}
		w.Header().Set("Etag", "tag")
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)-from))
		w.WriteHeader(map[bool]int{true: 206, false: 200}[from > 0])
		if _, err := w.Write(whole[from:min(from+step, len(whole))]); err != nil || from+step >= len(whole) {
			return
		}
		flush(w)
		if n%4 == 3 {
			hangUp(w)
			return
		}
		gone(r) // stalls
	}
}

// A reading survives whatever breaks its streams, and has each octet once.
func TestResuming(t *testing.T) {
	whole := content(1_000_000)
	bubble(t, Options{StallTimeout: 10 * time.Second}, func(t *testing.T, f *fake, s *Session) {
		f.handle(breaking(t, whole, 70_001))
		c, url := images(t, s)
		r, err := Resuming(t.Context(), func(ctx context.Context, at int64) (*Body, error) { return Download(ctx, c, url, at) })
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r); !bytes.Equal(got, whole) || r.Breaks < 10 || r.Total != 1_000_000 || r.Offset() != r.Total || r.Tag() != "tag" {
			t.Errorf("%d octets, %d breaks", len(got), r.Breaks)
		}
		if st := s.Stats()[1]; st.Streams != 0 || st.BytesIn != 1_000_000 {
			t.Errorf("%+v", st)
		}
	})
}

// What is not the same any more is not read on, and what does not come back is
// given up.
func TestResumingEnds(t *testing.T) {
	whole := content(1000)
	body := func(r io.Reader, at, total int64, tag string) *Body {
		return &Body{ReadCloser: io.NopCloser(r), Offset: at, Total: total, Header: http.Header{"Etag": {tag}}}
	}
	broken := func() io.Reader {
		return io.MultiReader(bytes.NewReader(whole[:400]), iotest.ErrReader(errors.New("reset")))
	}
	gone := &Error{Status: 404}
	down := &Error{Status: 503}
	for name, test := range map[string]struct {
		again func(at int64) (*Body, error)
		is    error
		opens int
	}{
		"other tag":   {func(at int64) (*Body, error) { return body(bytes.NewReader(whole[at:]), at, 1000, "b"), nil }, ErrChanged, 2},
		"other total": {func(at int64) (*Body, error) { return body(bytes.NewReader(whole[at:]), at, 999, "a"), nil }, ErrChanged, 2},
		"other place": {func(int64) (*Body, error) { return body(bytes.NewReader(whole), 0, 1000, "a"), nil }, ErrSize, 2},
		"gone":        {func(int64) (*Body, error) { return nil, gone }, gone, 2},
		"down":        {func(int64) (*Body, error) { return nil, down }, down, 1 + resumeAttempts},
		"no octet":    {func(at int64) (*Body, error) { return body(strings.NewReader(""), at, 1000, "a"), nil }, io.ErrUnexpectedEOF, 1 + resumeAttempts},
		"ignored":     {func(int64) (*Body, error) { return nil, &Error{Status: 0, err: ErrRangeIgnored} }, ErrRangeIgnored, 2},
		"no tag":      {func(at int64) (*Body, error) { return body(bytes.NewReader(whole[at:]), at, -1, ""), nil }, nil, 2},
		"longer":      {func(at int64) (*Body, error) { return body(bytes.NewReader(whole), at, 1000, "a"), nil }, ErrSize, 2},
	} {
		bubble(t, Options{}, func(t *testing.T, _ *fake, _ *Session) {
			opens := 0
			r, err := Resuming(t.Context(), func(_ context.Context, at int64) (*Body, error) {
				if opens++; opens == 1 {
					return body(broken(), 0, 1000, "a"), nil
				}
				if at != 400 {
					t.Errorf("%s: opened at %d", name, at)
				}
				return test.again(at)
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, test.is) || (err == nil) != (test.is == nil) || opens != test.opens || err == nil && !bytes.Equal(got, whole) {
				t.Errorf("%s: %d octets, %d opens, %v", name, len(got), opens, err)
			}
			if _, again := r.Read(make([]byte, 1)); again == nil {
				t.Errorf("%s: read on", name)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := Resuming(t.Context(), func(context.Context, int64) (*Body, error) { return nil, gone }); !NotFound(err) {
		t.Errorf("%v", err)
	}
}

// Streams are at most so many, and do not take the places of requests.
func TestStreams(t *testing.T) {
	bubble(t, Options{Streams: 2, Concurrency: 1}, func(t *testing.T, f *fake, s *Session) {
		f.handle(serveContent(content(100_000)))
		c, url := images(t, s)
		var open []*Body
		for range 2 {
			b, err := Download(t.Context(), c, url, 0)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, b)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Download(ctx, c, url, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third: %v", err)
		}
		f.handle(ok("{}"))
		if err := get(t, s, "image", "x"); err != nil {
			t.Error(err)
		}
		for _, b := range open {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		if st := s.Stats()[1]; st.Streams != 0 {
			t.Errorf("%+v", st)
		}
		if _, err := Download(t.Context(), &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{}}, url, 0); err == nil {
			t.Error("another's client")
		}
		if _, err := Upload(t.Context(), c, url, Put{Size: -1}); err == nil {
			t.Error("no body")
		}
	})
}

// From one cloud to the other, at the rate of the slower, though the source
// breaks.
func TestCopy(t *testing.T) {
	whole := content(1_000_000)
	bubble(t, Options{StallTimeout: 10 * time.Second}, func(t *testing.T, f *fake, s *Session) {
		there := newFake(t)
		d, err := there.open(parse(t, passwordFile), Options{Rates: []Rate{{BytesPerSecond: 100_000}}})
		if err != nil {
			t.Fatal(err)
		}
		var k stored
		f.handle(breaking(t, whole, 300_001))
		there.handle(k.ServeHTTP)
		from, url := images(t, s)
		to, _ := images(t, d)
		began := time.Now()
		r, err := Resuming(t.Context(), func(ctx context.Context, at int64) (*Body, error) { return Download(ctx, from, url, at) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Upload(t.Context(), to, url, Put{Body: r, Size: r.Total}); err != nil || !bytes.Equal(*k.whole.Load(), whole) {
			t.Errorf("%v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 9*time.Second || r.Breaks == 0 {
			t.Errorf("%v, %d breaks", took, r.Breaks)
		}
	})
}
