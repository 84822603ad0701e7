package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/quorum"
)

// caValid and certValid are how long what Init issues is good for.
const (
	caValid   = 10 * 365 * 24 * time.Hour
	certValid = 2 * 365 * 24 * time.Hour
)

// InitOptions says what cluster Init makes.
type InitOptions struct {
	Loopback config.LoopbackOptions
}

// Init makes a new cluster: for each member a directory under dir with its
// failover.toml, tls/ and data/. Only Init bootstraps a cluster id, so that a
// member that lost its disk cannot come back as a member without memory. The
// cluster it makes runs on loopback addresses as it is; for real sites the
// addresses in the file are changed before the directories are copied there.
func Init(dir string, o InitOptions) error {
	file, err := config.Loopback(o.Loopback)
	if err != nil {
		return err
	}
	c, err := config.Parse("failover.toml", file)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return fmt.Errorf("%s exists already: choose another directory, init never overwrites a cluster", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	ca, err := quorum.NewCA(c.Cluster, validFor(caValid))
	if err != nil {
		return err
	}
	if err := initCA(filepath.Join(dir, "ca"), ca); err != nil {
		return fmt.Errorf("keep CA: %w", err)
	}
	meta := quorum.ClusterMeta{ClusterID: quorum.NewClusterID(), Members: memberIDs(c)}
	for _, m := range c.Members {
		meta.Self = m.ID
		if err := initMember(filepath.Join(dir, string(m.ID)), file, ca, meta); err != nil {
			return fmt.Errorf("make %s: %w", m.ID, err)
		}
	}
	return nil
}

// initCA keeps what issues further certificates, apart from the members: it
// belongs where no member is.
func initCA(dir string, ca *quorum.CA) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca.CertPEM, 0o644); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), ca.KeyPEM, 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

func validFor(d time.Duration) quorum.Validity {
	now := time.Now()
	// Clocks of members may be behind the one that issues.
	return quorum.Validity{From: now.Add(-time.Hour), To: now.Add(d)}
}

func initMember(dir string, file []byte, ca *quorum.CA, meta quorum.ClusterMeta) (err error) {
	for _, sub := range []string{"tls", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	identity, err := ca.Issue(meta.Self, nil, validFor(certValid))
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{"failover.toml", file, 0o644},
		{"tls/ca.crt", ca.CertPEM, 0o644},
		{"tls/member.crt", identity.CertPEM, 0o644},
		{"tls/member.key", identity.KeyPEM, 0o600},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	disk, err := quorum.OpenOSDisk(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	return quorum.Bootstrap(disk, meta)
}
