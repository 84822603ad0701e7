package fakecloud

import (
	"bytes"
	"crypto/md5" // Glance's checksum and Swift's ETag are MD5
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// Content is the data of an image or object: held in memory, or generated when
// it is read.
type Content struct {
	size   int64
	md5    string
	sha512 string
	held   []byte
	made   *pattern
}

// Bytes is content held in memory.
func Bytes(b []byte) *Content {
	c := &Content{held: b, size: int64(len(b))}
	c.hash(bytes.NewReader(b))
	return c
}

// Generated is content of any size that takes no memory: the same bytes for
// the same seed. Its hashes cost one reading.
func Generated(seed uint64, size int64) *Content {
	c := &Content{size: size, made: newPattern(seed)}
	c.hash(io.NewSectionReader(c.made, 0, size))
	return c
}

// Size in bytes.
func (c *Content) Size() int64 { return c.size }

// MD5 in hex: Glance's checksum, Swift's ETag.
func (c *Content) MD5() string { return c.md5 }

// SHA512 in hex: Glance's os_hash_value.
func (c *Content) SHA512() string { return c.sha512 }

// ReadAt implements io.ReaderAt.
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	if c.made != nil {
		return io.NewSectionReader(c.made, 0, c.size).ReadAt(p, off)
	}
	return bytes.NewReader(c.held).ReadAt(p, off)
}

func (c *Content) hash(r io.Reader) {
	short, long := md5.New(), sha512.New()
	_, _ = io.Copy(io.MultiWriter(short, long), r) // our own readers do not fail
	c.md5, c.sha512 = hex.EncodeToString(short.Sum(nil)), hex.EncodeToString(long.Sum(nil))
}

// pattern is an endless stream of bytes that can be read anywhere: a random
// block again and again, each 4 KiB of it beginning with its own offset.
type pattern struct {
	block []byte
}

const (
	blockSize = 1 << 16
	pageSize  = 1 << 12
)

func newPattern(seed uint64) *pattern {
	p := &pattern{block: make([]byte, blockSize)}
	source := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	_, _ = source.Read(p.block) // never fails
	return p
}

func (g *pattern) ReadAt(p []byte, off int64) (int, error) {
	var stamp [8]byte
	for n := 0; n < len(p); {
		at := off + int64(n)
		in := at % pageSize
		if in < int64(len(stamp)) {
			binary.BigEndian.PutUint64(stamp[:], uint64(at-in))
			n += copy(p[n:], stamp[in:])
			continue
		}
		from := at % blockSize
		n += copy(p[n:], g.block[from:from-in+pageSize])
	}
	return len(p), nil
}

// receive reads a body to its announced end. An error says that it ended early.
func receive(body io.Reader) (*Content, error) {
	held, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	return Bytes(held), nil
}

// payload is a body on its way to the client: parts of contents, one after
// another.
type payload struct {
	parts []span
	size  int64
}

type span struct {
	from *Content
	off  int64
	size int64
}

func (p *payload) add(c *Content, off, size int64) {
	p.parts = append(p.parts, span{c, off, size})
	p.size += size
}

// slice is the part of a payload that a range asks for.
func (p *payload) slice(off, size int64) *payload {
	out := &payload{}
	for _, part := range p.parts {
		if off >= part.size {
			off -= part.size
			continue
		}
		n := min(part.size-off, size-out.size)
		if n <= 0 {
			break
		}
		out.add(part.from, part.off+off, n)
		off = 0
	}
	return out
}

func (p *payload) send(q *request, status int, f *hit) {
	q.w.Header().Set("Content-Length", strconv.FormatInt(p.size, 10))
	q.w.WriteHeader(status)
	if q.r.Method == http.MethodHead {
		return
	}
	readers := make([]io.Reader, len(p.parts))
	for i, part := range p.parts {
		readers[i] = io.NewSectionReader(part.from, part.off, part.size)
	}
	f.through(q, io.MultiReader(readers...), p.size)
}

// close forgets a payload that is not sent after all.
func (p *payload) close() { p.parts = nil }

// ranged cuts a payload as the Range header says: 206 and the part, 200 and
// the whole when there is none, 416 when it lies beyond the end. One range is
// answered, as Glance and Swift do; of several the first.
func (q *request) ranged(p *payload) (*payload, int, string, error) {
	spec, found := strings.CutPrefix(q.r.Header.Get("Range"), "bytes=")
	if !found {
		return p, http.StatusOK, "", nil
	}
	spec, _, _ = strings.Cut(spec, ",")
	first, last, _ := strings.Cut(strings.TrimSpace(spec), "-")
	from, errFrom := strconv.ParseInt(first, 10, 64)
	to, errTo := strconv.ParseInt(last, 10, 64)
	switch {
	case errFrom != nil && errTo != nil, errFrom == nil && errTo == nil && from > to:
		return p, http.StatusOK, "", nil // not understood: as if it were not there
	case errFrom != nil: // the last bytes
		from, to = max(0, p.size-to), p.size-1
	case errTo != nil || to >= p.size:
		to = p.size - 1
	}
	if from >= p.size {
		return nil, 0, "", failed(http.StatusRequestedRangeNotSatisfiable, "The Range requested is not available.")
	}
	info := "bytes " + strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to, 10) + "/" + strconv.FormatInt(p.size, 10)
	return p.slice(from, to-from+1), http.StatusPartialContent, info, nil
}
