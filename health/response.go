package health

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Bounds of what is read of one HTTP response, in bytes unless said.
const (
	maxHeaderLine = 8 << 10
	maxHeader     = 64 << 10  // all header lines, those of interim responses included
	maxBody       = 64 << 10  // what a body is matched on
	maxFraming    = 512 << 10 // chunk sizes, extensions and line ends around maxBody
	maxInterim    = 8         // responses 1xx before the final one
)

var (
	errTooLarge = errors.New("more than a probe reads")
	errNotHTTP  = errors.New("not an HTTP/1 response")
	errFraming  = errors.New("bad message framing")
)

// framing says where a message body ends (RFC 9112, section 6.3).
type framing uint8

const (
	toEOF framing = iota
	byLength
	byChunks
	noBody
)

// head is what a probe needs of a response's header.
type head struct {
	status  int
	framing framing
	length  int64 // with byLength
}

// lines reads lines within a budget of bytes.
type lines struct {
	br   *bufio.Reader
	left int
}

// next returns the next line without its end, which RFC 9112, section 2.2
// allows to be a bare LF. It is valid until the next read.
func (l *lines) next() ([]byte, error) {
	line, err := l.br.ReadSlice('\n')
	l.left -= len(line)
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || l.left < 0:
		return nil, errTooLarge
	case err == io.EOF && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	line = line[:len(line)-1]
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// readHead reads up to the end of the final response's header, past interim
// responses (RFC 9110, section 15.2).
func readHead(br *bufio.Reader) (head, error) {
	in := &lines{br: br, left: maxHeader}
	for range maxInterim {
		h, err := readOneHead(in)
		if err != nil {
			return head{}, err
		}
		if h.status >= 200 || h.status == 101 {
			return h, nil
		}
	}
	return head{}, errTooLarge
}

func readOneHead(in *lines) (head, error) {
	line, err := in.next()
	if err != nil {
		return head{}, err
	}
	h := head{length: -1}
	if h.status, err = parseStatusLine(line); err != nil {
		return head{}, err
	}
	old := bytes.HasPrefix(line, []byte("HTTP/1.0")) // before line is overwritten
	chunked := false
	for { // ends with the header's budget
		line, err := in.next()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return head{}, err
		}
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			continue // an obsolete folded line, never of a field that matters here
		}
		if err := h.field(line, &chunked); err != nil {
			return head{}, err
		}
	}
	switch {
	case chunked && old: // a MUST of RFC 9112, section 6.1
		return head{}, fmt.Errorf("%w: transfer encoding in HTTP/1.0", errFraming)
	case h.status < 200 || h.status == 204 || h.status == 304:
		h.framing = noBody
	case chunked: // overrides a length
		h.framing = byChunks
	case h.length >= 0:
		h.framing = byLength
	}
	return h, nil
}

// parseStatusLine takes "HTTP/1.x NNN reason" (RFC 9112, section 4).
func parseStatusLine(line []byte) (int, error) {
	const version = "HTTP/1.x "
	if len(line) < len(version)+3 || !bytes.HasPrefix(line, []byte("HTTP/1.")) ||
		!digit(line[7]) || line[8] != ' ' {
		return 0, errNotHTTP
	}
	code := line[len(version):]
	if !digit(code[0]) || !digit(code[1]) || !digit(code[2]) || len(code) > 3 && code[3] != ' ' {
		return 0, errNotHTTP
	}
	status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	if status < 100 {
		return 0, errNotHTTP
	}
	return status, nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func (h *head) field(line []byte, chunked *bool) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return errNotHTTP
	}
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			return fmt.Errorf("%w: content length %.20q", errFraming, value)
		}
		h.length = int64(n)
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if *chunked || !bytes.EqualFold(value, []byte("chunked")) {
			return fmt.Errorf("%w: transfer encoding %.20q", errFraming, value)
		}
		*chunked = true
	}
	return nil
}

// readBody returns the body's first maxBody bytes. A body that ends before its
// framing says so is an error, if it ends within them.
func readBody(br *bufio.Reader, h head) ([]byte, error) {
	switch h.framing {
	case noBody:
		return nil, nil
	case byChunks:
		return readChunks(br)
	case byLength:
		want := min(h.length, maxBody)
		body, err := io.ReadAll(io.LimitReader(br, want))
		if err == nil && int64(len(body)) < want {
			err = io.ErrUnexpectedEOF
		}
		return body, err
	}
	return io.ReadAll(io.LimitReader(br, maxBody))
}

// readChunks reads the chunked transfer coding (RFC 9112, section 7.1). It
// does not read the trailer: the body is complete before it.
func readChunks(br *bufio.Reader) ([]byte, error) {
	in := &lines{br: br, left: maxFraming}
	var body []byte
	for { // ends with the budget of framing, or with maxBody
		line, err := in.next()
		if err != nil {
			return nil, unexpected(err)
		}
		size, err := parseChunkSize(line)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			return body, nil
		}
		want := min(size, maxBody-uint64(len(body)))
		start := len(body)
		body = append(body, make([]byte, want)...)
		if _, err := io.ReadFull(br, body[start:]); err != nil {
			return nil, unexpected(err)
		}
		if len(body) == maxBody {
			return body, nil
		}
		if line, err = in.next(); err != nil {
			return nil, unexpected(err)
		}
		if len(line) != 0 {
			return nil, fmt.Errorf("%w: chunk is longer than its size", errFraming)
		}
	}
}

func parseChunkSize(line []byte) (uint64, error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	size, err := strconv.ParseUint(string(digits), 16, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: chunk size %.20q", errFraming, line)
	}
	return size, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
