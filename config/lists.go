package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/draasd/draas"
)

// list converts all kinds that are written as a list. It reports every wrong
// element at its own line.
func (c *conversion) list(list []any) (any, bool) {
	if len(list) == 0 {
		return c.fail("is empty", c.want())
	}
	switch c.key.kind {
	case kindAddrs:
		return each(c, list, (*conversion).addr)
	case kindNets:
		return each(c, list, (*conversion).network)
	case kindDials:
		return each(c, list, (*conversion).dial)
	case kindStatus:
		return each(c, list, func(c *conversion, v any) (int, string) {
			n, why := number(v, 100, 599)
			return int(n), why
		})
	case kindPorts:
		return each(c, list, func(c *conversion, v any) (uint16, string) {
			n, why := number(v, 1, 65535)
			return uint16(n), why
		})
	case kindNames:
		return each(c, list, (*conversion).service)
	case kindZones, kindFrontends:
		return each(c, list, (*conversion).named)
	case kindListens:
		return each(c, list, (*conversion).listenAt)
	case kindServerNames:
		return each(c, list, (*conversion).serverName)
	case kindRoutes:
		return each(c, list, (*conversion).route)
	case kindHeld:
		return each(c, list, (*conversion).held)
	case kindLinks:
		return each(c, list, (*conversion).link)
	case kindKinds:
		return each(c, list, (*conversion).syncKind)
	case kindChoices:
		return each(c, list, (*conversion).choiceOf)
	case kindCommand:
		if got, ok := each(c, list, (*conversion).argument); ok {
			return c.command(got.([]string))
		}
		return nil, false
	default:
		return each(c, list, (*conversion).argument)
	}
}

// each converts the elements and refuses one that stands twice, except in a
// command. convert returns why an element is wrong.
func each[T comparable](c *conversion, list []any, convert func(*conversion, any) (T, string)) (any, bool) {
	good := true
	var out []T
	seen := map[T]bool{}
	for i, v := range list {
		at := conversion{decoder: c.decoder, key: c.key, path: elem(c.path, i)}
		t, why := convert(&at, v)
		switch {
		case why != "":
			at.fail(why, c.want())
			good = false
		case seen[t] && c.key.kind != kindCommand:
			at.fail(show(fmt.Sprint(t))+" stands in the list already", "remove one")
			good = false
		}
		seen[t] = true
		out = append(out, t)
	}
	return out, good
}

func number(v any, lo, hi int64) (int64, string) {
	n, ok := v.(int64)
	if !ok {
		return 0, "is " + typeName(v)
	}
	if n < lo || n > hi {
		return 0, fmt.Sprintf("is %d", n)
	}
	return n, ""
}

// argument accepts one text. Its value is never shown: an argument may be a
// password.
func (c *conversion) argument(v any) (string, string) {
	s, ok := v.(string)
	switch {
	case !ok:
		return "", "is " + typeName(v)
	case s == "" && c.key.kind != kindCommand:
		return "", "is empty"
	case strings.ContainsRune(s, 0):
		return "", "has a NUL byte"
	}
	return s, ""
}

// dial accepts an address to connect to.
func (c *conversion) dial(v any) (string, string) {
	s, why := c.argument(v)
	if why != "" {
		return "", why
	}
	if at, err := netip.ParseAddrPort(s); err == nil && at.Port() != 0 && !at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String(), ""
	}
	return "", show(s) + " is not an IP address with a port"
}

// service accepts the name of a service.
func (c *conversion) service(v any) (draas.ServiceID, string) {
	s, why := c.argument(v)
	if why == "" {
		if why = badName(s); why != "" {
			why = show(s) + " " + why
		}
	}
	return draas.ServiceID(s), why
}

// named accepts the name of a table of [dns] or [frontend].
func (c *conversion) named(v any) (string, string) {
	s, why := c.argument(v)
	if why == "" {
		if why = badName(s); why != "" {
			why = show(s) + " " + why
		}
	}
	return s, why
}

// link accepts the name of a network interface: dev_valid_name in the kernel,
// with IFNAMSIZ for the length.
func (c *conversion) link(v any) (string, string) {
	s, why := c.argument(v)
	if why == "" && badLink(s) {
		why = show(s) + " is not an interface"
	}
	return s, why
}

// badLink reports a name that no interface has (Linux: dev_valid_name).
func badLink(s string) bool {
	return s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '/' || r == ':' || r == 0x7f
	})
}

// network accepts an address prefix.
func (c *conversion) network(v any) (netip.Prefix, string) {
	s, why := c.argument(v)
	if why != "" {
		return netip.Prefix{}, why
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, show(s) + " is not a network"
	case p.Masked() != p:
		return p, show(s) + " has bits behind its length"
	}
	return p, ""
}

// addr accepts an address that a user could be sent to.
func (c *conversion) addr(v any) (netip.Addr, string) {
	s, ok := v.(string)
	if !ok {
		return netip.Addr{}, "is " + typeName(v)
	}
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	switch {
	case err != nil:
		return a, show(s) + " is not an IP address"
	case a.Zone() != "":
		return a, show(s) + " holds only on one link"
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, show(s) + " is nobody's address"
	}
	return a, ""
}

// command checks that a program is named so that it runs without a shell, a
// PATH or a working directory.
func (c *conversion) command(args []string) (any, bool) {
	if !strings.HasPrefix(args[0], "/") {
		wrong := "does not name its program by an absolute path"
		if strings.ContainsAny(args[0], " \t") {
			wrong = "looks like a line for a shell; there is none"
		}
		return c.fail(wrong, c.want())
	}
	return args, true
}
