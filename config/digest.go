package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// normalize sorts the lists whose order has no meaning. Addresses keep
// theirs, the first one is probed; so do checks.
func normalize(c *Config) {
	for _, z := range c.DNS {
		slices.SortFunc(z.Records, func(a, b Record) int {
			return strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type)
		})
		slices.Sort(z.Update.Secondaries)
		slices.Sort(z.Hosted.Authorities)
		slices.Sort(z.Copies.Secondaries)
		slices.SortFunc(z.Copies.From, netip.Prefix.Compare)
		for _, r := range z.Records {
			slices.Sort(r.Value)
		}
	}
	for _, g := range c.Groups {
		slices.Sort(g.Services)
	}
	for _, s := range c.Services {
		slices.Sort(s.DNS.Also)
		s.Frontend.normalize()
		slices.SortStableFunc(s.Fence.Devices, func(a, b Device) int { return cmp.Compare(a.Site, b.Site) })
		slices.Sort(s.Fence.XDP)
		slices.Sort(s.Fence.Ports)
		slices.SortFunc(s.Fence.Protect, netip.Addr.Compare)
		for _, k := range s.Checks {
			slices.Sort(k.Status)
			slices.Sort(k.Expect)
		}
	}
}

// Digest is a hash of what the file means: of every value with its default,
// whatever the comments, spelling and order of tables. Members whose digests
// differ do not decide by the same rules, which blocks automatic moves. It
// covers paths as the file gives them (not as At made them) and never what
// they lead to.
func (c *Config) Digest() string { return c.digest }

// digest hashes the value as JSON without its empty parts: a key of a later
// release, left at an empty default, does not change the digests of files
// that do not use it, so that members can be upgraded one after the other.
func digest(c *Config) string {
	text, err := json.Marshal(c)
	if err != nil { // only a type that JSON cannot write: a fault of this package
		panic(fmt.Sprintf("digest configuration: %v", err))
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		panic(fmt.Sprintf("digest configuration: %v", err))
	}
	text, err = json.Marshal(withoutEmpty(v))
	if err != nil {
		panic(fmt.Sprintf("digest configuration: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// withoutEmpty drops the members of objects that are zero or empty. Elements
// of lists stay: their place has a meaning.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e = withoutEmpty(e); isEmpty(e) {
				delete(v, k)
			} else {
				v[k] = e
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutEmpty(v[i])
		}
	}
	return v
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}
