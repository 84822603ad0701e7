package frontend

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
)

func ends(source, dest string) ProxyHeader {
	return ProxyHeader{netip.MustParseAddrPort(source), netip.MustParseAddrPort(dest)}
}

func v2(command, family byte, rest string) string {
	return proxyV2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const four = "\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x50\x01\xbb" // 10.0.0.1:80 to 10.0.0.2:443

func TestParseProxy(t *testing.T) {
	v4, v6 := ends("10.0.0.1:80", "10.0.0.2:443"), ends("[2001:db8::1]:65535", "[::2]:0")
	for _, c := range []struct {
		name, in string
		want     ProxyHeader
		err      error
	}{
		{"v1", "PROXY TCP4 10.0.0.1 10.0.0.2 80 443\r\n", v4, nil},
		{"v1 of IPv6", "PROXY TCP6 2001:db8::1 ::2 65535 0\r\n", v6, nil},
		{"v1 unknown", "PROXY UNKNOWN\r\n", ProxyHeader{}, nil},
		{"v1 unknown with words", "PROXY UNKNOWN ffff::1 any thing\r\n", ProxyHeader{}, nil},
		{"longest v1", "PROXY UNKNOWN " + strings.Repeat("x", 107-16) + "\r\n", ProxyHeader{}, nil},
		{"v1 a byte too long", "PROXY UNKNOWN " + strings.Repeat("x", 107-15) + "\r\n", ProxyHeader{}, ErrProxyHeader},
		{"v1 without end", "PROXY UNKNOWN " + strings.Repeat("x", 107), ProxyHeader{}, ErrProxyHeader},
		{"v1 in two parts", "PROXY TCP4 10.0.0.1 10.0", ProxyHeader{}, ErrProxyShort},
		{"nothing", "", ProxyHeader{}, ErrProxyShort},
		{"a part of the first word", "PRO", ProxyHeader{}, ErrProxyShort},
		{"bare LF", "PROXY TCP4 10.0.0.1 10.0.0.2 80 443\n", ProxyHeader{}, ErrProxyHeader},
		{"CR within", "PROXY TCP4 10.0.0.1 10.0.0.2 80\r443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"two spaces", "PROXY TCP4 10.0.0.1  10.0.0.2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"a word too many", "PROXY TCP4 10.0.0.1 10.0.0.2 80 443 x\r\n", ProxyHeader{}, ErrProxyHeader},
		{"a word too few", "PROXY TCP4 10.0.0.1 10.0.0.2 80\r\n", ProxyHeader{}, ErrProxyHeader},
		{"leading zero", "PROXY TCP4 10.0.0.1 10.0.0.2 080 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"signed port", "PROXY TCP4 10.0.0.1 10.0.0.2 +80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"port too large", "PROXY TCP4 10.0.0.1 10.0.0.2 80 65536\r\n", ProxyHeader{}, ErrProxyHeader},
		{"octet with zero", "PROXY TCP4 10.0.0.01 10.0.0.2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"wrong family", "PROXY TCP4 ::1 ::2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"zone", "PROXY TCP6 fe80::1%eth0 ::2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"lower case", "proxy TCP4 10.0.0.1 10.0.0.2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"UDP", "PROXY UDP4 10.0.0.1 10.0.0.2 80 443\r\n", ProxyHeader{}, ErrProxyHeader},
		{"HTTP", "GET / HTTP/1.1\r\n", ProxyHeader{}, ErrProxyHeader},

		{"v2", v2(0x21, 0x11, four), v4, nil},
		{"v2 with extension", v2(0x21, 0x11, four+"\x04\x00\x01x"), v4, nil},
		{"v2 local", v2(0x20, 0, ""), ProxyHeader{}, nil},
		{"v2 local ignores the rest", v2(0x20, 0x11, four+"??"), ProxyHeader{}, nil},
		{"v2 unspecified", v2(0x21, 0, ""), ProxyHeader{}, nil},
		{"v2 unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), ProxyHeader{}, nil},
		{"v2 in two parts", v2(0x21, 0x11, four)[:20], ProxyHeader{}, ErrProxyShort},
		{"v2 of version 3", v2(0x31, 0x11, four), ProxyHeader{}, ErrProxyHeader},
		{"v2 other command", v2(0x22, 0x11, four), ProxyHeader{}, ErrProxyHeader},
		{"v2 datagram", v2(0x21, 0x12, four), ProxyHeader{}, ErrProxyHeader},
		{"v2 too short for its family", v2(0x21, 0x21, four), ProxyHeader{}, ErrProxyHeader},
		{"v2 cut extension", v2(0x21, 0x11, four+"\x04\x00\x02x"), ProxyHeader{}, ErrProxyHeader},
		{"v2 wrong checksum", v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00"), ProxyHeader{}, ErrProxyHeader},
		{"v2 too long", v2(0x20, 0, strings.Repeat("x", MaxProxyHeader-15)), ProxyHeader{}, ErrProxyHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := []byte(c.in + "behind")
			if errors.Is(c.err, ErrProxyShort) {
				in = []byte(c.in)
			}
			h, n, err := ParseProxy(in)
			if !errors.Is(err, c.err) || h != c.want {
				t.Fatalf("%+v, %v, want %+v, %v", h, err, c.want, c.err)
			}
			if err == nil && n != len(c.in) {
				t.Errorf("%d bytes, want %d", n, len(c.in))
			}
		})
	}
}

// A checksum that another implementation made is right.
func TestProxyChecksum(t *testing.T) {
	// Summed by hand: the header with four zeros in the place of the sum.
	header := []byte(v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00"))
	sum := slowCRC32C(header)
	for i := range 4 {
		header[len(header)-4+i] = byte(sum >> (24 - 8*i))
	}
	if _, _, err := ParseProxy(header); err != nil {
		t.Fatal(err)
	}
	header[17] ^= 1
	if _, _, err := ParseProxy(header); !errors.Is(err, ErrProxyHeader) {
		t.Fatalf("a changed address: %v", err)
	}
}

func slowCRC32C(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0x82f63b78
			} else {
				c >>= 1
			}
		}
	}
	return ^c
}

