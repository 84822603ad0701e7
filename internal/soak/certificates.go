package soak

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// rotate issues another certificate to a member, in the place of the one that
// it uses, and has it read its file again.
func (s *stage) rotate(member string, days int) error {
	s.files.Lock()
	defer s.files.Unlock()
	h := s.hosts[member]
	cmd := exec.Command(s.draasd, "issue", member, "--replace", "--days", fmt.Sprint(days), "--ca", s.ca, "--out", h.tls())
	h.rotated() // as it begins and, below, as it ends
	out, err := cmd.CombinedOutput()
	h.rotated()
	if err != nil {
		return fmt.Errorf("issue a certificate to %s: %w: %s", member, err, out)
	}
	h.hangUp()
	return nil
}

// trust has all members trust the CAs in the bundle, and no other.
func (s *stage) trust(bundle []byte) error {
	s.files.Lock()
	defer s.files.Unlock()
	for _, name := range members {
		if err := replace(filepath.Join(s.hosts[name].tls(), "ca.crt"), bundle); err != nil {
			return err
		}
		s.hosts[name].hangUp()
	}
	return nil
}

// renew gives everybody another certificate, one after the other, and waits
// until all know of it.
func (r *soak) renew(ctx context.Context) error {
	before, err := r.operators.certificates(ctx, dr)
	if err != nil {
		return err
	}
	for _, name := range members {
		r.renewed++ // ends are told apart by days
		if err := r.rotate(name, 300+r.renewed); err != nil {
			return err
		}
	}
	return await(ctx, settleLimit, func(ctx context.Context) error {
		for _, asked := range members {
			now, err := r.operators.certificates(ctx, asked)
			if err != nil {
				return err
			}
			for _, name := range members {
				if now[name].IsZero() || now[name].Equal(before[name]) {
					return fmt.Errorf("%s knows of the certificate of %s until %v, which was another's", asked, name, now[name])
				}
			}
		}
		return nil
	})
}

// newCA puts another CA in the place of the one that there is, in the three
// steps of docs/operate.md: all trust both; all have certificates of the new
// one; all trust the new one alone.
func (r *soak) newCA(ctx context.Context) error {
	next, err := os.MkdirTemp(r.dir, "ca-")
	if err != nil {
		return fmt.Errorf("make directory of a CA: %w", err)
	}
	if out, err := exec.Command(r.draasd, "init", filepath.Join(next, "cluster"), "--profile", "fast").CombinedOutput(); err != nil {
		return fmt.Errorf("make a CA: %w: %s", err, out)
	}
	dir := filepath.Join(next, "cluster", "ca")
	old, err := os.ReadFile(filepath.Join(r.ca, "ca.crt"))
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	fresh, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	// What is issued comes with what its CA's directory says is to be trusted.
	both := slices.Concat(fresh, old)
	if err := replace(filepath.Join(dir, "ca.crt"), both); err != nil {
		return err
	}
	if err := r.trust(both); err != nil {
		return err
	}
	r.ca = dir
	if err := r.renew(ctx); err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, "ca.crt"), fresh); err != nil {
		return err
	}
	return r.trust(fresh)
}
