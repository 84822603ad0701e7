package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conversion turns one value of the file into the type of its key.
type conversion struct {
	*decoder
	key  *key
	path string
}

// fail reports the value and returns what convert returns then.
func (c *conversion) fail(wrong, right string) (any, bool) {
	c.report(c.path, wrong, right)
	return nil, false
}

// typeName says in words what type a value has.
func typeName(v any) string {
	switch v := v.(type) {
	case string:
		return "a text"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "a list"
	case time.Time:
		return "a date"
	default:
		return fmt.Sprintf("a %T", v)
	}
}

// wants says for each kind what it looks like, with an example. Those whose
// keys differ stand in want.
var wants = map[kind]string{
	kindName:        `write a name, such as "dr"`,
	kindSite:        `write a name, such as "dr"`,
	kindZone:        `write a name, such as "dr"`,
	kindDuration:    `write a number with its unit in quotes, such as "250ms", "5s" or "10m"`,
	kindTTL:         `write whole seconds with the unit in quotes, such as "5s"`,
	kindPart:        "write a fraction from 0 to 0.5, such as 0.1",
	kindBool:        "write true or false without quotes",
	kindFile:        `write the path of a file, such as "tls/ca.crt"`,
	kindKeyFile:     `write the path of a file, such as "tls/ca.crt"`,
	kindListen:      `write the address to listen on, such as "198.51.100.10:7400" or ":7400"`,
	kindListens:     `write a list of addresses to listen on, such as ["192.0.2.80:443"] or [":443"]`,
	kindDial:        `write an IP address and a port, such as "198.51.100.10:7400" or "[2001:db8::10]:7400"`,
	kindDials:       `write a list of IP addresses and ports, such as ["198.51.100.53:53"]`,
	kindTarget:      `write a host and a port, such as "127.0.0.1:8081"`,
	kindAddrs:       `write a list of IP addresses, such as ["198.51.100.20", "2001:db8::20"]`,
	kindDomain:      `write a full DNS name with the final dot, such as "shop.example.org."`,
	kindHost:        `write a host name, such as "shop.example.org"`,
	kindURLPath:     `write a path that begins with /, such as "/healthz"`,
	kindRegexp:      `write a regular expression (RE2), such as '"status": *"ok"'`,
	kindStatus:      "write a list of HTTP statuses from 100 to 599, such as [200, 204]",
	kindPorts:       "write a list of ports from 1 to 65535, such as [80, 443]",
	kindTexts:       `write a list of texts, such as ["192.0.2.9"]`,
	kindCommand:     `write a list: the absolute path of the program, then its arguments, such as ["/usr/lib/shop/stop", "-q"]`,
	kindUnit:        `write a unit of systemd, such as "shop.service"`,
	kindURL:         `write an https URL, such as "https://dns.example.org/nic/update"`,
	kindID:          "write the id as the service shows it: letters, digits, and - _ . /",
	kindNets:        `write a list of networks, such as ["192.0.2.0/24", "2001:db8::53/128"]`,
	kindZones:       `write a list of zones, such as ["backup"]`,
	kindNames:       `write a list of services, such as ["shop", "billing"]`,
	kindFrontends:   `write a list of frontends, such as ["edge1", "edge2"]`,
	kindLinks:       `write a list of network interfaces, such as ["eth0"]`,
	kindBMC:         `write an IP address, with a port unless it is 623, such as "198.51.100.9"`,
	kindUser:        `write a user name of at most 16 printable characters, such as "draas"`,
	kindSize:        `write a number with its unit in quotes, such as "512KiB", "64MiB" or "1GiB"`,
	kindSocket:      `write an absolute path or an IP address and a port, such as "/run/haproxy/admin.sock"`,
	kindServerNames: `write a list of names, such as ["shop.example.org", "*.shop.example.org"]`,
	kindRoutes:      `write a list of PUT or DELETE and a path, or all below one, such as ["PUT /carts/"]`,
	kindCron:        `write a cron expression of five fields, such as "17 3 * * *" or "@daily"`,
	kindTime:        `write a time of the day, such as "22:00"`,
	kindKinds:       `write a list of kinds, such as ["project", "image"]`,
	kindText:        `write a name or an id in quotes, such as "ext-net"`,
	kindHeld:        `write a list of addresses, each with the length of its network and its interface, such as ["192.0.2.80/24 dev eth0"]`,
}

