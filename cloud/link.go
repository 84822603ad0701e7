package cloud

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// lead is where a request for a service goes. Behind a proxy services print
// links to themselves with their own scheme, host and path; those are led back
// to the service's place if their path fits its base. Nothing goes to another
// host.
func (p place) lead(method string, u *url.URL) (*url.URL, error) {
	home := u.Scheme == p.scheme && sameHost(u.Scheme, u.Host, p.scheme, p.host)
	if home && (strings.HasPrefix(u.Path+"/", p.path) || strings.HasPrefix(p.path, strings.TrimSuffix(u.Path, "/")+"/")) {
		return u, nil
	}
	read := method == http.MethodGet || method == http.MethodHead
	if path, ok := p.fit(u.EscapedPath()); ok && read && u.User == nil {
		out := *u
		out.Scheme, out.Host = p.scheme, p.host
		var err error
		if out.Path, err = url.PathUnescape(path); err == nil {
			out.RawPath = path
			return &out, nil
		}
	}
	if home { // of another part of the same host: a proxy's other service
		return u, nil
	}
	return nil, fmt.Errorf("%s://%s: %w", u.Scheme, u.Host, ErrForeign)
}

// fit puts a path under the base: as much of the base's end as the path begins
// with is what both have in common. With nothing in common it does not fit.
func (p place) fit(path string) (string, bool) {
	base := strings.Split(strings.Trim(p.path, "/"), "/")
	got := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for n := min(len(base), len(got)); n > 0; n-- {
		if equal(base[len(base)-n:], got[:n]) && got[0] != "" {
			return "/" + strings.Join(append(append([]string{}, base...), got[n:]...), "/"), true
		}
	}
	return "", false
}

func equal(a, b []string) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// sameHost compares hosts with their ports, written or not.
func sameHost(schemeA, a, schemeB, b string) bool {
	return strings.EqualFold(withPort(schemeA, a), withPort(schemeB, b))
}

func withPort(scheme, host string) string {
	if u := (&url.URL{Host: host}); u.Port() != "" {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}

// at tells which of the services that were handed out a request is for: the one
// it says, or the one with the longest base above it.
func (s *Session) at(mark string, u *url.URL) (string, place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.known[mark]; ok {
		return mark, p, true
	}
	name, found := "", place{}
	if p := s.login; p.scheme == u.Scheme && sameHost(p.scheme, p.host, u.Scheme, u.Host) && strings.HasPrefix(u.Path+"/", p.path) {
		name, found = "identity", p
	}
	for n, p := range s.known {
		if p.scheme == u.Scheme && sameHost(p.scheme, p.host, u.Scheme, u.Host) && strings.HasPrefix(u.Path+"/", p.path) && len(p.path) > len(found.path) {
			name, found = n, p
		}
	}
	return name, found, name != ""
}
