package authority

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// Key is a secret that is shared with a secondary (TSIG, RFC 8945). It does not
// print its secret.
type Key struct {
	Name      string // fully qualified
	Algorithm string // hmac-sha256, hmac-sha384 or hmac-sha512
	Secret    string // base64
}

// String names the key.
func (k Key) String() string { return k.Name + " (" + k.Algorithm + ")" }

// GoString is String: %#v is no way around it.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// hashes are the algorithms of TSIG, by name in wire form.
var hashes = map[string]func() hash.Hash{
	"\x0bhmac-sha256\x00": sha256.New,
	"\x0bhmac-sha384\x00": sha512.New384,
	"\x0bhmac-sha512\x00": sha512.New,
}

// minSecret is the least length of a secret, in octets.
const minSecret = 16

// tsigKey is a validated Key.
type tsigKey struct {
	name, algorithm string // wire form, lower case
	secret          []byte
	hash            func() hash.Hash
}

func newTSIGKey(k Key) (*tsigKey, error) {
	if err := dns.ValidName(k.Name); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	name, err := wireName(mdns.CanonicalName(k.Name))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.Name, err)
	}
	algorithm := strings.ToLower(strings.TrimSuffix(k.Algorithm, "."))
	t := &tsigKey{name: name, algorithm: string(rune(len(algorithm))) + algorithm + "\x00"}
	if t.hash = hashes[t.algorithm]; t.hash == nil {
		return nil, fmt.Errorf("key %s: algorithm %q, want hmac-sha256, hmac-sha384 or hmac-sha512", k.Name, k.Algorithm)
	}
	if t.secret, err = base64.StdEncoding.DecodeString(k.Secret); err != nil {
		return nil, fmt.Errorf("key %s: the secret is not base64", k.Name)
	}
	if len(t.secret) < minSecret {
		return nil, fmt.Errorf("key %s: a secret of %d octets, at least %d", k.Name, len(t.secret), minSecret)
	}
	return t, nil
}

// fudge is how far the clocks of the two sides may be apart (RFC 8945, section
// 10: 5 minutes).
const fudge = 300 * time.Second

// signer signs the messages of one answer, or one query.
type signer struct {
	key *tsigKey
	// mac is that of the request, and then of the message before.
	mac []byte
	// sent counts the messages: from the second on, only the times are
	// covered beside the message (RFC 8945, section 5.3.1).
	sent int
}

// sign appends a TSIG record to a message and counts it in the header.
func (s *signer) sign(msg []byte, now time.Time) []byte {
	msg, s.mac = s.key.seal(msg, s.mac, s.sent > 0, signedAt(now))
	s.sent++
	return msg
}

// seal appends a TSIG record to a message and returns its MAC, too. An answer to
// a query that was signed too early or late carries the query's time, and the
// server's in the other data (RFC 8945, section 5.2.3).
func (k *tsigKey) seal(msg, before []byte, timesOnly bool, v variables) (signed, mac []byte) {
	id := binary.BigEndian.Uint16(msg)
	h := k.start(before)
	h.Write(msg)
	if timesOnly {
		h.Write(v.times(nil))
	} else {
		h.Write(v.covered(k))
	}
	mac = h.Sum(nil)
	return k.appendRecord(msg, mac, id, v), mac
}

// start begins a MAC, which covers the one before if there is any.
func (k *tsigKey) start(before []byte) hash.Hash {
	h := hmac.New(k.hash, k.secret)
	if before != nil {
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(before))))
		h.Write(before)
	}
	return h
}

// variables are what a MAC covers beside the message (RFC 8945, section 4.3.3).
type variables struct {
	signed uint64 // seconds since 1970
	fudge  uint16 // seconds
	rcode  uint16
	other  []byte
}

// signedAt are those of a message without an error.
func signedAt(now time.Time) variables {
	return variables{signed: uint64(now.Unix()), fudge: uint16(fudge / time.Second)}
}

func (v variables) times(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append48(b, v.signed), v.fudge)
}

func append48(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(n>>32)), uint32(n))
}

func (v variables) covered(k *tsigKey) []byte {
	b := append([]byte(k.name), 0, mdns.ClassANY, 0, 0, 0, 0)
	b = v.times(append(b, k.algorithm...))
	b = binary.BigEndian.AppendUint16(b, v.rcode)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.other)))
	return append(b, v.other...)
}