// want says what the key's value looks like, with an example.
func (c *conversion) want() string {
	switch c.key.kind {
	case kindChoice:
		return "write " + orList(quoteAll(c.key.oneOf))
	case kindChoices:
		return "write a list of " + orList(quoteAll(c.key.oneOf))
	case kindCount:
		return fmt.Sprintf("write a number from %d to %d without quotes", c.key.low, c.key.high)
	}
	return wants[c.key.kind]
}

func quoteAll(words []string) []string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return quoted
}

// convert checks the type and hands on to the kind's own rule.
func (c *conversion) convert(v any) (any, bool) {
	switch c.key.kind {
	case kindBool:
		if b, ok := v.(bool); ok {
			return b, true
		}
	case kindCount:
		if n, ok := v.(int64); ok {
			return c.count(n)
		}
	case kindPart:
		switch n := v.(type) {
		case int64:
			return c.fraction(float64(n))
		case float64:
			return c.fraction(n)
		}
	case kindAddrs, kindNets, kindDials, kindStatus, kindPorts, kindTexts, kindCommand, kindNames, kindZones, kindLinks,
		kindListens, kindFrontends, kindServerNames, kindRoutes, kindHeld, kindKinds, kindChoices:
		if list, ok := v.([]any); ok {
			return c.list(list)
		}
	default:
		if s, ok := v.(string); ok {
			return c.text(s)
		}
	}
	return c.fail("is "+typeName(v), c.want())
}

func (c *conversion) count(n int64) (any, bool) {
	if n < c.key.low || n > c.key.high {
		if strings.HasSuffix(c.key.path, ".confirmations") && n == 1 {
			return c.fail("is 1: one failure domain alone cannot tell a dead site from a cut line", "write at least 2")
		}
		return c.fail(fmt.Sprintf("is %d", n), c.want())
	}
	return int(n), true
}

func (c *conversion) fraction(f float64) (any, bool) {
	if !(f >= 0 && f <= 0.5) { // also not a number
		return c.fail(fmt.Sprintf("is %v", f), c.want())
	}
	return f, true
}

// text converts all kinds that are written as a text.
func (c *conversion) text(s string) (any, bool) {
	if c.key.kind != kindKeyFile && c.key.kind != kindFile && s == "" {
		return c.fail("is empty", c.want())
	}
	switch c.key.kind {
	case kindName, kindSite, kindZone:
		if why := badName(s); why != "" {
			return c.fail(show(s)+" "+why, `a name has lower-case letters, digits, - and _, such as "dr-1"`)
		}
		return s, true
	case kindChoice:
		return c.choice(s)
	case kindDuration, kindTTL:
		return c.duration(s)
	case kindFile, kindKeyFile:
		return c.file(s)
	case kindListen, kindDial, kindTarget:
		return c.hostPort(s)
	case kindDomain:
		return c.domain(s)
	case kindHost:
		if _, err := netip.ParseAddr(s); err == nil {
			return s, true
		}
		if why := badDomain(s); why != "" || strings.HasSuffix(s, ".") {
			return c.fail(show(s)+" is not a host name", c.want())
		}
		return s, true
	case kindURLPath:
		if s[0] != '/' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return c.fail(show(s)+" is not a path", c.want())
		}
		return s, true
	case kindRegexp:
		re, err := regexp.Compile(s)
		if err != nil {
			return c.fail(show(s)+" is not a regular expression", c.want())
		}
		return re, true
	case kindBMC:
		return c.bmc(s)
	case kindSize:
		return c.size(s)
	case kindSocket:
		return c.socket(s)
	case kindCron:
		return c.cron(s)
	case kindTime:
		return c.clock(s)
	case kindText:
		return s, true
	case kindUser:
		if !userName.MatchString(s) {
			return c.fail("is not a user name", c.want())
		}
		return s, true
	case kindURL:
		return c.endpoint(s)
	case kindID:
		if !serviceID.MatchString(s) {
			return c.fail(show(s)+" is not an id", c.want())
		}
		return s, true
	case kindUnit:
		if !unitName.MatchString(s) {
			return c.fail(show(s)+" is not a unit", c.want())
		}
		return s, true
	}
	return c.fail("is a text", c.want())
}

// unitName is systemd.unit(5)'s description of a valid name, for the types
// that can be stopped to stop serving.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]{0,240}\.(service|target|socket|slice|scope)$`)

