package openstack

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

//go:embed conf/*.tmpl
var configs embed.FS

//go:embed py
var programs embed.FS

const python = "/usr/bin/python3"

// answers is where each service answers when it is up.
var answers = map[string]string{
	"keystone": ":5000/v3", "glance": ":9292/versions", "neutron": ":9696/", "nova": ":8774/",
	"cinder": ":8776/", "swift": ":8080/healthcheck", "designate": ":9001/",
}

// swiftPorts of Swift's stores.
var swiftPorts = map[string]int{"account": 6202, "container": 6201, "object": 6200}

// view is what a template sees.
type view struct {
	*Site
	Name string // of the service
	Part string // of Swift
	Port int
}

// Site is its name: that of Site's own is hidden by the service's.
func (v view) SiteName() string { return v.Site.Name }

// DNSPort: named binds only addresses that it sees on an interface, which is
// 127.0.0.1; so each site has a port of its own.
func (v view) DNSPort() int { return 5400 + v.Number }

// Password of the services.
func (v view) Password() string { return Password }

// Region of the site.
func (v view) Region() string { return Region }

// filter is one of Swift's.
type filter struct{ Name, Egg string }

// Filters are Swift's that need nothing said.
func (v view) Filters() []filter {
	var all []filter
	for name := range strings.FieldsSeq("catch_errors gatekeeper healthcheck proxy-logging listing_formats bulk tempurl ratelimit copy container-quotas account-quotas slo dlo symlink") {
		all = append(all, filter{name, strings.ReplaceAll(name, "-", "_")})
	}
	return all
}