func TestAppendProxy(t *testing.T) {
	for _, h := range []ProxyHeader{{}, ends("10.0.0.1:80", "10.0.0.2:443"), ends("[2001:db8::1]:65535", "[::2]:0")} {
		for version := 1; version <= 2; version++ {
			got, n, err := ParseProxy(append(AppendProxy(nil, version, h), '!'))
			if err != nil || got != h {
				t.Errorf("version %d of %+v is read as %+v after %d bytes: %v", version, h, got, n, err)
			}
		}
	}
	mixed := AppendProxy(nil, 1, ends("10.0.0.1:80", "[::2]:443"))
	if want := "PROXY TCP6 ::ffff:10.0.0.1 ::2 80 443\r\n"; string(mixed) != want {
		t.Errorf("%q, want %q", mixed, want)
	}
	if b := AppendProxy([]byte("x"), 0, ends("10.0.0.1:80", "10.0.0.2:443")); string(b) != "x" {
		t.Errorf("version 0 appends %q", b)
	}
}

// What is accepted means the same to go-proxyproto, and when it is written and
// read again; and every beginning of it asks for more.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 10.0.0.1 10.0.0.2 80 443\r\nGET"))
	f.Add([]byte("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 65535 0\r\n"))
	f.Add([]byte("PROXY UNKNOWN x\r\n"))
	f.Add([]byte(v2(0x21, 0x11, four)))
	f.Add([]byte(v2(0x20, 0x11, four)))
	f.Add([]byte(v2(0x21, 0x21, strings.Repeat("abcd", 9)+"\x04\x00\x01x")))
	f.Add([]byte(v2(0x21, 0x31, strings.Repeat("\x00", 216))))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseProxy(b)
		if err != nil {
			if n != 0 || h != (ProxyHeader{}) {
				t.Fatalf("%+v and %d bytes with %v", h, n, err)
			}
			if errors.Is(err, ErrProxyShort) && len(b) >= MaxProxyHeader {
				t.Fatalf("asks for more than %d bytes", len(b))
			}
			return
		}
		if n < 1 || n > len(b) || n > MaxProxyHeader {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		for i := range n {
			if _, _, err := ParseProxy(b[:i]); !errors.Is(err, ErrProxyShort) {
				t.Fatalf("of the first %d bytes: %v", i, err)
			}
		}
		other, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), 1<<17))
		if err != nil {
			if h == (ProxyHeader{}) {
				return // it has rules of its own for what has no addresses
			}
			t.Fatalf("go-proxyproto does not take it: %v", err)
		}
		if h.Source.IsValid() {
			source, dest, ok := other.TCPAddrs()
			if !ok || !same(source, h.Source) || !same(dest, h.Destination) {
				t.Fatalf("%+v, go-proxyproto reads %v to %v", h, source, dest)
			}
		}
		for version := 1; version <= 2; version++ {
			again, _, err := ParseProxy(AppendProxy(nil, version, h))
			if err != nil || again.Source.Addr().Unmap() != h.Source.Addr().Unmap() || again.Destination.Port() != h.Destination.Port() {
				t.Fatalf("%+v written by version %d is %+v, %v", h, version, again, err)
			}
		}
	})
}

func same(a *net.TCPAddr, b netip.AddrPort) bool {
	return a.Port == int(b.Port()) && a.IP.Equal(net.IP(b.Addr().AsSlice()))
}