// serviceID is an id of a DNS service.
var serviceID = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9._/-]{0,127}$`)

// userName is what IPMI 2.0, section 22.28, has room for.
var userName = regexp.MustCompile(`^[!-~]{1,16}$`)

// ipmiPort is where a management controller listens (RMCP).
const ipmiPort = 623

// bmc completes the address of a management controller with its port.
func (c *conversion) bmc(s string) (any, bool) {
	addr, err := netip.ParseAddr(s)
	switch {
	case strings.Contains(s, "%"):
		return c.fail(show(s)+" holds only on one link", c.want())
	case err == nil:
		s = netip.AddrPortFrom(addr, ipmiPort).String()
	case !strings.Contains(s, ":"):
		return c.fail(show(s)+" is not an IP address", c.want())
	}
	return c.hostPort(s)
}

func (c *conversion) choice(s string) (any, bool) {
	if slices.Contains(c.key.oneOf, s) {
		return s, true
	}
	if guess := nearest(s, c.key.oneOf); guess != "" {
		return c.fail(show(s)+" is not known", fmt.Sprintf("did you mean %q?", guess))
	}
	for _, o := range c.key.oneOf {
		if strings.EqualFold(o, s) {
			return c.fail(show(s)+" is not known", fmt.Sprintf("did you mean %q?", o))
		}
	}
	return c.fail(show(s)+" is not known", c.want())
}

func (c *conversion) duration(s string) (any, bool) {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return c.fail(show(s)+" is not a duration", c.want())
	case c.key.kind == kindTTL && v%time.Second != 0:
		return c.fail(show(s)+" is not in whole seconds", c.want())
	case v < c.key.min:
		return c.fail(show(s)+" is too short", "at least "+short(c.key.min))
	case v > c.key.max:
		return c.fail(show(s)+" is too long", "at most "+short(c.key.max))
	}
	return v, true
}

// short prints a duration without its empty parts: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (c *conversion) file(s string) (any, bool) {
	switch {
	case s == "":
		return c.fail("is empty", c.want())
	case looksLikePEM(s):
		return c.fail("holds the contents of a file", "write the path of the file that holds it")
	case strings.ContainsRune(s, 0):
		return c.fail("has a NUL byte", c.want())
	case slices.Contains([]string{"control", "guard", "frontend.*.control"}, c.key.path) && len(s) > maxSocketPath:
		return c.fail(fmt.Sprintf("has %d bytes", len(s)), fmt.Sprintf("the path of a unix socket has at most %d", maxSocketPath))
	}
	return path.Clean(s), true
}

// maxSocketPath is the room in sockaddr_un.sun_path (unix(7)) without its NUL.
const maxSocketPath = 107

// hostPort checks and normalises host:port for the three kinds of it.
func (c *conversion) hostPort(s string) (any, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return c.fail(show(s)+" has no port", c.want())
	}
	host, port := s[:i], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return c.fail(show(port)+" is not a port", "a port is a number from 1 to 65535")
	}
	port = strconv.FormatUint(n, 10)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return c.fail(show(s)+" leaves open where the address ends", `write an IPv6 address in brackets, such as "[2001:db8::10]:7400"`)
	}
	if host == "" && c.key.kind == kindListen {
		return ":" + port, true
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if c.key.kind != kindListen && addr.IsUnspecified() {
			return c.fail(show(s)+" is no address to connect to", c.want())
		}
		return netip.AddrPortFrom(addr.Unmap(), uint16(n)).String(), true
	}
	if c.key.kind == kindTarget && badDomain(host) == "" && !looksLikeIP(host) {
		return strings.ToLower(host) + ":" + port, true
	}
	return c.fail(show(host)+" is not an IP address", c.want())
}

// looksLikeIP tells a mistyped address from a host name.
func looksLikeIP(s string) bool {
	return strings.Trim(s, "0123456789.") == ""
}

// domain checks a fully qualified name and folds its case.
func (c *conversion) domain(s string) (any, bool) {
	if strings.Contains(s, "@") {
		return c.fail(show(s)+" is a mail address", "write it as a DNS name, with a dot instead of the @: hostmaster.example.org.")
	}
	if why := badDomain(s); why != "" {
		return c.fail(show(s)+" "+why, c.want())
	}
	if !strings.HasSuffix(s, ".") {
		return c.fail(show(s)+" has no final dot", fmt.Sprintf("write %q", s+"."))
	}
	return strings.ToLower(s), true
}

// badDomain says why a text is not a DNS name (RFC 1035, section 2.3.1, with
// the underscore of RFC 8552), with or without the final dot.
func badDomain(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return "is longer than 253 characters"
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return "has an empty label"
		case len(label) > 63:
			return "has a label longer than 63 characters"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "has a label that begins or ends with -"
		}
		for i := 0; i < len(label); i++ {
			if !isBare(label[i]) {
				return "is not a DNS name"
			}
		}
	}
	return ""
}
