package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/draasd/draas"
	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/openstack"
)

// Replication carries one site's cloud to another's: an engine with its clouds
// and records open. It is to be closed.
type Replication struct {
	*syncer.Engine
	records  *syncer.Store
	sessions []*cloud.Session
}

// OpenReplication logs in to both clouds and opens the records, which one
// process has open at a time. gate is asked before each write; nil: the operator
// answers for it.
func OpenReplication(ctx context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate, log *slog.Logger) (*Replication, error) {
	r := &Replication{}
	if err := r.open(ctx, cfg, from, to, gate, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open replication from %s to %s: %w", from, to, err), r.Close())
	}
	return r, nil
}

func (r *Replication) open(ctx context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate, log *slog.Logger) error {
	s := &cfg.Sync
	source, err := r.side(ctx, s, from, log)
	if err != nil {
		return err
	}
	target, err := r.side(ctx, s, to, log)
	if err != nil {
		return err
	}
	filter := syncFilter(s)
	if filter.Projects, err = source.ProjectIDs(ctx, s.Projects); err != nil {
		return err
	}
	if r.records, err = syncer.OpenStore(s.StateOf(from)); err != nil {
		return err
	}
	r.Engine, err = syncer.New(syncer.Config{
		Source: source, Target: target, Store: r.records, Gate: gate, Log: log,
		Policy:  func(k syncer.Kind) syncer.Policy { return syncPolicy(s, k) },
		Map:     syncMap(s, from, to),
		Filter:  filter,
		Brake:   syncer.Brake{Objects: s.BrakeObjects, Share: s.BrakeShare},
		Workers: s.Workers, Streams: s.Streams,
	})
	return err
}

// OpenCloud logs in to one site's cloud. The caller ends what it opened.
func OpenCloud(ctx context.Context, cfg *config.Config, site draas.SiteID, log *slog.Logger) (*openstack.Side, func() error, error) {
	r := new(Replication)
	side, err := r.side(ctx, &cfg.Sync, site, log)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return side.Side, r.Close, nil
}

// side logs in to a site's cloud.
func (r *Replication) side(ctx context.Context, s *config.Sync, site draas.SiteID, log *slog.Logger) (*countedSide, error) {
	name, ok := s.Clouds[site]
	if !ok || s.CloudsFile == "" {
		return nil, fmt.Errorf("no cloud of %s is known: write cloud in [member.%s], and clouds_file in [sync]", site, site)
	}
	c, err := cloud.Read(cloud.Source{File: s.CloudsFile, Name: name, AllowPlain: s.Plain})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: clouds_file in [sync] names it", err)
	case err != nil:
		return nil, fmt.Errorf("%w (cloud of [member.%s])", err, site)
	}
	session, err := cloud.Open(ctx, c, cloud.Options{Log: log, Rates: syncRates(s, ""), ServiceRates: serviceRates(s), Concurrency: max(s.Workers, 1), Streams: max(s.Workers, s.Streams, 1),
		AnswerTimeout: s.AnswerTimeout, HeaderTimeout: s.UploadTimeout})
	var refused *cloud.Error
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		return nil, fmt.Errorf("%w The name or the password that %s has for %s are wrong, or may not log in", err, s.CloudsFile, name)
	case err != nil:
		return nil, err
	}
	r.sessions = append(r.sessions, session)
	given := make(map[syncer.Kind][]string, len(s.Given))
	for kind, names := range s.Given {
		given[syncer.Kind(kind)] = names
	}
	return &countedSide{session: session, Side: openstack.New(session, openstack.Options{Site: string(site), Given: given, SegmentAbove: s.SegmentAbove, SegmentSize: s.SegmentSize})}, nil
}

// countedSide tells the engine how many requests it has made.
type countedSide struct {
	*openstack.Side
	session *cloud.Session
}

// Requests to all services of the cloud.
func (c *countedSide) Requests() int64 {
	var n int64
	for _, s := range c.session.Stats() {
		n += s.Requests
	}
	return n
}

// ReplicationEpoch is the epoch of a run: of an older generation of the cluster is
// older, whatever its epoch.
func ReplicationEpoch(generation uint64, epoch draas.Epoch) uint64 {
	return generation<<40 | uint64(epoch)
}

// EpochOfReplication is the epoch of what a run followed.
func EpochOfReplication(run uint64) draas.Epoch { return draas.Epoch(run & (1<<40 - 1)) }

// Close lets go of the records and the clouds.
func (r *Replication) Close() error {
	for _, s := range r.sessions {
		s.Close()
	}
	if r.records == nil {
		return nil
	}
	return r.records.Close()
}

func syncPolicy(s *config.Sync, k syncer.Kind) syncer.Policy {
	has := func(word string) bool { return s.PolicyOf(string(k), word) }
	return syncer.Policy{
		Overwrite: has(config.PolicyOverwrite), Adopt: has(config.PolicyAdopt), Rename: has(config.PolicyRename), Keep: has(config.PolicyKeep),
		Missing: s.Missing, Grace: s.Grace,
	}
}

func syncMap(s *config.Sync, from, to draas.SiteID) []syncer.Mapping {
	var all []syncer.Mapping
	for _, m := range s.Map {
		if a, b := m.At[from], m.At[to]; a != "" && b != "" {
			all = append(all, syncer.Mapping{Kind: syncer.Kind(m.Kind), Source: a, Target: b})
		}
	}
	return all
}

func syncFilter(s *config.Sync) syncer.Filter {
	kinds := func(names []string) []syncer.Kind {
		var all []syncer.Kind
		for _, n := range names {
			all = append(all, syncer.Kind(n))
		}
		return all
	}
	return syncer.Filter{Kinds: kinds(s.Kinds), Without: kinds(s.Without), Projects: s.Projects, Tags: s.Tags, Names: s.Names, Except: s.Except}
}

// syncRates are those of one service, or of all together.
func syncRates(s *config.Sync, service string) []cloud.Rate {
	var all []cloud.Rate
	for _, r := range s.Rates {
		if r.Service != service {
			continue
		}
		all = append(all, cloud.Rate{From: r.From, To: r.To, RequestsPerSecond: float64(r.Requests), BytesPerSecond: r.Bytes})
	}
	return all
}

func serviceRates(s *config.Sync) map[string][]cloud.Rate {
	all := make(map[string][]cloud.Rate)
	for _, r := range s.Rates {
		if r.Service != "" && all[r.Service] == nil {
			all[r.Service] = syncRates(s, r.Service)
		}
	}
	return all
}
