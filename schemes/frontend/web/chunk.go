package web

import (
	"bytes"
)

// chunks reads a body that comes in chunks (RFC 9112, 7.1). Extensions are
// left out, as they are for one hop; so is whatever two readers could see
// differently: sizes with signs, spaces or a prefix, and lines that do not end
// in CRLF.
type chunks struct {
	state    chunkState
	left     int64 // of the chunk
	seen     int   // bytes of the line, or of the trailer
	digits   int
	trailer  []byte // as it came, its empty line with it
	fieldsOf []field
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkEnd
)

// Bounds of what stands around chunks, in bytes.
const (
	maxExtension = 256
	maxTrailer   = 8 << 10
)

func (c *chunks) reset() { *c = chunks{trailer: c.trailer[:0], fieldsOf: c.fieldsOf[:0]} }

// decode moves the data of what b holds to its beginning. It returns how much
// data there is, and how many bytes of b were read: fewer than b has only at
// the end of the body.
func (c *chunks) decode(b []byte) (data, read int, err error) {
	for read < len(b) && c.state != chunkEnd {
		ch := b[read]
		switch c.state {
		case chunkData:
			n := int(min(c.left, int64(len(b)-read)))
			copy(b[data:], b[read:read+n])
			data, read = data+n, read+n
			if c.left -= int64(n); c.left == 0 {
				c.state = chunkDataCR
			}
			continue
		case chunkTrailer:
			n, err := c.trail(b[read:])
			read += n
			if err != nil {
				return data, read, err
			}
			continue
		case chunkSize:
			err = c.size(ch)
		case chunkExtension:
			err = c.extension(ch)
		case chunkSizeLF:
			err = c.lf(ch, chunkData)
			c.seen, c.digits = 0, 0
			if c.left == 0 {
				c.state = chunkTrailer
			}
		case chunkDataCR:
			if c.state = chunkDataLF; ch != '\r' {
				err = faultChunk
			}
		case chunkDataLF:
			err = c.lf(ch, chunkSize)
		}
		if err != nil {
			return data, read, err
		}
		read++
	}
	return data, read, nil
}

func (c *chunks) lf(ch byte, next chunkState) error {
	if ch != '\n' {
		return faultChunk
	}
	c.state = next
	return nil
}

func (c *chunks) size(ch byte) error {
	var d byte
	switch {
	case '0' <= ch && ch <= '9':
		d = ch - '0'
	case 'a' <= ch && ch <= 'f':
		d = ch - 'a' + 10
	case 'A' <= ch && ch <= 'F':
		d = ch - 'A' + 10
	case c.digits == 0:
		return faultChunk
	case ch == '\r':
		c.state = chunkSizeLF
		return nil
	case ch == ';':
		c.state = chunkExtension
		return nil
	default:
		return faultChunk
	}
	if c.digits++; c.digits > 15 {
		return faultChunk
	}
	c.left = c.left<<4 | int64(d)
	return nil
}

func (c *chunks) extension(ch byte) error {
	if ch == '\r' {
		c.state = chunkSizeLF
		return nil
	}
	if c.seen++; c.seen > maxExtension || class[ch]&inValue == 0 {
		return faultChunk
	}
	return nil
}

// trail reads of the fields behind the last chunk.
func (c *chunks) trail(b []byte) (int, error) {
	i := bytes.IndexByte(b, '\n')
	n := i + 1
	if i < 0 {
		n = len(b)
	}
	if c.seen += n; c.seen > maxTrailer {
		return 0, faultTrailer
	}
	c.trailer = append(c.trailer, b[:n]...)
	if i < 0 {
		return n, nil
	}
	end := len(c.trailer)
	if end < 2 || c.trailer[end-2] != '\r' {
		return n, faultTrailer
	}
	if end > 2 && !bytes.HasSuffix(c.trailer, []byte("\r\n\r\n")) {
		return n, nil
	}
	c.state = chunkEnd
	return n, c.fields()
}

// fields reads the trailer. What framing, routing or identity rest on has no
// business in it and is left out (RFC 9110, 6.5.1).
func (c *chunks) fields() (err error) {
	c.fieldsOf, err = parseFields(c.fieldsOf[:0], c.trailer, 0, len(c.trailer))
	for i := range c.fieldsOf {
		switch c.fieldsOf[i].known {
		case other, fieldContentType:
		default:
			c.fieldsOf[i].drop = true
		}
	}
	if err != nil {
		return faultTrailer
	}
	return nil
}

// ended reports whether all of the body, and its trailer, was read.
func (c *chunks) ended() bool { return c.state == chunkEnd }

const hexDigits = "0123456789abcdef"

// appendSize writes the line before a chunk's data.
func appendSize(to []byte, n int) []byte {
	var digits [16]byte
	i := len(digits)
	for first := true; first || n > 0; first = false {
		i--
		digits[i] = hexDigits[n&15]
		n >>= 4
	}
	return append(append(to, digits[i:]...), "\r\n"...)
}

// appendLast writes what ends a body in chunks, with the trailer's fields.
func appendLast(to []byte, b []byte, fields []field) []byte {
	to = append(to, "0\r\n"...)
	for i := range fields {
		if !fields[i].drop {
			to = appendField(to, fields[i].name.of(b), fields[i].value.of(b))
		}
	}
	return append(to, "\r\n"...)
}

func appendField(to, name, value []byte) []byte {
	to = append(append(to, name...), ": "...)
	return append(append(to, value...), "\r\n"...)
}
