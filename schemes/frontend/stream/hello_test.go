package stream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// hello is what crypto/tls sends first when it asks for a name.
func hello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tls.Client(client, cfg).Handshake()
	}()
	defer func() { _ = client.Close(); _ = server.Close(); <-ended }()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// cut puts a hello of one record into records of so many bytes.
func cut(b []byte, size int) []byte {
	var out []byte
	for rest := b[5:]; len(rest) > 0; {
		n := min(size, len(rest))
		out = append(out, b[0], b[1], b[2], byte(n>>8), byte(n))
		out, rest = append(out, rest[:n]...), rest[n:]
	}
	return out
}

func TestServerName(t *testing.T) {
	plain := hello(t, &tls.Config{ServerName: "Shop.Example.org"})
	old := hello(t, &tls.Config{ServerName: "old.example.org", MaxVersion: tls.VersionTLS12})
	none := hello(t, &tls.Config{InsecureSkipVerify: true})
	long := strings.Repeat("a.", 126) + "b"
	for _, c := range []struct {
		name string
		in   []byte
		want string
		err  error
	}{
		{"of TLS 1.3", plain, "shop.example.org", nil},
		{"of TLS 1.2", old, "old.example.org", nil},
		{"without a name", none, "", nil},
		{"the longest name", hello(t, &tls.Config{ServerName: long}), long, nil},
		{"with more behind it", append(plain[:len(plain):len(plain)], "more"...), "shop.example.org", nil},
		{"in small records", cut(plain, 7), "shop.example.org", nil},
		{"in records of a byte", cut(plain, 1), "shop.example.org", nil},
		{"nothing", nil, "", errHelloShort},
		{"a part", plain[:100], "", errHelloShort},
		{"a part of small records", cut(plain, 7)[:100], "", errHelloShort},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), "", errNoHello},
		{"SSH", []byte("SSH-2.0-x\r\n"), "", errNoHello},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 40}, "", errNoHello},
		{"another handshake", []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, "", errNoHello},
		{"an empty record", []byte{22, 3, 1, 0, 0}, "", errNoHello},
		{"a record too long", []byte{22, 3, 1, 0x40, 1}, "", errNoHello},
		{"a hello too long", []byte{22, 3, 1, 0x40, 0, 1, 0, 0x40, 0}, "", errNoHello},
		{"SSL 2", []byte{0x80, 0x2e, 1, 0, 2}, "", errNoHello},
		{"a bad name", hello(t, &tls.Config{ServerName: "a b"}), "", errNoHello},
	} {
		name, err := serverName(c.in)
		if name != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, want %q, %v", c.name, name, err, c.want, c.err)
		}
	}
	for i := range plain {
		if _, err := serverName(plain[:i]); !errors.Is(err, errHelloShort) {
			t.Fatalf("of the first %d bytes: %v", i, err)
		}
	}
	// Two of one extension, and two of one name.
	at := strings.Index(string(plain), "Shop.Example.org") - 9
	sni := plain[at : at+9+16]
	double := rebuilt(plain, at, append(append([]byte(nil), sni...), sni...))
	if _, err := serverName(double); !errors.Is(err, errNoHello) {
		t.Errorf("two extensions of names: %v", err)
	}
	names := []byte{0, 0, 0, 10, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'}
	if _, err := serverName(rebuilt(plain, at, names)); !errors.Is(err, errNoHello) {
		t.Errorf("two names: %v", err)
	}
	if name, err := serverName(rebuilt(plain, at, []byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'a'})); name != "a" || err != nil {
		t.Errorf("rebuilt wrongly: %q, %v", name, err)
	}
}

// rebuilt puts another extension in the place of the 25 bytes of plain's name,
// and mends the lengths around it.
func rebuilt(plain []byte, at int, extension []byte) []byte {
	out := append(append(append([]byte(nil), plain[:at]...), extension...), plain[at+25:]...)
	more := len(extension) - 25
	add := func(i, size int) {
		n := 0
		for k := range size {
			n = n<<8 | int(out[i+k])
		}
		for k := range size {
			out[i+k] = byte((n + more) >> (8 * (size - 1 - k)))
		}
	}
	add(3, 2)
	add(6, 3)
	i := 5 + 4 + 34
	i += 1 + int(out[i])
	i += 2 + int(binary.BigEndian.Uint16(out[i:]))
	i += 1 + int(out[i])
	add(i, 2)
	return out
}

// theirName is what crypto/tls makes of it.
func theirName(b []byte) (name string, ok bool) {
	_ = tls.Server(&written{bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, errors.New("enough")
	}}).HandshakeContext(context.Background())
	return name, ok
}

// written is a connection on which that was sent, and no more.
type written struct{ *bytes.Reader }

func (*written) Write(b []byte) (int, error)      { return len(b), nil }
func (*written) Close() error                     { return nil }
func (*written) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*written) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*written) SetDeadline(time.Time) error      { return nil }
func (*written) SetReadDeadline(time.Time) error  { return nil }
func (*written) SetWriteDeadline(time.Time) error { return nil }

// What is read of a hello is what crypto/tls reads, and it does not change
// with how the hello is cut; every beginning of one asks for more.
func FuzzServerName(f *testing.F) {
	plain := hello(f, &tls.Config{ServerName: "shop.example.org"})
	f.Add(plain)
	f.Add(cut(plain, 9))
	f.Add(hello(f, &tls.Config{ServerName: "old.example.org", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}))
	f.Add(hello(f, &tls.Config{InsecureSkipVerify: true}))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := serverName(b)
		if errors.Is(err, errHelloShort) && len(b) >= maxHello {
			t.Fatalf("asks for more than %d bytes", len(b))
		}
		if err != nil {
			return
		}
		if name != "" && (!goodName([]byte(name)) || name != strings.ToLower(name)) {
			t.Fatalf("%q", name)
		}
		for i := range min(len(b), 2048) {
			if n, err := serverName(b[:i]); err == nil {
				if n != name {
					t.Fatalf("%q of %d bytes, %q of all", n, i, name)
				}
				break
			} else if !errors.Is(err, errHelloShort) {
				t.Fatalf("of the first %d bytes: %v", i, err)
			}
		}
		if theirs, ok := theirName(b); ok && !strings.EqualFold(theirs, name) {
			t.Fatalf("%q, crypto/tls reads %q", name, theirs)
		}
	})
}
