package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"

	"github.com/draasd/draas/cloud"
)

// image: an image from Glance to Glance, beside curl piped into curl.
func (s *sites) image(ctx context.Context) (err error) {
	id, err := s.newImage(ctx, s.east, "bench")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.east.call(context.WithoutCancel(ctx), "image", http.MethodDelete, "images/"+id, nil, nil))
	}()
	address, _, err := s.east.address("image", "images/"+id+"/file")
	if err != nil {
		return err
	}
	s.b.say("image: %d MiB go to east", s.b.o.ImageSize>>20)
	c, err := s.east.session.Service("image")
	if err != nil {
		return err
	}
	if _, err := cloud.Upload(ctx, c, address, cloud.Put{Body: noise(s.b.o.ImageSize), Size: s.b.o.ImageSize,
		Header: http.Header{"Content-Type": {"application/octet-stream"}}}); err != nil {
		return err
	}
	sum, err := s.east.sumOf(ctx, id)
	if err != nil {
		return err
	}
	p, err := s.b.newPair("image", s.yaml)
	if err != nil {
		return err
	}
	var curls, ours []cost
	for round := range s.b.o.Rounds {
		s.b.say("image, round %d of %d", round+1, s.b.o.Rounds)
		c, err := s.curl(ctx, id, sum)
		if err != nil {
			return err
		}
		curls = append(curls, c)
		if c, err = s.carryImage(ctx, p, sum); err != nil {
			return err
		}
		ours = append(ours, c)
	}
	peer := s.b.add("image", "curl, Glance to Glance", curls, s.b.o.ImageSize)
	own := s.b.add("image", "draasd sync run", ours, s.b.o.ImageSize)
	s.b.target("image: bytes/s to curl's", ratio(peer, own, seconds), atLeast, 0.9, "")
	s.b.target("image: memory", own.MiB, atMost, 64, "MiB")
	return nil
}

func (s *sites) newImage(ctx context.Context, p *place, name string) (string, error) {
	return p.make(ctx, "image", "images", "", map[string]any{"name": name, "disk_format": "raw", "container_format": "bare"})
}

// noise is so many bytes that no two pieces of are alike.
func noise(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// shown is what Glance says of an image.
type shown struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Sum    string `json:"os_hash_value"`
	Size   int64  `json:"size"`
}

func (p *place) sumOf(ctx context.Context, id string) (string, error) {
	var i shown
	if err := p.call(ctx, "image", http.MethodGet, "images/"+id, nil, &i); err != nil {
		return "", err
	}
	if i.Status != "active" || i.Sum == "" {
		return "", fmt.Errorf("%s: image %s is %s, with sum %q", p.name, id, i.Status, i.Sum)
	}
	return i.Sum, nil
}

// curl copies the image with a pipe, and removes the copy.
func (s *sites) curl(ctx context.Context, id, sum string) (cost, error) {
	copied, err := s.newImage(ctx, s.west, "by curl")
	if err != nil {
		return cost{}, err
	}
	from, fromToken, err := s.east.address("image", "images/"+id+"/file")
	if err != nil {
		return cost{}, err
	}
	to, toToken, err := s.west.address("image", "images/"+copied+"/file")
	if err != nil {
		return cost{}, err
	}
	const script = `set -eu; curl -sSf -H "X-Auth-Token: $2" "$1" | curl -sSf -o /dev/null -X PUT -H "X-Auth-Token: $4" -H 'Content-Type: application/octet-stream' -T - "$3"`
	c, _, err := run(ctx, s.b.dir, nil, "/bin/sh", "-c", script, "sh", from, fromToken, to, toToken)
	if err != nil {
		return c, err
	}
	got, err := s.west.sumOf(ctx, copied)
	if err == nil && got != sum {
		err = errors.New("curl has copied something else")
	}
	return c, errors.Join(err, s.west.call(ctx, "image", http.MethodDelete, "images/"+copied, nil, nil))
}

// carryImage lets draasd carry the image, as if it had never done so, and removes
// the copy.
func (s *sites) carryImage(ctx context.Context, p *pair, sum string) (cost, error) {
	if err := p.forget(); err != nil {
		return cost{}, err
	}
	c, said, err := p.sync(ctx, "run", "--kind", "domain,project,image")
	if err != nil {
		return c, err
	}
	var list struct{ Images []shown }
	if err := s.west.call(ctx, "image", http.MethodGet, "images?name=bench", nil, &list); err != nil {
		return c, err
	}
	if len(list.Images) != 1 || list.Images[0].Sum != sum {
		return c, fmt.Errorf("draasd has carried %d images: %+v\n%s", len(list.Images), list.Images, said)
	}
	return c, s.west.call(ctx, "image", http.MethodDelete, "images/"+list.Images[0].ID, nil, nil)
}
