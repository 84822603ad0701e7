package dyndns2

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]answer{
		"good 203.0.113.20":                    {"good", addrs("203.0.113.20")},
		"good 203.0.113.20\r\n":                {"good", addrs("203.0.113.20")},
		"good 203.0.113.20,2001:db8::20":       {"good", addrs("203.0.113.20", "2001:db8::20")},
		"nochg 203.0.113.20, 2001:db8::20\n\n": {"nochg", addrs("203.0.113.20", "2001:db8::20")},
		"nochg ::ffff:203.0.113.20":            {"nochg", addrs("203.0.113.20")},
		"good":                                 {"good", nil},
		"good in force now":                    {"good", nil},
		"\tbadauth ":                           {"badauth", nil},
		"911":                                  {"911", nil},
		"!donator":                             {"!donator", nil},
	} {
		if got, err := parseAnswer([]byte(body)); err != nil || got.code != want.code || !slices.Equal(got.addresses, want.addresses) {
			t.Errorf("%q: %+v, %v, want %+v", body, got, err, want)
		}
	}
	for _, body := range []string{"", "\n", "good a\ngood b", "good\rgood", "Good", "<html>", "badauth twice", "seventeen-letters", strings.Repeat("a", 17), strings.Repeat(" ", maxAnswer+1)} {
		if got, err := parseAnswer([]byte(body)); err == nil {
			t.Errorf("%q: %+v", body, got)
		}
	}
}

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Credentials{
		"ada:pass":           {user: "ada", password: "pass"},
		"ada:pa:ss\n":        {user: "ada", password: "pa:ss"},
		"ada\npass\r\n":      {user: "ada", password: "pass"},
		"\nada\n\npa:ss \n":  {user: "ada", password: "pa:ss "},
		"a@example.org:ü½ -": {user: "a@example.org", password: "ü½ -"},
	} {
		if got, err := ParseCredentials([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, body := range []string{"good 203.0.113.20,2001:db8::20", "nochg 203.0.113.20\r\n", "badauth", "911", "!donator", "good\ngood", "<html>", "good ::1%eth0"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		success := a.code == codeGood || a.code == codeNoChange
		switch {
		case len(body) > maxAnswer, bytes.ContainsAny(bytes.TrimSpace(body), "\n\r"):
			t.Errorf("%q is one answer", body)
		case !bytes.HasPrefix(bytes.TrimSpace(body), []byte(a.code)):
			t.Errorf("%q: code %q", body, a.code)
		case !success && (!plain(a.code) || a.addresses != nil):
			t.Errorf("%q: %+v", body, a)
		}
		for _, addr := range a.addresses {
			if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
				t.Errorf("%q: address %v", body, addr)
			}
		}
		if other, ok := a.other(a.addresses); ok {
			t.Errorf("%v is another than itself", other)
		}
		_, ok := a.other([]netip.Addr{})
		if ok != (len(a.addresses) > 0) {
			t.Errorf("%q: other = %v", body, ok)
		}
	})
}

func FuzzCredentials(f *testing.F) {
	for _, text := range []string{"ada:pass", "ada\npass\r\n", ":", "ada:", "a\nb\nc", "a:b\nc", "ada:pa\x00ss"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCredentials(text)
		if err != nil {
			// Of a text this long a part would be seen.
			if part := string(bytes.TrimSpace(text)); len(part) > 6 && strings.Contains(err.Error(), part) && !strings.Contains("want user:password in one line, or the user and the password on a line each", part) {
				t.Errorf("the error %q shows the text", err)
			}
			return
		}
		if c.user == "" || c.password == "" || strings.ContainsAny(c.user, ":\r\n\x00") || strings.ContainsAny(c.password, "\r\n\x00") {
			t.Errorf("%q: %q, %q", text, c.user, c.password)
		}
		again, err := ParseCredentials([]byte(c.user + "\n" + c.password))
		if err != nil || again != c {
			t.Errorf("%q: %q, %q, %v", text, again.user, again.password, err)
		}
	})
}
