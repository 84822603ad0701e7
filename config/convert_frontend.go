package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// sizeText is a number of bytes as the file writes it.
var sizeText = regexp.MustCompile(`^([0-9]{1,15})(B|KiB|MiB|GiB)$`)

// sizeUnits are the units of sizes, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// size converts a number of bytes with its unit.
func (c *conversion) size(s string) (any, bool) {
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return c.fail(show(s)+" is not a size", c.want())
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	for _, u := range sizeUnits {
		switch {
		case u.name != m[2]:
		case err != nil || n > c.key.high/u.bytes:
			return c.fail(show(s)+" is too much", "at most "+bytesText(c.key.high))
		default:
			n *= u.bytes
		}
	}
	if n < c.key.low {
		return c.fail(show(s)+" is too little", "at least "+bytesText(c.key.low))
	}
	return n, true
}

// bytesText prints a number of bytes in the largest unit that it is whole in.
func bytesText(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// socket accepts where the runtime socket of another proxy is.
func (c *conversion) socket(s string) (any, bool) {
	if !strings.HasPrefix(s, "/") {
		at, why := c.dial(s)
		if why != "" {
			return c.fail(show(s)+" is neither an absolute path nor an IP address with a port", c.want())
		}
		return at, true
	}
	if len(s) > maxSocketPath {
		return c.fail(fmt.Sprintf("has %d bytes", len(s)), fmt.Sprintf("the path of a unix socket has at most %d", maxSocketPath))
	}
	if strings.ContainsRune(s, 0) || looksLikePEM(s) {
		return c.fail("is not a path", c.want())
	}
	return path.Clean(s), true
}

// listenAt accepts an address to listen on; without an IP it means them all.
func (c *conversion) listenAt(v any) (netip.AddrPort, string) {
	s, why := c.argument(v)
	if why != "" {
		return netip.AddrPort{}, why
	}
	full := s
	if strings.HasPrefix(s, ":") {
		full = "[::]" + s
	}
	at, err := netip.ParseAddrPort(full)
	switch {
	case err != nil || at.Port() == 0:
		return at, show(s) + " is not an address with a port"
	case at.Addr().Zone() != "":
		return at, show(s) + " holds only on one link"
	case at.Addr().IsMulticast():
		return at, show(s) + " is nobody's address"
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), ""
}

// serverName accepts a name that clients ask for in TLS or HTTP, or all names
// with one more label (RFC 6125, section 6.4.3: only as the first label).
func (c *conversion) serverName(v any) (string, string) {
	s, why := c.argument(v)
	if why != "" {
		return "", why
	}
	rest := strings.TrimPrefix(s, "*.")
	switch why := badDomain(rest); {
	case strings.HasSuffix(s, "."):
		return "", show(s) + " ends in a dot, which no client sends"
	case looksLikeIP(s):
		return "", show(s) + " is not a name"
	case why != "":
		return "", show(s) + " is not a host name"
	case rest != s && !strings.Contains(rest, "."):
		return "", show(s) + " would be all of a top-level domain"
	}
	return strings.ToLower(s), ""
}

// route accepts a method and a path, such as "PUT /carts/".
func (c *conversion) route(v any) (string, string) {
	s, why := c.argument(v)
	if why != "" {
		return "", why
	}
	method, prefix, _ := strings.Cut(s, " ")
	switch {
	case method == "GET" || method == "HEAD":
		return "", show(s) + " needs no leave: it is sent again anyway"
	case method != "PUT" && method != "DELETE":
		return "", show(s) + " is no PUT and no DELETE: others cannot be repeated"
	case !strings.HasPrefix(prefix, "/") || strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '?' || r == '#' }):
		return "", show(s) + " has no path"
	}
	return s, ""
}
