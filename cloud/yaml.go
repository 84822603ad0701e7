package cloud

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v2"
)

// node is a value of YAML as it is written: a password of digits is no number.
type node struct {
	text   string
	list   []node
	fields map[string]node
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (n *node) UnmarshalYAML(unmarshal func(any) error) error {
	var fields map[string]node
	asFields := unmarshal(&fields)
	if asFields == nil && fields != nil {
		n.fields = fields
		return nil
	}
	// The reader uses the room of these errors again.
	var several *yaml.TypeError
	if errors.As(asFields, &several) {
		asFields = &yaml.TypeError{Errors: slices.Clone(several.Errors)}
	}
	if err := unmarshal(&n.list); err == nil && n.list != nil {
		return nil
	}
	if unmarshal(&n.text) == nil {
		return nil
	}
	return asFields
}

// yamlLine is what of the YAML reader's errors quotes nothing.
var yamlLine = regexp.MustCompile(`line \d+`)

// readClouds reads the clouds of a file. Its errors quote no value.
func readClouds(text []byte) (map[string]node, error) {
	var file struct {
		Clouds map[string]node `yaml:"clouds"`
		Rest   map[string]node `yaml:",inline"` // cache, client and the like: of other programs
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		what := "not YAML as it should be"
		if strings.Contains(err.Error(), "already set in map") {
			what = "a key is set twice, or set beside a merged one"
		}
		if line := yamlLine.FindString(err.Error()); line != "" {
			what += ", " + line
		}
		return nil, errors.New(what)
	}
	return file.Clouds, nil
}

// secretKeys are those of a cloud's auth that must not be seen.
var secretKeys = []string{"password", "application_credential_secret", "token", "passcode"}

// holdsSecret reports whether a clouds.yaml, or a secure.yaml, holds a secret of
// whichever cloud. What cannot be read may.
func holdsSecret(text []byte) bool {
	all, err := readClouds(text)
	for _, c := range all {
		for _, k := range secretKeys {
			if c.fields["auth"].fields[k].text != "" || c.fields[k].text != "" {
				return true
			}
		}
	}
	return err != nil
}

// entry is a cloud of the file, both files merged.
type entry struct {
	node
	used map[string]bool // keys that were asked for
}

func readEntry(name string, text, secure []byte) (*entry, error) {
	all, err := readClouds(text)
	if err != nil {
		return nil, fmt.Errorf("not a clouds.yaml: %w", err)
	}
	n, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("not a clouds.yaml with a cloud %q", name)
	}
	if len(secure) > 0 {
		more, err := readClouds(secure)
		if err != nil {
			return nil, fmt.Errorf("secure.yaml: %w", err)
		}
		n = merge(n, more[name])
	}
	if n.fields["auth"].fields == nil {
		return nil, fmt.Errorf("cloud %q has no auth", name)
	}
	return &entry{node: n, used: make(map[string]bool)}, nil
}

// merge is what two files say of a cloud; over counts more.
func merge(under, over node) node {
	if over.fields == nil || under.fields == nil {
		if over.fields == nil && over.list == nil && over.text == "" {
			return under
		}
		return over
	}
	out := node{fields: make(map[string]node)}
	for k, v := range under.fields {
		out.fields[k] = v
	}
	for k, v := range over.fields {
		out.fields[k] = merge(out.fields[k], v)
	}
	return out
}

// text is the value of a key, "" if it is not there; "auth.x" is in auth. The
// key counts as known.
func (e *entry) text(key string) (string, error) {
	e.used[key] = true
	fields, k := e.fields, key
	if inner, ok := strings.CutPrefix(key, "auth."); ok {
		fields, k = e.fields["auth"].fields, inner
	}
	n := fields[k]
	if n.list != nil || n.fields != nil {
		return "", fmt.Errorf("%s: want one value", key)
	}
	return n.text, nil
}

// texts are the values of keys, by key.
func (e *entry) texts(keys ...string) (map[string]string, error) {
	out := make(map[string]string, len(keys))
	for _, k := range keys {
		v, err := e.text(k)
		if err != nil {
			return nil, err
		}
		out[k] = v
	}
	return out, nil
}

// same is the value of keys that mean one thing.
func (e *entry) same(keys ...string) (string, error) {
	all, err := e.texts(keys...)
	if err != nil {
		return "", err
	}
	value, from := "", ""
	for _, k := range keys {
		switch v := all[k]; {
		case v == "" || v == value:
		case value != "":
			return "", fmt.Errorf("%s and %s differ", from, k)
		default:
			value, from = v, k
		}
	}
	return value, nil
}

// harmless are keys for other programs, which change nothing of what is read
// here.
var harmless = []string{"image_format", "image_api_use_tasks", "floating_ip_source", "secgroup_source", "networks", "nat_destination", "nat_source",
	"external_network", "internal_network", "disable_vendor_agent", "requires_floating_ip", "cache", "metrics", "api_timeout", "private", "force_ipv4",
	"prefer_ipv6", "message", "use_direct_get", "default_network", "rate_limit"}

// keyLike is what may be named in an error. A slip in the file can make a key
// of a secret.
var keyLike = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,60}$`)

func keyName(k string, v node) string {
	if !keyLike.MatchString(k) || v.text == "" && v.list == nil && v.fields == nil {
		return "something that looks like no key"
	}
	return k
}

// strangers are the keys that nobody asked for, and that might mean something.
func (e *entry) strangers() error {
	var found []string
	for k := range e.fields {
		api := strings.HasSuffix(k, "_api_version") || strings.HasSuffix(k, "_default_microversion")
		if k != "auth" && !e.used[k] && !api && !slices.Contains(harmless, k) {
			found = append(found, keyName(k, e.fields[k]))
		}
	}
	for k, v := range e.fields["auth"].fields {
		if !e.used["auth."+k] {
			found = append(found, "auth."+keyName(k, v))
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return fmt.Errorf("%q: not known here, and may change which cloud is reached, or as whom", found)
}
