package stream

import (
	"encoding/binary"
	"errors"
	"strings"
)

// maxEarly bounds what is read of a client before it is known where to lead
// it, in bytes: a PROXY header and a ClientHello.
const maxEarly = 20 << 10

// maxHello bounds a ClientHello with the heads of its records, in bytes. Those
// of browsers have some 2 KiB.
const maxHello = 16 << 10

var (
	errHelloShort = errors.New("the ClientHello is not complete")
	errNoHello    = errors.New("not a ClientHello")
)

const (
	recordHandshake = 22
	clientHello     = 1
	extServerName   = 0
	extEarlyData    = 42
	hostName        = 0
)

// serverName reads the name that a client asks for from the ClientHello that b
// begins with (RFC 8446, section 4.1.2; RFC 6066, section 3), in lower case. It
// is empty when the client asks for none. The hello may be cut into records of
// any size. It fails with errHelloShort while more may come, and with
// errNoHello when b is something else.
func serverName(b []byte) (string, error) {
	extensions, err := extensionsOf(b)
	if err != nil {
		return "", err
	}
	return nameOf(extensions)
}

// onlyHello reports whether b is a ClientHello, with nothing behind it and no
// announcement of early data: nothing that a server would act upon.
func onlyHello(b []byte) bool {
	extensions, err := extensionsOf(b)
	if err != nil || has(extensions, extEarlyData) {
		return false
	}
	_, err = extensionsOf(b[:len(b)-1])
	return errors.Is(err, errHelloShort)
}

func extensionsOf(b []byte) ([]byte, error) {
	hello, err := handshake(b)
	if err != nil {
		return nil, err
	}
	r := reader{hello}
	if _, ok := r.take(2 + 32); !ok { // legacy_version, random
		return nil, errNoHello
	}
	if id, ok := r.vector(1); !ok || len(id) > 32 {
		return nil, errNoHello
	}
	if suites, ok := r.vector(2); !ok || len(suites) < 2 || len(suites)%2 != 0 {
		return nil, errNoHello
	}
	if methods, ok := r.vector(1); !ok || len(methods) < 1 {
		return nil, errNoHello
	}
	if len(r.b) == 0 {
		return nil, nil // SSL 3.0 to TLS 1.2 may have no extensions at all
	}
	extensions, ok := r.vector(2)
	if !ok || len(r.b) > 0 {
		return nil, errNoHello
	}
	return extensions, nil
}

// has reports whether an extension is there, or they cannot be read.
func has(extensions []byte, want uint16) bool {
	for r := (reader{extensions}); len(r.b) > 0; {
		kind, ok := r.take(2)
		if !ok || binary.BigEndian.Uint16(kind) == want {
			return true
		}
		if _, ok := r.vector(2); !ok {
			return true
		}
	}
	return false
}

// handshake puts the first handshake message together. Records that hold
// nothing are refused, as RFC 8446, section 5.1, has it.
func handshake(b []byte) ([]byte, error) {
	var whole []byte // only of a message in more than one record
	read := 0
	for {
		switch {
		case len(b) > 0 && b[0] != recordHandshake, len(b) > 1 && b[1] != 3:
			return nil, errNoHello
		case len(b) < 5:
			return nil, short(read + 5)
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > 16384 {
			return nil, errNoHello
		}
		part := b[5:min(len(b), 5+size)]
		if whole == nil {
			whole = part[:len(part):len(part)]
		} else {
			whole = append(whole, part...)
		}
		if len(whole) > 0 && whole[0] != clientHello {
			return nil, errNoHello
		}
		if len(whole) >= 4 {
			n := 4 + int(whole[1])<<16 + int(whole[2])<<8 + int(whole[3])
			if n > maxHello {
				return nil, errNoHello
			}
			if len(whole) >= n {
				return whole[4:n], nil
			}
		}
		if len(b) < 5+size {
			return nil, short(read + 5 + size)
		}
		b, read = b[5+size:], read+5+size
	}
}

// short asks for more, unless that much is over the bound already.
func short(upTo int) error {
	if upTo > maxHello {
		return errNoHello
	}
	return errHelloShort
}

func nameOf(extensions []byte) (string, error) {
	r := reader{extensions}
	name, seen := "", false
	for len(r.b) > 0 {
		kind, ok := r.take(2)
		if !ok {
			return "", errNoHello
		}
		body, ok := r.vector(2)
		if !ok {
			return "", errNoHello
		}
		if binary.BigEndian.Uint16(kind) != extServerName {
			continue
		}
		if seen {
			return "", errNoHello // "There MUST NOT be more than one extension of the same type"
		}
		seen = true
		if name, ok = hostOf(body); !ok {
			return "", errNoHello
		}
	}
	return name, nil
}

// hostOf reads a ServerNameList. "The ServerNameList MUST NOT contain more
// than one name of the same name_type", and no other type was ever defined.
func hostOf(body []byte) (string, bool) {
	r := reader{body}
	list, ok := r.vector(2)
	if !ok || len(r.b) > 0 || len(list) == 0 {
		return "", false
	}
	r = reader{list}
	kind, ok := r.take(1)
	if !ok || kind[0] != hostName {
		return "", false
	}
	name, ok := r.vector(2)
	if !ok || len(r.b) > 0 || !goodName(name) {
		return "", false
	}
	return strings.ToLower(string(name)), true
}

// goodName accepts what may stand in DNS and in a log.
func goodName(b []byte) bool {
	if len(b) == 0 || len(b) > 253 || b[0] == '.' || b[len(b)-1] == '.' {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// reader takes a message apart.
type reader struct{ b []byte }

func (r *reader) take(n int) ([]byte, bool) {
	if len(r.b) < n {
		return nil, false
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out, true
}

// vector takes what stands behind its own length, of so many bytes.
func (r *reader) vector(lengthBytes int) ([]byte, bool) {
	head, ok := r.take(lengthBytes)
	if !ok {
		return nil, false
	}
	n := 0
	for _, c := range head {
		n = n<<8 | int(c)
	}
	return r.take(n)
}
