package cloud

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/gophercloud/gophercloud/v2"
)

// Bounds of the files, in octets.
const (
	maxFile  = 64 << 10
	maxRoots = 4 << 20
)

// Source says which cloud of which file.
type Source struct {
	// File is a clouds.yaml. A secure.yaml beside it counts more where both
	// have a key, as with OpenStack's own clients.
	File   string
	Name   string // the cloud's, in the file
	Region string // empty: the cloud's

	// AllowUnverified takes `verify: false`, which lets anybody on the way read
	// the password. Without it that is an error.
	AllowUnverified bool
	// AllowPlain takes addresses of http beyond this machine.
	AllowPlain bool
}

// Cloud is what a clouds.yaml says of one: where it is, who we are there. It
// prints no secret.
type Cloud struct {
	Name      string // in the file
	Region    string // empty: the catalog has only one
	Interface gophercloud.Availability
	AuthURL   string // without the version
	// Unverified: nobody checks who answers (Source.AllowUnverified).
	Unverified bool
	// Plain: addresses of http are taken (Source.AllowPlain).
	Plain bool
	// Sum is of what was read: another one, other credentials.
	Sum [sha256.Size]byte

	auth        gophercloud.AuthOptions
	projectName string            // said beside the id, so it has to be that one's
	overrides   map[string]string // endpoints by type of service
	files       tlsFiles
}

// String names the cloud and its identity service.
func (c Cloud) String() string { return fmt.Sprintf("cloud %s at %s", c.Name, c.AuthURL) }

// GoString is String: %#v is no way around it.
func (c Cloud) GoString() string { return c.String() }

// LogValue implements slog.LogValuer.
func (c Cloud) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Secrets are what must not be repeated in any text.
func (c Cloud) Secrets() []string {
	var out []string
	for _, s := range []string{c.auth.Password, c.auth.ApplicationCredentialSecret, c.auth.TokenID} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Auth is for gophercloud. Tokens are renewed by it, unless the file has
// nothing but a token.
func (c Cloud) Auth() gophercloud.AuthOptions {
	auth := c.auth
	if auth.Scope != nil {
		scope := *auth.Scope
		auth.Scope = &scope
	}
	return auth
}

// Endpoint is for gophercloud's own look into the catalog.
func (c Cloud) Endpoint() gophercloud.EndpointOpts {
	return gophercloud.EndpointOpts{Region: c.Region, Availability: c.Interface}
}

// Read reads a cloud, and sees that the files it names can be used. Nothing of
// the environment has a say. Its errors name keys and files, and quote no
// value.
func Read(s Source) (Cloud, error) {
	text, err := readFile(s.File, maxFile)
	if err != nil {
		return Cloud{}, fmt.Errorf("read clouds: %w", err)
	}
	dir := filepath.Dir(s.File)
	secureFile := filepath.Join(dir, "secure.yaml")
	secure, err := readFile(secureFile, maxFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Cloud{}, fmt.Errorf("read clouds: %w", err)
	}
	for file, text := range map[string][]byte{s.File: text, secureFile: secure} {
		if err := checkMode(file, text); err != nil {
			return Cloud{}, fmt.Errorf("read clouds: %w", err)
		}
	}
	c, err := Parse(s, text, secure)
	if err != nil {
		return Cloud{}, fmt.Errorf("read clouds: %s: %w", s.File, err)
	}
	if _, err := c.tlsConfig(); err != nil {
		return Cloud{}, fmt.Errorf("read clouds: %s: %w", s.File, err)
	}
	return c, nil
}

// Parse is Read without files: text is the clouds.yaml, secure the secure.yaml
// or nil. The source's file only says what paths are relative to.
func Parse(s Source, text, secure []byte) (Cloud, error) {
	if s.Name == "" {
		return Cloud{}, errors.New("which cloud?")
	}
	if len(text) > maxFile || len(secure) > maxFile {
		return Cloud{}, fmt.Errorf("more than %d octets", maxFile)
	}
	e, err := readEntry(s.Name, text, secure)
	if err != nil {
		return Cloud{}, err
	}
	c, err := e.cloud(s)
	if err != nil {
		return Cloud{}, fmt.Errorf("cloud %q: %w", s.Name, err)
	}
	sum := sha256.New()
	for _, part := range [][]byte{text, {0}, secure} {
		_, _ = sum.Write(part) // never fails
	}
	sum.Sum(c.Sum[:0])
	return c, nil
}

// readFile reads a file up to a bound.
func readFile(file string, bound int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(f, bound+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > bound {
		return nil, fmt.Errorf("%s has more than %d octets", file, bound)
	}
	return text, nil
}

// checkMode refuses a file with secrets that others may read.
func checkMode(file string, text []byte) error {
	if text == nil || !holdsSecret(text) {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s is open to others (mode %04o): chmod o=", file, mode)
	}
	return nil
}
