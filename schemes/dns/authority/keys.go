package authority

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// SigningKey is a key that signs a zone (DNSSEC), with the times that
// dnssec-keygen and dnssec-settime wrote beside it. It does not print its
// private part.
type SigningKey struct {
	public  mdns.DNSKEY
	tag     uint16
	private *ecdsa.PrivateKey
	// The zero time means always, for publish and activate, and never.
	created, publish, activate, inactive, remove time.Time
}

// String names the key.
func (k SigningKey) String() string {
	kind := "zsk"
	if k.Entry() {
		kind = "ksk"
	}
	return fmt.Sprintf("%s %s %d", k.public.Hdr.Name, kind, k.tag)
}

// GoString is String: %#v is no way around it.
func (k SigningKey) GoString() string { return k.String() }

// LogValue is String.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Entry reports whether the parent is to point to the key (RFC 4034, section
// 2.1.1: SEP).
func (k *SigningKey) Entry() bool { return k.public.Flags&mdns.SEP != 0 }

// DS is the record that the zone above has to have for the key, SHA-256.
func (k *SigningKey) DS() string {
	return strings.Join(strings.Fields(k.public.ToDS(mdns.SHA256).String()), " ")
}

// maxKeyFile bounds the files of a key, in octets.
const maxKeyFile = 16 << 10

// howToMake says how a zone comes to have a key.
const howToMake = "make one there with: dnssec-keygen -a ECDSAP256SHA256 -f KSK %s"

// ReadSigningKeys reads all keys of a zone in a directory, in the files that
// dnssec-keygen makes: Kexample.org.+013+12345.key and .private. The private ones
// must not be open to others.
func ReadSigningKeys(dir, zone string) ([]SigningKey, error) {
	zone = mdns.CanonicalName(zone)
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), "K"+zone+"+*.key"))
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", zone, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read keys of %s: none in %s; "+howToMake, zone, dir, zone)
	}
	slices.Sort(names)
	var keys []SigningKey
	for _, name := range names {
		public, err := readKeyFile(name, 0)
		if err != nil {
			return nil, fmt.Errorf("read keys of %s: %w", zone, err)
		}
		private, err := readKeyFile(strings.TrimSuffix(name, ".key")+".private", 0o007)
		if err != nil {
			return nil, fmt.Errorf("read keys of %s: %w", zone, err)
		}
		k, err := ParseSigningKey(zone, public, private)
		if err != nil {
			return nil, fmt.Errorf("read keys of %s: %s: %w", zone, name, err)
		}
		keys = append(keys, *k)
	}
	return keys, nil
}

// escapeGlob makes a pattern that matches the text.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(text)
}

