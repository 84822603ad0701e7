package dns

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestHeldAdd(t *testing.T) {
	n := Name{Name: "Shop.example.org."}
	for _, test := range []struct {
		owner, rtype string
		values       []string
		want         string
		foreign      bool
		others       int
	}{
		{"shop.example.org", "A", []string{"192.0.2.2", "192.0.2.1"}, "no epoch A 192.0.2.1,192.0.2.2", false, 0},
		{"shop.example.org.", "AAAA", []string{"2001:DB8:0::1"}, "no epoch AAAA 2001:db8::1", false, 0},
		{"SHOP.example.org.", "CNAME", []string{"WEST.example.net."}, "no epoch CNAME west.example.net.", false, 0},
		{"shop.example.org.", "MX", []string{"10 mail.example.net."}, "no epoch", false, 1},
		{"shop.example.org.", "TXT", []string{`"x"`}, "no epoch", false, 1},
		{"_draas.shop.example.org.", "TXT", []string{`"epoch=1 " "site=dr"`}, "epoch=1 site=dr", false, 0},
		{"_draas.shop.example.org.", "A", []string{"192.0.2.2"}, "no epoch", true, 0},
		{"shop.example.org.", "A", []string{"nonsense"}, "no epoch", true, 0},
		{"shop.example.org.", "A", []string{"192.0.2.1\n$INCLUDE /etc/passwd"}, "no epoch", true, 0},
		{"www.shop.example.org.", "A", []string{"192.0.2.2"}, "no epoch", false, 0},
		{"example.org.", "TXT", []string{`"x"`}, "no epoch", false, 0},
	} {
		var h Held
		h.Add(n, test.owner, test.rtype, test.values)
		if h.text() != test.want || (h.Foreign != nil) != test.foreign || len(h.Others) != test.others {
			t.Errorf("%s %s %q: %q, %v, %v", test.owner, test.rtype, test.values, h.text(), h.Foreign, h.Others)
		}
	}
}

// What a service tells is read as what it is, or refused; never as less.
func FuzzHeld(f *testing.F) {
	for _, v := range []string{`"epoch=7 site=dr"`, `"epoch=7" " site=dr"`, "192.0.2.1", "2001:db8::1", "a.example.", `"\"`, "\x00", "1\n2", ";", "("} {
		f.Add(v)
	}
	n := Name{Name: "shop.example.org."}
	f.Fuzz(func(t *testing.T, v string) {
		var h Held
		h.Add(n, EpochName(n.Name), "TXT", []string{v})
		if h.Foreign == nil && len(h.Epochs) != 1 {
			t.Errorf("%q is %q", v, h.Epochs)
		}
		for _, rtype := range []string{"A", "AAAA", "CNAME"} {
			var h Held
			h.Add(n, n.Name, rtype, []string{v})
			got := h.Records[mdns.StringToType[rtype]]
			if h.Foreign != nil {
				continue
			}
			if len(got) != 1 {
				t.Fatalf("%s %q is %q", rtype, v, got)
			}
			if a, err := netip.ParseAddr(got[0]); rtype != "CNAME" && (err != nil || a.Is4() != (rtype == "A")) {
				t.Errorf("%s %q is %q", rtype, v, got)
			}
		}
	})
}

func TestSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"a\r\n\tb\x1b[31m":        "a b [31m",
		"with canary in it":       "with [secret] in it",
		strings.Repeat("x", 4000): strings.Repeat("x", maxSaid) + "...",
		"\xff":                    "?",
	} {
		if got := Said(text, "canary", ""); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":        0,
		"7":       7 * time.Second,
		"-7":      0,
		"99999":   maxAfter,
		"1e3":     0,
		"nothing": 0,
		now.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second,
		now.Add(-time.Second).Format(http.TimeFormat):    0,
		now.Add(24 * time.Hour).Format(http.TimeFormat):  maxAfter,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestOfStatus(t *testing.T) {
	for status, want := range map[int]error{200: nil, 202: nil, 307: ErrChange, 400: ErrChange, 401: ErrCredentials, 403: ErrPermission,
		404: ErrNoZone, 408: ErrDown, 409: ErrMoved, 413: ErrQuota, 422: ErrChange, 429: ErrThrottled, 500: ErrDown, 503: ErrDown} {
		if got := OfStatus(status); !errors.Is(got, want) {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}

// After these, and no others, nothing of the request comes later.
func TestAnsweredBy(t *testing.T) {
	for _, kind := range []error{ErrCredentials, ErrPermission, ErrThrottled, ErrNoZone, ErrQuota, ErrChange, ErrMoved, ErrBusy} {
		if !answeredBy(fmt.Errorf("x: %w", &ServiceError{Kind: kind})) {
			t.Errorf("%v is taken for no answer", kind)
		}
	}
	for _, err := range []error{&ServiceError{Kind: ErrUnanswered}, &ServiceError{Kind: ErrDown}, errors.New("anything else")} {
		if answeredBy(err) {
			t.Errorf("%v is taken for an answer", err)
		}
	}
}

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(n int, mode os.FileMode) {
		if err := os.WriteFile(file, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		size int
		mode os.FileMode
		good bool
	}{{10, 0o600, true}, {10, 0o640, true}, {10, 0o644, false}, {10, 0o601, false}, {maxSecret, 0o600, true}, {maxSecret + 1, 0o600, false}} {
		write(test.size, test.mode)
		if text, err := ReadSecret(file); (err == nil) != test.good || test.good && len(text) != test.size {
			t.Errorf("%+v: %d octets, %v", test, len(text), err)
		}
	}
}
