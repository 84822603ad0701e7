package cloud

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"30":                   30 * time.Second,
		" 7 ":                  7 * time.Second,
		"61":                   time.Minute, // the most
		"99999999999999999999": 0,
		"-1":                   0,
		"1.5":                  0,
		"soon":                 0,
		now.Add(9 * time.Second).Format(time.ANSIC):      9 * time.Second,
		now.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
		now.Add(time.Hour).Format(http.TimeFormat):       time.Minute,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now, time.Minute); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestContentRange(t *testing.T) {
	for value, want := range map[string][3]int64{
		"bytes 0-9/10": {0, 9, 10}, "bytes 5-9/*": {5, 9, -1}, "Bytes 5-5/6": {5, 5, 6}, "bytes */10": {-1, -1, 10},
	} {
		first, last, total, ok := contentRange(value)
		if got := [3]int64{first, last, total}; got != want || !ok {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, value := range []string{"bytes */*", "bytes 9-5/10", "bytes 5-10/10", "bytes 5-/10", "bytes -5/10", "bytes +5-9/10", "5-9/10",
		"bytes 5-9", "", "items 5-9/10", "bytes 5-9/99999999999999999999", "bytes 5-9/10/11", "bytes"} {
		if first, last, total, ok := contentRange(value); ok {
			t.Errorf("%q: %d-%d/%d", value, first, last, total)
		}
	}
}

// A wait is never negative nor longer than the most, whatever is written.
func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "Sat, 21 Nov 2026 12:00:00 GMT")
	f.Add("Sat, 21 Nov 2026 12:00:30 GMT", "")
	f.Add("18446744073709551616", "x")
	f.Fuzz(func(t *testing.T, after, date string) {
		h := http.Header{"Retry-After": {after}, "Date": {date}}
		got := retryAfter(h, time.Unix(0, 0), time.Minute)
		if got < 0 || got > time.Minute {
			t.Errorf("%q: %v", after, got)
		}
		if got%time.Second != 0 {
			t.Errorf("%q: %v, and the header has whole seconds", after, got)
		}
	})
}

// What is accepted can be written again and means the same.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Add("bytes */10")
	f.Fuzz(func(t *testing.T, v string) {
		first, last, total, ok := contentRange(v)
		if !ok {
			return
		}
		span, size := "*", "*"
		if first >= 0 {
			span = fmt.Sprintf("%d-%d", first, last)
		}
		if total >= 0 {
			size = fmt.Sprint(total)
		}
		a, b, c, ok := contentRange("bytes " + span + "/" + size)
		if !ok || a != first || b != last || c != total || first > last || total >= 0 && last >= total {
			t.Errorf("%q: %d-%d/%d, then %d-%d/%d", v, first, last, total, a, b, c)
		}
	})
}

// Whatever a service prints as a link, nothing is sent to another host than its
// own, and what changes things is not led elsewhere at all.
func FuzzLink(f *testing.F) {
	f.Add("http://10.0.0.9:9696/v2.0/networks?marker=1")
	f.Add("https://api.example/networking/v2.0/networks/%2e%2e/x")
	f.Add("http://api.example:443@evil.example/v2.0/x")
	p, err := parsePlace("https://api.example/networking/v2.0")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, link string) {
		u, err := url.Parse(link)
		if err != nil {
			return
		}
		to, err := p.lead(http.MethodGet, u)
		if err == nil && (to.Scheme != "https" || !strings.EqualFold(to.Hostname(), "api.example") || to.Port() != "" && to.Port() != "443") {
			t.Errorf("%s leads to %s", link, to)
		}
		if err == nil && to.RawQuery != u.RawQuery {
			t.Errorf("%s asks %s", link, to)
		}
		if to, err := p.lead(http.MethodDelete, u); err == nil && *to != *u {
			t.Errorf("DELETE %s leads to %s", link, to)
		}
	})
}