func readKeyFile(name string, closed os.FileMode) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if info.Mode().Perm()&closed != 0 {
		return "", fmt.Errorf("%s is open to others (mode %04o): chmod o=", name, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxKeyFile {
		return "", fmt.Errorf("%s has more than %d octets", name, maxKeyFile)
	}
	return string(text), nil
}

// ParseSigningKey reads a key of a zone from the text of its two files. Its
// errors do not quote the private one.
func ParseSigningKey(zone, public, private string) (*SigningKey, error) {
	k := &SigningKey{}
	parser := mdns.NewZoneParser(strings.NewReader(public), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		key, is := rr.(*mdns.DNSKEY)
		if !is || k.public.Hdr.Name != "" {
			return nil, errors.New("want one DNSKEY record and nothing else in the .key file")
		}
		k.public = *key
	}
	if err := parser.Err(); err != nil {
		return nil, fmt.Errorf("the .key file: %w", err)
	}
	switch p := &k.public; {
	case mdns.CanonicalName(p.Hdr.Name) != mdns.CanonicalName(zone):
		return nil, fmt.Errorf("the key is %q's, not %s's", p.Hdr.Name, zone)
	case p.Algorithm != mdns.ECDSAP256SHA256:
		return nil, fmt.Errorf("algorithm %d, want 13 (ECDSAP256SHA256); "+howToMake, p.Algorithm, zone)
	case p.Protocol != 3 || p.Flags&^mdns.SEP != mdns.ZONE || p.Hdr.Class != mdns.ClassINET:
		return nil, fmt.Errorf("flags %d, protocol %d: want a zone key that is not revoked", p.Flags, p.Protocol)
	}
	k.public.Hdr.Name = mdns.CanonicalName(zone)
	k.tag = k.public.KeyTag()
	return k, k.readPrivate(private)
}

// readPrivate reads the .private file: lines of a word, a colon and a value.
func (k *SigningKey) readPrivate(text string) error {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	if v := fields["private-key-format"]; !strings.HasPrefix(v, "v1.") {
		return errors.New("the .private file has no Private-key-format: v1.x")
	}
	raw, err := base64.StdEncoding.DecodeString(fields["privatekey"])
	if err != nil || len(raw) != 32 {
		return errors.New("the .private file has no PrivateKey of 32 octets")
	}
	if k.private, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err != nil {
		return errors.New("the .private file's key is none")
	}
	point, err := k.private.PublicKey.Bytes()
	public, err2 := base64.StdEncoding.DecodeString(k.public.PublicKey)
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(point[1:], public) {
		return errors.New("the .private file is another key's than the .key file")
	}
	for name, at := range map[string]*time.Time{"created": &k.created, "publish": &k.publish, "activate": &k.activate, "inactive": &k.inactive, "delete": &k.remove} {
		if v := fields[name]; v != "" {
			if *at, err = time.Parse("20060102150405", v); err != nil {
				return fmt.Errorf("the .private file's %s is no time: %q", name, v)
			}
		}
	}
	return nil
}

// published reports whether the key stands in the zone at a time.
func (k *SigningKey) published(now time.Time) bool {
	return !now.Before(k.publish) && (k.remove.IsZero() || now.Before(k.remove))
}

// active reports whether the key signs at a time.
func (k *SigningKey) active(now time.Time) bool {
	return k.published(now) && !now.Before(k.activate) && (k.inactive.IsZero() || now.Before(k.inactive))
}

// keyset are the keys of a zone at a time.
type keyset struct {
	zone     string // wire form
	validity time.Duration
	entry    []*SigningKey // sign the set of keys
	rest     []*SigningKey // sign everything else
	sets     []*set        // DNSKEY, CDS and CDNSKEY
	tags     []uint16      // of those that are published, and then of those that sign
	created  time.Time     // of the newest that signs: before this no clock is right
}

// keysAt finds the keys of a zone at a time. Keys of one kind do the work of
// both when there are none of the other.
func (z *zoneLayout) keysAt(now time.Time) (*keyset, error) {
	s := &keyset{zone: z.name, validity: z.zone.validity}
	var published []*SigningKey
	for i := range z.zone.keys {
		k := &z.zone.keys[i]
		if k.published(now) {
			published = append(published, k)
			s.tags = append(s.tags, k.tag)
		}
		switch {
		case !k.active(now):
			continue
		case k.Entry():
			s.entry = append(s.entry, k)
		default:
			s.rest = append(s.rest, k)
		}
		if k.created.After(s.created) {
			s.created = k.created
		}
	}
	if len(s.entry) == 0 {
		s.entry = s.rest
	}
	if len(s.rest) == 0 {
		s.rest = s.entry
	}
	for _, k := range append(slices.Clone(s.entry), s.rest...) {
		s.tags = append(s.tags, k.tag)
	}
	var rrs []mdns.RR
	for _, k := range published {
		p := k.public
		p.Hdr = header(z.zone.name, mdns.TypeDNSKEY, z.zone.ttl)
		rrs = append(rrs, &p)
	}
	for _, k := range s.entry { // RFC 7344, section 4.1
		ds := k.public.ToDS(mdns.SHA256)
		ds.Hdr = header(z.zone.name, mdns.TypeCDS, z.zone.ttl)
		p := k.public
		p.Hdr = header(z.zone.name, mdns.TypeCDNSKEY, z.zone.ttl)
		rrs = append(rrs, &mdns.CDS{DS: *ds}, &mdns.CDNSKEY{DNSKEY: p})
	}
	var err error
	if s.sets, err = newSets(rrs); err != nil {
		return nil, fmt.Errorf("pack keys of %s: %w", z.zone.name, err)
	}
	return s, nil
}

// same reports whether two sets of keys are of the same keys.
func (s *keyset) same(o *keyset) bool { return s != nil && o != nil && slices.Equal(s.tags, o.tags) }

// Signing says how a zone is signed.
type Signing struct {
	Keys []SigningKey
	// Validity is how long signatures last. They are renewed after about three
	// quarters of it. Default 7 days, at least one hour.
	Validity time.Duration
}

// Bounds of a signature's life.
const (
	defaultValidity = 7 * 24 * time.Hour
	minValidity     = time.Hour
	maxValidity     = 90 * 24 * time.Hour
	// backdate is how long before its making a signature is valid, for clocks
	// that are slow (RFC 6781, section 4.4.2.1).
	backdate = time.Hour
)

// addSigning validates how the zone is signed.
func (z *zone) addSigning(c *Signing, secondaries int) (errs []error) {
	if c == nil {
		return nil
	}
	z.keys, z.validity = c.Keys, cmp.Or(c.Validity, defaultValidity)
	if len(z.keys) == 0 {
		errs = append(errs, fmt.Errorf("no key to sign with; "+howToMake, z.name))
	}
	tags := make(map[uint16]bool)
	for i := range z.keys {
		k := &z.keys[i]
		if k.public.Hdr.Name != z.name {
			errs = append(errs, fmt.Errorf("key %v is not the zone's", k))
		}
		if tags[k.tag] {
			errs = append(errs, fmt.Errorf("two keys have the tag %d: remove one and make another", k.tag))
		}
		tags[k.tag] = true
	}
	if z.validity < minValidity || z.validity > maxValidity {
		errs = append(errs, fmt.Errorf("signatures valid for %v, want %v to %v", z.validity, minValidity, maxValidity))
	}
	if secondaries > 0 {
		errs = append(errs, errors.New("a zone that is signed here cannot have secondaries, since each member signs for itself: "+
			"let a secondary sign it that others take it from, or remove the keys or the secondaries"))
	}
	return errs
}
