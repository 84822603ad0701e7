package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// box is the container that is carried.
const box = "bench"

// Of the large objects, and of their segments.
const (
	largeSize  = 24 << 20
	largePiece = 8 << 20
	larges     = 5
)

// sizeOf the i-th of the objects, in bytes: most are small, some have MiB, and
// some nothing.
func sizeOf(i int, r *rand.Rand) int64 {
	switch {
	case i%20 == 0:
		return 0
	case i%100 == 1:
		return 4<<20 + r.Int64N(4<<20)
	case i%10 == 2:
		return 256<<10 + r.Int64N(1<<20)
	case i%4 == 3:
		return 16<<10 + r.Int64N(240<<10)
	}
	return 1<<10 + r.Int64N(15<<10)
}

// files writes what is to become objects.
func (s *sites) files(dir string) (bytes int64, err error) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range s.b.o.Count {
		size := sizeOf(i, r)
		bytes += size
		if err := writeFile(filepath.Join(dir, "small", fmt.Sprintf("%02d", i%40), fmt.Sprintf("object-%05d", i)), size, byte(i)); err != nil {
			return 0, err
		}
	}
	for i := range larges {
		bytes += largeSize
		if err := writeFile(filepath.Join(dir, "large", fmt.Sprintf("object-%d", i)), largeSize, byte(i)); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}

func writeFile(path string, size int64, seed byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(rand.NewChaCha8([32]byte{seed, 2}), size))
	return errors.Join(err, f.Close())
}

// objects: small and large ones from Swift to Swift, beside swift(1), which
// downloads and uploads with ten threads.
func (s *sites) objects(ctx context.Context) (err error) {
	dir := filepath.Join(s.b.dir, "files")
	bytes, err := s.files(dir)
	if err != nil {
		return err
	}
	s.b.say("objects: %d, %d MiB, go to east", s.b.o.Count+larges, bytes>>20)
	if _, err := s.upload(ctx, s.east, dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	p, err := s.b.newPair("objects", s.yaml)
	if err != nil {
		return err
	}
	var peers, ours []cost
	for round := range s.b.o.SiteRounds {
		s.b.say("objects, round %d of %d", round+1, s.b.o.SiteRounds)
		down, err := s.east.swift(ctx, s.b.dir, "download", box, "--output-dir", dir)
		if err != nil {
			return err
		}
		up, err := s.upload(ctx, s.west, dir)
		if err != nil {
			return err
		}
		down.wall += up.wall
		down.cpu += up.cpu
		down.rss = max(down.rss, up.rss)
		peers = append(peers, down)
		if err := errors.Join(os.RemoveAll(dir), s.empty(ctx), p.forget()); err != nil {
			return err
		}
		own, _, err := p.sync(ctx, "run", "--kind", "domain,project,container,object")
		if err != nil {
			return err
		}
		ours = append(ours, own)
		if err := s.same(ctx); err != nil {
			return err
		}
		if round+1 < s.b.o.SiteRounds {
			if err := s.empty(ctx); err != nil {
				return err
			}
		}
	}
	peer := s.b.add("objects", "python-swiftclient, down and up", peers, bytes)
	own := s.b.add("objects", "draasd sync run", ours, bytes)
	s.b.target("objects: bytes/s to python-swiftclient's", ratio(peer, own, seconds), atLeast, 0.9, "")
	s.b.target("objects: memory", own.MiB, atMost, 64, "MiB")
	s.b.note("objects: %d of 0 B to 8 MiB and %d of %d MiB in segments of %d MiB", s.b.o.Count, larges, largeSize>>20, largePiece>>20)
	again, _, err := p.sync(ctx, "run", "--kind", "domain,project,container,object")
	if err != nil {
		return err
	}
	s.b.add("objects", "draasd sync run, nothing changed", []cost{again}, 0)
	return nil
}

// upload puts files into the container: what is large in segments, as it is put
// at either side.
func (s *sites) upload(ctx context.Context, to *place, dir string) (cost, error) {
	small, err := to.swift(ctx, dir, "upload", box, "small")
	if err != nil {
		return small, err
	}
	large, err := to.swift(ctx, dir, "upload", box, "large", "--use-slo", "--segment-size", strconv.Itoa(largePiece))
	small.wall += large.wall
	small.cpu += large.cpu
	small.rss = max(small.rss, large.rss)
	return small, err
}

// empty removes what is at west.
func (s *sites) empty(ctx context.Context) error {
	_, err := s.west.swift(ctx, s.b.dir, "delete", "--all")
	return err
}

// same compares the listings of both sides.
func (s *sites) same(ctx context.Context) error {
	// What a large object's manifest is written as differs from writer to writer.
	type listed struct {
		Name, Hash string
		Bytes      int64
		Large      string `json:"slo_etag"`
	}
	list := func(p *place) (map[listed]bool, error) {
		var rows []listed
		if err := p.call(ctx, "object-store", "GET", box+"?format=json&limit=10000", nil, &rows); err != nil {
			return nil, err
		}
		out := make(map[listed]bool)
		for _, r := range rows {
			if r.Large != "" {
				r.Hash = ""
			}
			out[r] = true
		}
		return out, nil
	}
	want, err := list(s.east)
	if err != nil {
		return err
	}
	// A container's listing follows its objects a moment later.
	for end := time.Now().Add(30 * time.Second); ; {
		got, err := list(s.west)
		if err != nil {
			return err
		}
		missing := 0
		for l := range want {
			if !got[l] {
				missing++
			}
		}
		if missing == 0 && len(got) == len(want) && len(want) >= s.b.o.Count+larges {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("west has %d objects, %d of east's %d are not there", len(got), missing, len(want))
		}
		if err := rounds.Pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}
