package openstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Pair starts two sites, "east" and "west", in folders below dir, at the same
// time: o says what they have in common. The caller stops them.
func Pair(ctx context.Context, dir string, o Options) ([2]*Site, error) {
	var sites [2]*Site
	cache, err := os.UserCacheDir()
	if err != nil {
		return sites, fmt.Errorf("find a folder for empty databases: %w", err)
	}
	o.Schemas = &Schemas{Dir: filepath.Join(cache, "draas", "openstack")}
	g, starts := errgroup.WithContext(ctx)
	for i, name := range []string{"east", "west"} {
		one := o
		one.Name, one.Number, one.Dir = name, i+1, filepath.Join(dir, name)
		g.Go(func() error {
			s, err := Start(starts, one)
			sites[i] = s
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for _, s := range sites {
			if s != nil {
				err = errors.Join(err, s.Stop())
			}
		}
		return sites, err
	}
	return sites, nil
}
