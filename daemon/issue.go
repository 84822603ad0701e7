package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
)

// IssueOptions says what certificate Issue makes.
type IssueOptions struct {
	Member draas.MemberID
	CA     string   // directory with ca.crt and ca.key
	Out    string   // directory for member.crt, member.key and ca.crt
	Hosts  []string // further names and addresses, for clients that check them
	For    time.Duration
	// Frontend makes a frontend's certificate: good for following only.
	Frontend bool
	// Replace overwrites what Out holds.
	Replace bool
}

// Issue makes a further certificate of a cluster: for a new member, or in
// place of one that ends. It returns until when it is good, which is never
// longer than the CA's own.
func Issue(o IssueOptions) (until time.Time, err error) {
	ca, err := quorum.LoadCA(o.CA)
	if err != nil {
		return until, err
	}
	valid := validFor(o.For)
	if end := ca.Validity().To; end.Before(valid.To) {
		valid.To = end
	}
	if !valid.To.After(time.Now()) {
		return until, fmt.Errorf("the CA in %s has ended at %s: make another, and let the members trust both for a while", o.CA, valid.To.UTC().Format(time.DateTime))
	}
	issue := ca.Issue
	if o.Frontend {
		issue = func(m draas.MemberID, hosts []string, v quorum.Validity) (quorum.Identity, error) {
			return ca.IssueFrontend(string(m), hosts, v)
		}
	}
	identity, err := issue(o.Member, o.Hosts, valid)
	if err != nil {
		return until, err
	}
	if err := os.MkdirAll(o.Out, 0o700); err != nil {
		return until, fmt.Errorf("make directory: %w", err)
	}
	// All members' files trust what the CA's directory says, be it a bundle.
	bundle, err := os.ReadFile(filepath.Join(o.CA, "ca.crt"))
	if err != nil {
		return until, fmt.Errorf("read CA: %w", err)
	}
	files := []issued{{"member.key", identity.KeyPEM, 0o600}, {"member.crt", identity.CertPEM, 0o644}, {"ca.crt", bundle, 0o644}}
	if !o.Replace {
		for _, f := range files {
			if _, err := os.Lstat(filepath.Join(o.Out, f.name)); err == nil {
				return until, fmt.Errorf("%s holds a %s already: name another directory, or say --replace", o.Out, f.name)
			} else if !errors.Is(err, os.ErrNotExist) {
				return until, fmt.Errorf("look at %s: %w", o.Out, err)
			}
		}
	}
	for _, f := range files {
		if err := f.write(o.Out); err != nil {
			return until, err
		}
	}
	return valid.To, nil
}

// issued is a file to be put in place as a whole: a running daemon may read it
// at any moment.
type issued struct {
	name string
	data []byte
	mode os.FileMode
}

func (f issued) write(dir string) (err error) {
	tmp, err := os.CreateTemp(dir, "."+f.name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", f.name, err), os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(f.data)
	if err = errors.Join(err, tmp.Chmod(f.mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, f.name))
}
