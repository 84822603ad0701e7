package route53

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/draasd/draas/schemes/dns"
)

// credentials are an access key. They do not print their secret.
type credentials struct {
	id, secret string
	token      string // of a session; mostly empty
}

// String names the key.
func (c credentials) String() string { return c.id }

// GoString is String: %#v is no way around it.
func (c credentials) GoString() string { return c.String() }

// LogValue is String.
func (c credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

func readCredentials(file string) (credentials, error) {
	text, err := dns.ReadSecret(file)
	if err != nil {
		return credentials{}, err
	}
	c, err := parseCredentials(text)
	if err != nil {
		return credentials{}, fmt.Errorf("read credentials: %s: %w", file, err)
	}
	return c, nil
}

// parseCredentials reads one profile of the form that the aws command keeps in
// ~/.aws/credentials. Its errors do not quote the text.
func parseCredentials(text []byte) (credentials, error) {
	var c credentials
	into := map[string]*string{"aws_access_key_id": &c.id, "aws_secret_access_key": &c.secret, "aws_session_token": &c.token}
	profiles, line := 0, 0
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		line++
		said := strings.TrimSpace(scan.Text())
		switch {
		case said == "", said[0] == '#', said[0] == ';':
			continue
		case said[0] == '[' && strings.HasSuffix(said, "]"):
			if profiles++; profiles > 1 {
				return credentials{}, fmt.Errorf("line %d: a second profile: which is meant?", line)
			}
			continue
		}
		key, value, found := strings.Cut(said, "=")
		to := into[strings.ToLower(strings.TrimSpace(key))]
		if !found || to == nil {
			return credentials{}, fmt.Errorf("line %d: want KEY = VALUE, KEY being aws_access_key_id, aws_secret_access_key or aws_session_token", line)
		}
		if *to != "" {
			return credentials{}, fmt.Errorf("line %d: twice", line)
		}
		*to = strings.TrimSpace(value)
	}
	if c.id == "" || c.secret == "" {
		return credentials{}, errors.New("want both aws_access_key_id and aws_secret_access_key")
	}
	for _, v := range []string{c.id, c.secret, c.token} {
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return credentials{}, errors.New("a key with a character that no key has")
		}
	}
	return c, nil
}
