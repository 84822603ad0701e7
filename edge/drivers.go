package edge

import (
	"fmt"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/haproxy"
	"github.com/draasd/draas/schemes/frontend/nat"
	"github.com/draasd/draas/schemes/frontend/nginx"
)

// driverOf is what drives a proxy of others.
func driverOf(c *config.Config, f config.Frontend) (d frontend.Driver, err error) {
	switch f.Kind {
	case config.FrontendHAProxy:
		d, err = haproxy.New(haproxy.Config{Socket: f.Socket, Master: f.Master})
	case config.FrontendNginx:
		conf := nginx.Config{Include: f.Include, Test: f.Test, Reload: f.Reload}
		for _, s := range servicesOf(c, f.ID) {
			if s.Frontend.Mode == config.ModeTCP {
				conf.Streams = append(conf.Streams, s.ID)
			}
		}
		d, err = nginx.New(conf)
	case config.FrontendNAT:
		conf := nat.Config{Services: make(map[draas.ServiceID]nat.Service)}
		for _, s := range servicesOf(c, f.ID) {
			// Answers have to come back by here, whatever the servers' routes say.
			conf.Services[s.ID] = nat.Service{Listen: s.Frontend.Listen, Masquerade: true,
				Affinity: s.Frontend.Affinity == config.AffinitySource}
		}
		d, err = nat.New(conf)
	default:
		err = fmt.Errorf("nothing drives kind %q", f.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("frontend.%s: %w", f.ID, err)
	}
	return d, nil
}
