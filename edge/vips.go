package edge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/vip/lan"
)

// kept is a keeper that runs.
type kept struct {
	*keeper
	from    keptFrom
	clients []*api.Client
	stop    context.CancelFunc
	ended   chan struct{}
}

// keptFrom is what of the file a keeper rests on.
type keptFrom struct {
	vip     config.VIP
	tls     config.TLS
	members map[draas.MemberID]string // where they are asked
}

// useVIPs goes by a file's virtual IPs. One that it does not change is kept as it
// is: a file that is read again moves nobody.
func (e *Edge) useVIPs(ctx context.Context, c *config.Config) {
	wanted := make(map[string]keptFrom)
	for _, v := range c.VIPsOf(e.name) {
		from := keptFrom{vip: v, tls: c.TLS, members: make(map[draas.MemberID]string)}
		for _, m := range c.Members {
			if m.API != "" {
				from.members[m.ID] = c.APIAddress(e.name, m.ID)
			}
		}
		wanted[v.ID] = from
	}
	for id, k := range e.vips() {
		if from, has := wanted[id]; !has || !reflect.DeepEqual(from, k.from) {
			e.endVIP(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		if e.vips()[id] == nil {
			e.keep(ctx, wanted[id])
		}
	}
}

// keep begins to keep a virtual IP.
func (e *Edge) keep(ctx context.Context, from keptFrom) {
	k := &kept{from: from, ended: make(chan struct{})}
	members := make(map[draas.MemberID]granter)
	for id, at := range from.members {
		conf, err := connect.ClientTLS(from.tls, id)
		if err != nil {
			e.log.Error("a member cannot be asked for virtual IPs", "member", id, "err", err)
			continue
		}
		client := api.TLS(at, conf)
		k.clients = append(k.clients, client)
		members[id] = client
	}
	k.keeper = newKeeper(from.vip, e.name, e.o.Clock, e.log, members, e.openVIP)
	ctx, k.stop = context.WithCancel(ctx)
	go func() { k.run(ctx); close(k.ended) }()
	e.mu.Lock()
	e.keeps[from.vip.ID] = k
	e.mu.Unlock()
}

// openAddresses opens what sets the addresses.
func openAddresses(k *keeper) (addresses, error) {
	conf := lan.Config{Name: k.v.ID, Clock: k.clock, Log: k.log, Friends: k.friends}
	for _, a := range k.v.At(k.frontend) {
		conf.Addresses = append(conf.Addresses, lan.Address{Interface: a.Interface, Prefix: a.Prefix})
	}
	k.mu.Lock()
	k.own = stationsOf(conf.Addresses)
	k.mu.Unlock()
	if k.v.SetBy == config.VIPByKeepalived {
		return tell(k.v.TrackFile, conf)
	}
	return lan.Open(conf)
}

// endVIP gives a virtual IP up and waits until it has.
func (e *Edge) endVIP(id string) {
	e.mu.Lock()
	k := e.keeps[id]
	delete(e.keeps, id)
	e.mu.Unlock()
	k.stop()
	<-k.ended
	for _, c := range k.clients {
		c.Close()
	}
}

// endVIPs gives all of them up.
func (e *Edge) endVIPs() {
	for id := range e.vips() {
		e.endVIP(id)
	}
}

// vips are the virtual IPs that are kept.
func (e *Edge) vips() map[string]*kept {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.keeps)
}

// yield gives a virtual IP up for somebody else to take, and tells who has.
func (e *Edge) yield(ctx context.Context, id string) (*api.Yielded, error) {
	k := e.vips()[id]
	if k == nil {
		return nil, fmt.Errorf("the file has no [vip.%s] that frontend %s may have", id, e.name)
	}
	to, err := k.yield(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Yielded{VIP: id, Holder: cmp.Or(to, e.name)}, nil
}

// vipStatus is how this frontend stands to its virtual IPs, with what its user
// should know of them.
func (e *Edge) vipStatus() (all []api.FrontendVIP, warnings []string) {
	vips := e.vips()
	for _, id := range slices.Sorted(maps.Keys(vips)) {
		s := vips[id].status()
		all = append(all, s)
		switch {
		case s.Trouble != "" && s.Has:
			warnings = append(warnings, fmt.Sprintf("vip %s: %s", id, s.Trouble))
		case s.Trouble != "":
			warnings = append(warnings, fmt.Sprintf("vip %s: this host cannot have it: %s", id, s.Trouble))
		case s.Holder == "":
			warnings = append(warnings, fmt.Sprintf("vip %s: it is not known that anybody has it", id))
		}
	}
	return all, warnings
}
