package nameserver

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// Key is a TSIG key.
type Key struct {
	Name      string // fully qualified
	Algorithm string // as configuration files write it: hmac-sha256
	Secret    string // base64
}

// NewKey makes a key with a secret of its own.
func NewKey(name, algorithm string) Key {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return Key{Name: name, Algorithm: algorithm, Secret: base64.StdEncoding.EncodeToString(secret)}
}

// File is the key as tsig-keygen writes it.
func (k Key) File() string {
	return fmt.Sprintf("key \"%s\" {\n\talgorithm %s;\n\tsecret \"%s\";\n};\n", k.Name, k.Algorithm, k.Secret)
}
