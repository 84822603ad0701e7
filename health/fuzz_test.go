package health

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"
)

// FuzzOutput: of what a command writes, in whatever pieces, the first line is
// told, harmless for a log and a terminal and short.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("mysqld is not running\nsecond line\n"), 1)
	f.Add([]byte("\x1b[31m\x00 \xff\xc3\u009b\u2028x"), 3)
	f.Add([]byte(" \t\n"+strings.Repeat("\u65e5\u672c", 300)), 7)
	f.Add(bytes.Repeat([]byte{0xf0, 0x9f, 0x98}, 500), 0)
	f.Fuzz(func(t *testing.T, said []byte, piece int) {
		var out firstBytes
		for rest := said; len(rest) > 0; {
			n := len(rest)
			if piece > 0 {
				n = min(piece, n)
			}
			if wrote, err := out.Write(rest[:n]); wrote != n || err != nil {
				t.Fatalf("wrote %d of %d, %v", wrote, n, err)
			}
			rest = rest[n:]
		}
		if !bytes.HasPrefix(said, out.kept) || len(out.kept) != min(len(said), maxOutput) {
			t.Fatalf("kept %d of %d bytes", len(out.kept), len(said))
		}
		for _, text := range []string{clip(fmt.Sprintf("exit status 1: %s", out.line())), clip(string(said)), failure("look", errors.New(string(said)), ClassOther).Detail} {
			if len(text) > maxDetail || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q", text)
			}
			if again := clip(text); again != strings.TrimSpace(text) {
				t.Fatalf("%q becomes %q", text, again)
			}
		}
	})
}

// spoken is a connection whose other end has said all that it will.
type spoken struct {
	net.Conn
	in    io.Reader
	asked []byte
}

func (s *spoken) Read(b []byte) (int, error)    { return s.in.Read(b) }
func (s *spoken) Write(b []byte) (int, error)   { s.asked = append(s.asked, b...); return len(b), nil }
func (*spoken) SetDeadline(time.Time) error     { return nil }
func (*spoken) SetReadDeadline(time.Time) error { return nil }

// FuzzDNSTalk: whatever comes on a connection that was asked on, what is taken
// is the first message with the question's number, and no more than so many
// others are read past. What is no message ends the look: a server that talks
// nonsense is not waited for.
func FuzzDNSTalk(f *testing.F) {
	question := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	question.Id = 0x1234
	framed := func(ids ...uint16) (b []byte) {
		for _, id := range ids {
			m := new(dns.Msg).SetReply(question)
			m.Id = id
			wire, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(wire))), wire...)
		}
		return b
	}
	f.Add(framed(0x1234))
	f.Add(framed(7, 8, 0x1234))
	f.Add(append([]byte{0, 2, 9, 9, 0, 13, 7, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff}, framed(0x1234)...))
	f.Add(framed(0x1235, 0x1234))
	f.Add(append(bytes.Repeat(framed(7), maxStray), framed(0x1234)...))
	f.Add(framed(0x1234)[:20])
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := &spoken{in: bytes.NewReader(said)}
		got, err := ask(t.Context(), conn, question)
		var want *dns.Msg
		for rest, n := said, 0; len(rest) >= 2 && n < maxStray; n++ {
			size := int(binary.BigEndian.Uint16(rest))
			if len(rest) < 2+size {
				break
			}
			wire := rest[2 : 2+size]
			rest = rest[2+size:]
			m := new(dns.Msg)
			if size < 12 || m.Unpack(wire) != nil {
				break
			}
			if m.Id == question.Id {
				want = m
				break
			}
		}
		if (err == nil) != (want != nil) || err == nil && got.String() != want.String() {
			t.Fatalf("took %v, %v; want %v", got, err, want)
		}
	})
}
