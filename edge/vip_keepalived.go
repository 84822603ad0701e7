package edge

import (
	"context"
	"errors"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/vip/keepalived"
	"github.com/draasd/draas/schemes/vip/lan"
)

// told is a host whose keepalived sets the addresses: it is told by a file, and
// fenced as if we had set them.
type told struct {
	*lan.Host
	track *keepalived.TrackFile
}

// tell begins with a keepalived that is not to have the addresses.
func tell(path string, conf lan.Config) (*told, error) {
	track, err := keepalived.OpenTrackFile(path)
	if err != nil {
		return nil, err
	}
	conf.Foreign = true
	host, err := lan.Open(conf)
	if err != nil {
		return nil, err
	}
	return &told{host, track}, nil
}

// Take implements addresses: keepalived sets them once the fence is open.
func (t *told) Take(ctx context.Context, until draas.Deadline) error {
	if err := t.Host.Take(ctx, until); err != nil {
		return err
	}
	return t.track.Set(true)
}

// Extend implements addresses. What others did to the file is put right.
func (t *told) Extend(until draas.Deadline) error {
	if err := t.Host.Extend(until); err != nil {
		return err
	}
	return t.track.Set(true)
}

// Drop implements addresses.
func (t *told) Drop() error { return errors.Join(t.track.Set(false), t.Host.Drop()) }

// Close implements addresses.
func (t *told) Close() error { return errors.Join(t.track.Close(), t.Host.Close()) }
