package nginx

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// place is where a service's file and socket are.
type place struct {
	service draas.ServiceID
	stream  bool
	dir     string
}

func (p place) path() string   { return filepath.Join(p.dir, string(p.service)+".conf") }
func (p place) socket() string { return filepath.Join(p.dir, string(p.service)+".sock") }

// file is a whole included file.
type file struct {
	text   []byte
	digest string // of what it says but for the digest
}

// status is which file nginx runs by.
type status struct {
	frontend.Leading
	digest string
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,100}$`)

// word reports whether nginx takes a text for one word that means itself.
func word(s string) bool { return plain.MatchString(s) }

// Words of the status line.
const (
	led      = "led"
	drained  = "drained"
	noSite   = "-"
	digitsOf = 16 // of a digest
)

// render makes the file that leads there.
func (p place) render(svc *frontend.Spec, to frontend.Leading) (file, error) {
	site, how := string(to.Site), led
	switch {
	case !word(string(p.service)) || strings.Contains(string(p.service), "/"):
		return file{}, fmt.Errorf("service %q cannot be the name of an upstream", p.service)
	case to.Site == "":
		site = noSite
	case !word(site) || site == noSite:
		return file{}, fmt.Errorf("site %q cannot stand in a file of nginx", site)
	case to.Draining:
		how = drained
	case len(svc.Sites[to.Site]) == 0:
		return file{}, fmt.Errorf("service %s has no server of site %s", p.service, to.Site)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "upstream draas_%s {\n", p.service)
	switch {
	case to.Site != "" && !to.Draining:
		for _, s := range svc.Sites[to.Site] {
			if _, err := netip.ParseAddrPort(s.Address); err != nil {
				return file{}, fmt.Errorf("server of site %s: %w", to.Site, err)
			}
			fmt.Fprintf(&b, "    server %s;\n", s.Address)
		}
		if !p.stream {
			b.WriteString("    keepalive 32;\n")
		}
	case p.stream:
		b.WriteString("    server 127.0.0.1:1 down; # connections are closed\n")
	default:
		fmt.Fprintf(&b, "    server unix:%s; # 503, below\n", p.socket())
	}
	b.WriteString("}\n")
	line := fmt.Sprintf("draas %s %s %s %s\\n", p.service, how, site, digestHere)
	fmt.Fprintf(&b, "server {\n    listen unix:%s;\n", p.socket())
	if p.stream {
		fmt.Fprintf(&b, "    return \"%s\";\n}\n", line)
	} else {
		fmt.Fprintf(&b, "    access_log off;\n"+
			"    location = /draas { default_type text/plain; return 200 \"%s\"; }\n"+
			"    location / { add_header Retry-After 1 always; return 503; }\n}\n", line)
	}
	digest := digestOf(b.String())
	return file{[]byte(title + strings.Replace(b.String(), digestHere+lineEnd, digest+lineEnd, 1)), digest}, nil
}

const (
	title      = "# Written by draas: what is changed here is undone.\n"
	digestHere = "DIGEST" // stands where the digest will
	lineEnd    = `\n"`
)

func digestOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])[:digitsOf]
}

// intact reports whether a file is as it was written with a digest.
func intact(text []byte, digest string) bool {
	body, ok := strings.CutPrefix(string(text), title)
	return ok && digestOf(strings.Replace(body, digest+lineEnd, digestHere+lineEnd, 1)) == digest
}

// parseStatus reads what nginx tells of the file that it runs by: one line.
func parseStatus(answer []byte, service draas.ServiceID) (status, error) {
	line, ok := strings.CutSuffix(string(answer), "\n")
	f := strings.Split(line, " ")
	if !ok || len(f) != 5 || f[0] != "draas" {
		return status{}, fmt.Errorf("not a status: %.200q", answer)
	}
	if f[1] != string(service) {
		return status{}, fmt.Errorf("asked of service %s, told of %.100q", service, f[1])
	}
	s := status{digest: f[4], Leading: frontend.Leading{Site: draas.SiteID(f[3]), Draining: f[2] == drained}}
	if _, err := hex.DecodeString(s.digest); err != nil || len(s.digest) != digitsOf {
		return status{}, fmt.Errorf("digest %.100q", f[4])
	}
	switch {
	case f[2] != led && f[2] != drained || !word(f[3]):
		return status{}, fmt.Errorf("not a status: %.200q", answer)
	case f[3] == noSite && f[2] == drained:
		return status{}, fmt.Errorf("nowhere is drained: %.200q", answer)
	case f[3] == noSite:
		s.Site = ""
	}
	return s, nil
}
