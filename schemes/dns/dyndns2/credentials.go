package dyndns2

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// maxCredentials bounds the credentials file, in octets.
const maxCredentials = 4 << 10

// Credentials are what the service knows an account by. They do not print
// their secret.
type Credentials struct {
	user, password string
	state          fileState
}

// fileState tells whether somebody has touched the file since.
type fileState struct {
	sum      [sha256.Size]byte
	modified int64 // Unix time in nanoseconds
}

// String says nothing of either: at some services the user's name is a key.
func (Credentials) String() string { return "credentials" }

// GoString is String: %#v is no way around it.
func (c Credentials) GoString() string { return c.String() }

// LogValue is String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// ReadCredentials reads user and password from a file that nobody but its
// owner and group may read.
func ReadCredentials(file string) (Credentials, error) {
	f, err := os.Open(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("read credentials: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return Credentials{}, fmt.Errorf("read credentials: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return Credentials{}, fmt.Errorf("read credentials: %s is open to others (mode %04o): chmod o=", file, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return Credentials{}, fmt.Errorf("read credentials: %w", err)
	}
	c, err := ParseCredentials(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("read credentials: %s: %w", file, err)
	}
	c.state = fileState{sum: sha256.Sum256(text), modified: info.ModTime().UnixNano()}
	return c, nil
}

// ParseCredentials reads one line user:password, or the user on one line and
// the password on the next. Its errors do not quote the text.
func ParseCredentials(text []byte) (Credentials, error) {
	if len(text) > maxCredentials {
		return Credentials{}, fmt.Errorf("more than %d octets", maxCredentials)
	}
	var lines []string
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			lines = append(lines, string(line))
		}
	}
	var c Credentials
	switch len(lines) {
	case 1:
		c.user, c.password, _ = strings.Cut(lines[0], ":")
	case 2:
		c.user, c.password = lines[0], lines[1]
	}
	if c.user == "" || c.password == "" {
		return Credentials{}, errors.New("want user:password in one line, or the user and the password on a line each")
	}
	if strings.Contains(c.user, ":") {
		return Credentials{}, errors.New("a user's name cannot have a colon (RFC 7617, section 2)")
	}
	for _, b := range []byte(c.user + c.password) {
		if b < ' ' || b == 0x7f {
			return Credentials{}, errors.New("a control character (RFC 7617, section 2)")
		}
	}
	return c, nil
}

// in reports whether a text that is to be shown repeats a part of them.
func (c Credentials) in(text string) bool {
	return strings.Contains(text, c.password) || strings.Contains(text, c.user)
}
