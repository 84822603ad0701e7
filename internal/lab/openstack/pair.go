package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Pair starts two sites, "east" and "west", in folders below dir, at the same
// time. The caller stops them.
func Pair(ctx context.Context, dir string, say io.Writer, services ...string) ([2]*Site, error) {
	var sites [2]*Site
	cache, err := os.UserCacheDir()
	if err != nil {
		return sites, fmt.Errorf("find a folder for empty databases: %w", err)
	}
	schemas := &Schemas{Dir: filepath.Join(cache, "draas", "openstack")}
	g, starts := errgroup.WithContext(ctx)
	for i, name := range []string{"east", "west"} {
		o := Options{Name: name, Number: i + 1, Dir: filepath.Join(dir, name), Schemas: schemas, Say: say}
		if len(services) > 0 {
			o.Services = services
		}
		g.Go(func() error {
			s, err := Start(starts, o)
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
