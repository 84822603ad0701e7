package rfc2136

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// Key is a TSIG key (RFC 8945). It does not print its secret.
type Key struct {
	Name      string // fully qualified, lower case
	Algorithm string // fully qualified: "hmac-sha256."
	secret    string // base64
}

// Secret is the shared secret in base64. It is not to be printed.
func (k Key) Secret() string { return k.secret }

// String names the key.
func (k Key) String() string { return k.Name + " (" + strings.TrimSuffix(k.Algorithm, ".") + ")" }

// GoString is String: %#v is no way around it.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Bounds of a key.
const (
	maxKeyFile = 16 << 10 // octets
	minSecret  = 16       // octets, decoded
)

// ReadKey reads a key from a file that nobody but its owner and group may
// read.
func ReadKey(file string) (Key, error) {
	f, err := os.Open(file)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	} else if info.Mode().Perm()&0o007 != 0 {
		return Key{}, fmt.Errorf("read key: %s is open to others (mode %04o): chmod o=", file, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("read key: %s: %w", file, err)
	}
	return k, nil
}

// ParseKey reads what tsig-keygen writes, one key statement of BIND's, or one
// line ALGORITHM:NAME:SECRET as nsupdate and kdig take it. Its errors do not
// quote the text.
func ParseKey(text string) (Key, error) {
	if len(text) > maxKeyFile {
		return Key{}, fmt.Errorf("more than %d octets", maxKeyFile)
	}
	words, err := keyWords(text)
	if err != nil {
		return Key{}, err
	}
	var name, algorithm, secret string
	switch parts := strings.Split(strings.TrimSpace(text), ":"); {
	case len(parts) == 3 && len(words) == 1:
		algorithm, name, secret = parts[0], parts[1], parts[2]
	case len(words) > 4 && words[0] == "key" && words[2] == "{" && words[len(words)-1] == ";" && words[len(words)-2] == "}":
		name = words[1]
		for body := words[3 : len(words)-2]; len(body) > 0; body = body[3:] {
			if len(body) < 3 || body[2] != ";" {
				return Key{}, errors.New(`want key "NAME" { algorithm ...; secret "..."; };`)
			}
			into := map[string]*string{"algorithm": &algorithm, "secret": &secret}[body[0]]
			if into == nil || *into != "" {
				return Key{}, errors.New("want one algorithm and one secret, and nothing else")
			}
			*into = body[1]
		}
	default:
		return Key{}, errors.New(`want one key, as key "NAME" { algorithm hmac-sha256; secret "..."; }; or as ALGORITHM:NAME:SECRET`)
	}
	return newKey(name, algorithm, secret)
}

func newKey(name, algorithm, secret string) (Key, error) {
	k := Key{Name: mdns.CanonicalName(name), Algorithm: mdns.CanonicalName(algorithm), secret: secret}
	if err := dns.ValidName(k.Name); err != nil {
		return Key{}, errors.New("the key's name is none")
	}
	if !slices.Contains([]string{mdns.HmacSHA256, mdns.HmacSHA384, mdns.HmacSHA512}, k.Algorithm) {
		return Key{}, errors.New("want algorithm hmac-sha256, hmac-sha384 or hmac-sha512")
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return Key{}, errors.New("the secret is not base64")
	}
	if len(raw) < minSecret {
		return Key{}, fmt.Errorf("a secret of %d octets, at least %d", len(raw), minSecret)
	}
	return k, nil
}

// keyWords splits BIND's syntax into words, quotes and comments taken off;
// braces and semicolons are words.
func keyWords(text string) ([]string, error) {
	var words []string
	for text != "" {
		switch c := text[0]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			text = text[1:]
		case c == '#' || strings.HasPrefix(text, "//"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			var closed bool
			if _, text, closed = strings.Cut(text[2:], "*/"); !closed {
				return nil, errors.New("a comment does not end")
			}
		case c == '{' || c == '}' || c == ';':
			words, text = append(words, text[:1]), text[1:]
		case c == '"':
			word, rest, closed := strings.Cut(text[1:], `"`)
			if !closed {
				return nil, errors.New("a quotation does not end")
			}
			words, text = append(words, word), rest
		default:
			end := strings.IndexAny(text, " \t\r\n{};\"#")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
	return words, nil
}
