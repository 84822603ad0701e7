package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// openReplica opens the log and replays it.
func (d *Daemon) openReplica(disk quorum.Disk) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	c, policy := d.now().cfg, d.now().policy
	meta, err := quorum.ReadMeta(disk)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.Data, err)
	}
	d.clusterID = meta.ClusterID.String()
	incarnation := newIncarnation()
	replica, err := quorum.OpenReplica(quorum.CoreConfig{
		Self: d.self, Members: memberIDs(c), Heartbeat: c.Raft.Heartbeat, Election: c.Raft.Election,
		Disk: disk, Log: d.log, Rand: rand.Reader,
	}, failover.AgentConfig{
		Self: d.self, Incarnation: incarnation, Boot: boot, Policy: policy,
		Resend: 4 * c.Raft.Heartbeat,
	}, d.clock.Now())
	if err != nil {
		return fmt.Errorf("open replicated log: %w", err)
	}
	d.loop.replica = replica
	return d.openPeers(meta.ClusterID, incarnation)
}

// openPeers prepares the connections to the other members.
func (d *Daemon) openPeers(cluster quorum.ClusterID, incarnation draas.Incarnation) error {
	w := d.now()
	t, err := quorum.NewTransport(quorum.TransportConfig{
		Self: d.self, Cluster: cluster, Incarnation: incarnation, Listen: w.self.ListenPeer, Peers: w.peers(),
		TLS: quorum.TLSFiles{CA: w.cfg.TLS.CA, Cert: w.cfg.TLS.Cert, Key: w.cfg.TLS.Key}, Log: d.log,
		Inbox:    func(m quorum.Message) { d.loop.post(func(l *loop) { l.replica.Receive(m) }) },
		PeerDown: d.peerDown,
		Asked:    func(_ draas.MemberID, answer func()) { d.loop.post(func(*loop) { answer() }) },
	})
	if err != nil {
		return fmt.Errorf("prepare peers: %w", err)
	}
	d.transport = t
	return nil
}

// peers are the other members and where this one reaches them.
func (w *wiring) peers() map[draas.MemberID]string {
	peers := make(map[draas.MemberID]string)
	for _, m := range w.cfg.Members {
		if m.ID != w.self.ID {
			peers[m.ID] = w.cfg.PeerAddress(w.self.ID, m.ID)
		}
	}
	return peers
}

// ping asks a peer's daemon for a sign of life.
func (d *Daemon) ping(ctx context.Context, m draas.MemberID) error {
	return d.transport.Ping(ctx, m)
}

// peerDown: a reset connection to a daemon is worth a look at once at it and
// at what runs beside it. It is no verdict (rule 5).
func (d *Daemon) peerDown(m draas.MemberID) {
	d.loop.post(func(l *loop) {
		l.replica.PeerDown(m)
		for key := range d.lookout.epochs {
			if key.Member == m || key.Site.Member() == m {
				d.lookout.monitor.Trigger(key)
			}
		}
	})
}

// newIncarnation tells this run from others. crypto/rand never fails.
func newIncarnation() draas.Incarnation {
	var b [8]byte
	rand.Read(b[:])
	return draas.Incarnation(binary.LittleEndian.Uint64(b[:]) | 1)
}

func memberIDs(c *config.Config) []draas.MemberID {
	var ids []draas.MemberID
	for _, m := range c.Members {
		ids = append(ids, m.ID)
	}
	return ids
}

// bootID tells two boots of the machine apart, and two machines.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	if len(data) < 36 {
		return "", errors.New("read boot id: it is too short")
	}
	return string(data[:36]), nil
}