// appendRecord writes the record (RFC 8945, section 4.2). The MAC is empty for
// an error that is not signed.
func (k *tsigKey) appendRecord(msg, mac []byte, id uint16, v variables) []byte {
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	msg = append(msg, k.name...)
	msg = append(msg, 0, byte(mdns.TypeTSIG), 0, mdns.ClassANY, 0, 0, 0, 0)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(k.algorithm)+tsigFixed+len(mac)+len(v.other)))
	msg = v.times(append(msg, k.algorithm...))
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(mac)))
	msg = append(msg, mac...)
	msg = binary.BigEndian.AppendUint16(msg, id)
	msg = binary.BigEndian.AppendUint16(msg, v.rcode)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(v.other)))
	return append(msg, v.other...)
}

// tsigFixed is the length of the record's data without algorithm, MAC and other
// data.
const tsigFixed = 6 + 2 + 2 + 2 + 2 + 2

// maxTSIG bounds the records that are written.
const maxTSIG = 255 + 10 + 13 + tsigFixed + sha512.Size + 6

// tsig is a TSIG record as it came.
type tsig struct {
	at              int    // offset of the record in the message
	name, algorithm string // wire form, lower case
	mac             []byte
	id              uint16
	variables
}

var errTSIG = errors.New("malformed TSIG")

// parseTSIG reads the record at the offset, which must be the message's last.
func parseTSIG(msg []byte, at int) (*tsig, error) {
	t := &tsig{at: at}
	name, off := plainName(msg, at)
	if off < 0 || off+10 > len(msg) || binary.BigEndian.Uint16(msg[off+2:]) != mdns.ClassANY || binary.BigEndian.Uint32(msg[off+4:]) != 0 {
		return nil, errTSIG
	}
	t.name = name
	end := off + 10 + int(binary.BigEndian.Uint16(msg[off+8:]))
	if end != len(msg) {
		return nil, errTSIG
	}
	if t.algorithm, off = plainName(msg, off+10); off < 0 {
		return nil, errTSIG
	}
	b := msg[off:]
	if len(b) < 10 {
		return nil, errTSIG
	}
	t.signed = uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
	t.fudge = binary.BigEndian.Uint16(b[6:])
	n := int(binary.BigEndian.Uint16(b[8:]))
	if b = b[10:]; len(b) < n+6 {
		return nil, errTSIG
	}
	t.mac, b = b[:n], b[n:]
	t.id, t.rcode = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if t.other = b[6:]; len(t.other) != int(binary.BigEndian.Uint16(b[4:])) {
		return nil, errTSIG
	}
	return t, nil
}

// plainName reads a name that must not be compressed, in lower case, and
// returns the offset behind it, -1 if there is none.
func plainName(msg []byte, at int) (string, int) {
	var name []byte
	for off := at; off < len(msg); { // a label a turn
		l := int(msg[off])
		if l > 63 || off+1+l > len(msg) || len(name)+1+l > 255 {
			return "", -1
		}
		name = append(name, msg[off])
		for _, c := range msg[off+1 : off+1+l] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			name = append(name, c)
		}
		if off += 1 + l; l == 0 {
			return string(name), off
		}
	}
	return "", -1
}

// verify reports whether the message that the record stood in was signed by the
// key, after a message with the MAC before: 0, or an error as TSIG names it.
func (k *tsigKey) verify(msg []byte, t *tsig, before []byte, now time.Time) uint16 {
	if t.algorithm != k.algorithm {
		return mdns.RcodeBadKey
	}
	h := k.start(before)
	head := [headerLen]byte(msg) // as it was before the record was added
	binary.BigEndian.PutUint16(head[:], t.id)
	binary.BigEndian.PutUint16(head[10:], binary.BigEndian.Uint16(msg[10:])-1)
	h.Write(head[:])
	h.Write(msg[headerLen:t.at])
	h.Write(t.covered(k))
	if !hmac.Equal(h.Sum(nil), t.mac) { // a MAC that is cut short is not taken
		return mdns.RcodeBadSig
	}
	if apart := now.Unix() - int64(t.signed); apart > int64(t.fudge) || -apart > int64(t.fudge) {
		return mdns.RcodeBadTime
	}
	return 0
}
