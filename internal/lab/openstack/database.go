package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// server of MariaDB that has a service's database; "": it is a SQLite file.
// Designate's central, Keystone's threads and Neutron's begin to write in the
// middle of a transaction that reads, to which SQLite says "database is locked".
// Keystone's server is its own, so that it can be stopped and nobody else's.
func server(service string) string {
	switch service {
	case "keystone":
		return KeystoneDatabase
	case "designate":
		return "mariadb"
	case "neutron":
		return "mariadb-neutron"
	}
	return ""
}

// KeystoneDatabase is the process with Keystone's database, and only that.
const KeystoneDatabase = "mariadb-keystone"

// Database is the address of a service's, for templates as well.
func (s *Site) Database(service string) string {
	driver := "pymysql" // which lets eventlet's other threads run
	if service == "keystone" {
		driver = "mysqldb" // its threads are real
	}
	if on := server(service); on != "" {
		return fmt.Sprintf("mysql+%s://root@localhost/%s?unix_socket=%s&charset=utf8", driver, service, s.socket(on))
	}
	return "sqlite:///" + s.file(service) + "?timeout=60"
}

func (s *Site) file(service string) string  { return s.path("db", service+".sqlite") }
func (s *Site) socket(server string) string { return s.path("tmp", server+".sock") }

// startMariaDB starts a server of the site's own and waits until it answers, or
// its process has ended.
func (s *Site) startMariaDB(ctx, runs context.Context, server string) error {
	data, tmp := s.path("data", server), s.path("data", server+"-tmp")
	// One of its own: a server that starts removes what others have in theirs.
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return fmt.Errorf("make a folder for what %s needs for a while: %w", server, err)
	}
	if _, err := os.Stat(filepath.Join(data, "mysql")); err != nil {
		if err := s.tool(ctx, nil, "/usr/bin/mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+data, "--tmpdir="+tmp,
			"--auth-root-authentication-method=normal", "--skip-test-db"); err != nil {
			return err
		}
	}
	s.run(runs, server, nil, "/usr/sbin/mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--tmpdir="+tmp, "--socket="+s.socket(server),
		"--skip-networking", "--pid-file="+s.path("tmp", server+".pid"), "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
		"--skip-log-bin", "--max-connections=200", "--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.sql(ctx, server, "select 1")
		if err == nil {
			s.say("%s answers", server)
			return nil
		}
		if ended := s.ended(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *Site) sql(ctx context.Context, server, statement string) error {
	return s.tool(ctx, nil, "/usr/bin/mariadb", "--no-defaults", "-uroot", "-S", s.socket(server), "-e", statement)
}

// Schemas are empty databases in a folder, by the version of the package that
// made them. Sites that start at the same time wait for each other's.
type Schemas struct {
	Dir string

	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (s *Schemas) lock(kept string) (unlock func()) {
	s.mu.Lock()
	if s.locks == nil {
		s.locks = make(map[string]*sync.Mutex)
	}
	if s.locks[kept] == nil {
		s.locks[kept] = new(sync.Mutex)
	}
	one := s.locks[kept]
	s.mu.Unlock()
	one.Lock()
	return one.Unlock
}

// schema makes a service's empty database: by the command, or of what the
// command made for another site, which is kept by the package's version.
func (s *Site) schema(ctx context.Context, service, pkg string, command ...string) error {
	version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Version}", pkg).Output()
	if err != nil {
		return fmt.Errorf("%s is not installed (etc/setup/openstack-packages installs it): %w", pkg, err)
	}
	kept := filepath.Join(s.Schemas.Dir, service+"-"+strings.NewReplacer(":", "_", "/", "_").Replace(string(version)))
	defer s.Schemas.lock(kept)()
	if server(service) != "" {
		return s.mariaSchema(ctx, service, kept+".sql", command)
	}
	if _, err := os.Stat(s.file(service)); err == nil {
		return nil
	}
	if err := copyFile(kept+".sqlite", s.file(service)); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.tool(ctx, nil, command...); err != nil {
		return err
	}
	if err := s.tool(ctx, nil, "/usr/bin/sqlite3", s.file(service), "PRAGMA journal_mode=WAL; PRAGMA wal_checkpoint(TRUNCATE);"); err != nil {
		return err
	}
	s.say("%s's database is made", service)
	return copyFile(s.file(service), kept+".sqlite")
}

func (s *Site) mariaSchema(ctx context.Context, service, kept string, command []string) error {
	on := server(service)
	if _, err := os.Stat(s.path("data", on, service)); err == nil {
		return nil
	}
	if err := s.sql(ctx, on, "create database "+service+" character set utf8mb3"); err != nil {
		return err
	}
	if _, err := os.Stat(kept); err == nil {
		return s.tool(ctx, nil, "sh", "-c", `exec /usr/bin/mariadb --no-defaults -uroot -S "$1" "$2" <"$3"`, "sh", s.socket(on), service, kept)
	}
	if err := s.tool(ctx, nil, command...); err != nil {
		return err
	}
	dump := s.path("tmp", service+".sql")
	if err := s.tool(ctx, nil, "/usr/bin/mariadb-dump", "--no-defaults", "-uroot", "-S", s.socket(on), "--result-file="+dump, service); err != nil {
		return err
	}
	s.say("%s's database is made", service)
	return copyFile(dump, kept)
}

// prepareNova makes the two databases of the cells that its API wants to see,
// though nothing runs in them.
func (s *Site) prepareNova(ctx context.Context) error {
	manage := []string{python, "/usr/bin/nova-manage", "--config-file", s.path("etc/nova.conf")}
	if _, err := os.Stat(s.file("nova_cell0")); err == nil {
		return nil
	}
	if err := s.schema(ctx, "nova_api", "python3-nova", append(manage, "api_db", "sync")...); err != nil {
		return err
	}
	if err := s.schema(ctx, "nova", "python3-nova", append(manage, "db", "sync", "--local_cell")...); err != nil {
		return err
	}
	// A compute node of this release: what it is too old for, the API refuses.
	if err := s.tool(ctx, nil, "/usr/bin/sqlite3", s.file("nova"), `INSERT INTO services(created_at,host,binary,topic,report_count,disabled,deleted,forced_down,version,uuid) VALUES
(datetime('now'),'lab','nova-compute','compute',1,0,0,0,64,'00000000-0000-0000-0000-000000000002');`); err != nil {
		return err
	}
	if err := copyFile(s.file("nova"), s.file("nova_cell0")); err != nil {
		return err
	}
	// As "nova-manage cell_v2 map_cell0" and "create_cell", without two starts.
	return s.tool(ctx, nil, "/usr/bin/sqlite3", s.file("nova_api"), fmt.Sprintf(
		`INSERT INTO cell_mappings(created_at,uuid,name,transport_url,database_connection,disabled) VALUES
(datetime('now'),'00000000-0000-0000-0000-000000000000','cell0','none:///','%s',0),
(datetime('now'),'00000000-0000-0000-0000-000000000001','cell1','fake:///','%s',0);`,
		s.Database("nova_cell0"), s.Database("nova")))
}

// copyFile copies a file so that nobody finds half of it.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".copy*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}