// writeConfigs writes the files that the services read.
func (s *Site) writeConfigs() error {
	all, err := template.ParseFS(configs, "conf/*.tmpl")
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	for _, f := range []struct {
		template, to string
		view         view
	}{
		{"keystone.conf", "keystone.conf", view{Name: "keystone"}},
		{"glance-api.conf", "glance/glance-api.conf", view{Name: "glance"}},
		{"neutron.conf", "neutron.conf", view{Name: "neutron"}},
		{"nova.conf", "nova.conf", view{Name: "nova"}},
		{"cinder.conf", "cinder.conf", view{Name: "cinder"}},
		{"swift-hash.conf", "swift/swift.conf", view{}},
		{"swift-store.conf", "swift/account.conf", view{Part: "account", Port: swiftPorts["account"]}},
		{"swift-store.conf", "swift/container.conf", view{Part: "container", Port: swiftPorts["container"]}},
		{"swift-store.conf", "swift/object.conf", view{Part: "object", Port: swiftPorts["object"]}},
		{"swift-proxy.conf", "swift/proxy.conf", view{Name: "swift"}},
		{"named.conf", "named.conf", view{}},
		{"pools.yaml", "pools.yaml", view{}},
		{"designate.conf", "designate.conf", view{Name: "designate"}},
	} {
		f.view.Site = s
		if err := write(s.path("etc", f.to), all.Lookup(f.template+".tmpl"), f.view); err != nil {
			return err
		}
		if f.view.Name != "" {
			if err := os.MkdirAll(s.path("data", f.view.Name), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(path string, t *template.Template, v view) error {
	var text strings.Builder
	if err := t.Execute(&text, v); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// writePrograms writes the short programs that start services in one process.
func (s *Site) writePrograms() error {
	return fs.WalkDir(programs, "py", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(s.path(path), 0o755)
		}
		text, err := programs.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(s.path(path), text, 0o644)
	})
}

// bootstrap makes Keystone's database, keys and admin.
func (s *Site) bootstrap(ctx, runs context.Context) error {
	if err := s.startMariaDB(ctx, runs, server("keystone")); err != nil {
		return err
	}
	manage := []string{python, "/usr/bin/keystone-manage", "--config-file", s.path("etc/keystone.conf")}
	if err := s.schema(ctx, "keystone", "python3-keystone", append(manage, "db_sync")...); err != nil {
		return err
	}
	if err := s.tool(ctx, nil, python, s.path("py/keys.py"), s.path("data/keystone")); err != nil {
		return err
	}
	url := "http://" + s.Host + answers["keystone"]
	return s.tool(ctx, []string{"OS_BOOTSTRAP_PASSWORD=" + Password}, append(manage, "bootstrap", "--bootstrap-region-id", Region,
		"--bootstrap-admin-url", url, "--bootstrap-internal-url", url, "--bootstrap-public-url", url)...)
}

// prepare makes a service's database, and what else has to be there first.
func (s *Site) prepare(ctx, runs context.Context, name string) error {
	switch name {
	case "glance":
		// The WSGI program reads the folder only; the pasted file is Debian's.
		for _, file := range []string{"glance-api-paste.ini", "glance-image-import.conf"} {
			if err := link(filepath.Join("/etc/glance", file), s.path("etc/glance", file)); err != nil {
				return err
			}
		}
		return s.schema(ctx, "glance", "python3-glance", python, "/usr/bin/glance-manage", "--config-file", s.path("etc/glance/glance-api.conf"), "db_sync")
	case "neutron":
		if err := s.startMariaDB(ctx, runs, server("neutron")); err != nil {
			return err
		}
		// Its migrations take a minute: the tables are made of the models.
		return s.schema(ctx, "neutron", "python3-neutron", python, s.path("py/neutron_schema.py"), s.Database("neutron"))
	case "nova":
		return s.prepareNova(ctx)
	case "cinder":
		return s.schema(ctx, "cinder", "python3-cinder", python, "/usr/bin/cinder-manage", "--config-file", s.path("etc/cinder.conf"), "db", "sync")
	case "swift":
		return s.rings(ctx)
	case "designate":
		if err := s.startMariaDB(ctx, runs, server("designate")); err != nil {
			return err
		}
		if err := s.tool(ctx, nil, "/usr/sbin/rndc-confgen", "-a", "-A", "hmac-sha256", "-k", "lab", "-c", s.path("etc/rndc.key")); err != nil {
			return err
		}
		return s.schema(ctx, "designate", "python3-designate", python, "/usr/bin/designate-manage", "--config-file", s.path("etc/designate.conf"), "database", "sync")
	}
	return fmt.Errorf("no service is called %q", name)
}

func link(to, at string) error {
	if err := os.Remove(at); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(to, at)
}

// rings are Swift's: one replica on one device.
func (s *Site) rings(ctx context.Context) error {
	for part, port := range swiftPorts {
		builder := s.path("etc/swift", part+".builder")
		if _, err := os.Stat(s.path("etc/swift", part+".ring.gz")); err == nil {
			continue
		}
		for _, args := range [][]string{
			{"create", "4", "1", "1"}, {"add", "r1z1-" + s.Host + ":" + strconv.Itoa(port) + "/d1", "1"}, {"rebalance"},
		} {
			if err := s.tool(ctx, nil, append([]string{"/usr/bin/swift-ring-builder", builder}, args...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Site) runKeystone(ctx context.Context) {
	s.run(ctx, "keystone", []string{"OS_KEYSTONE_CONFIG_FILES=" + s.path("etc/keystone.conf")},
		"/usr/bin/uwsgi_python3", "--http-socket", s.Host+":5000", "--wsgi-file", "/usr/bin/keystone-wsgi-public",
		"--master", "--processes", "1", "--threads", "8", "--need-app", "--lazy-apps", "--die-on-term", "--enable-threads",
		"--buffer-size", "65535", "--listen", "100", "--socket-timeout", "60", "--add-header", "Connection: close",
		"--no-orphans", "--disable-logging")
}

func (s *Site) runService(ctx context.Context, name string) {
	switch name {
	case "glance":
		s.run(ctx, name, nil, python, s.path("py/start_glance.py"), "--config-dir", s.path("etc/glance"), "--config-file", s.path("etc/glance/glance-api.conf"))
	case "neutron":
		s.run(ctx, name, nil, python, "/usr/bin/neutron-server", "--config-file", s.path("etc/neutron.conf"))
	case "nova", "cinder":
		s.run(ctx, name, nil, python, s.path("py", "start_"+name+".py"), "--config-file", s.path("etc", name+".conf"))
	case "swift":
		for part := range swiftPorts {
			s.runSwift(ctx, "swift-"+part, part)
		}
		s.runSwift(ctx, "swift", "proxy")
	case "designate":
		s.run(ctx, "named", nil, "/usr/sbin/named", "-g", "-c", s.path("etc/named.conf"))
		s.run(ctx, name, []string{"LAB_POOLS=" + s.path("etc/pools.yaml")}, python, s.path("py/start_designate.py"), "--config-file", s.path("etc/designate.conf"))
	}
}

// runSwift gives the process an /etc/swift of its own: it looks for its hash's
// salt nowhere else.
func (s *Site) runSwift(ctx context.Context, name, part string) {
	s.run(ctx, name, nil, "unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`mount --bind "$1" /etc/swift; exec "$2" "/usr/bin/swift-$3-server" "/etc/swift/$3.conf"`, "sh", s.path("etc/swift"), python, part)
}
