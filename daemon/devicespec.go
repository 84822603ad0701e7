package daemon

import (
	"fmt"
	"log/slog"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/fence"
)

// devicesOf makes the devices that switch the other sites off, by unit and
// site: those of each of its parts.
func devicesOf(c *config.Config, units map[draas.ServiceID][]draas.ServiceID, own draas.SiteID, log *slog.Logger) (map[draas.ServiceID]map[draas.SiteID][]siteDevice, error) {
	all := make(map[draas.ServiceID]map[draas.SiteID][]siteDevice)
	for unit, parts := range units {
		for _, id := range parts {
			s, _ := c.Service(id) // units are made from the same file
			for i := range s.Fence.Devices {
				f := &s.Fence.Devices[i]
				if f.Site == own {
					continue
				}
				d, err := fence.NewDevice(fence.DeviceSpec{
					Kind: fence.DeviceKind(f.Kind), Off: f.Off, Status: f.Status,
					Address: f.Address, User: f.User, PasswordFile: f.PasswordFile, Cipher: f.Cipher,
					Timeout: f.Timeout, Stay: f.Stay, Log: log,
				})
				if err != nil {
					return nil, fmt.Errorf("service %s: %w", id, err)
				}
				if all[unit] == nil {
					all[unit] = make(map[draas.SiteID][]siteDevice)
				}
				all[unit][f.Site] = append(all[unit][f.Site], siteDevice{device: d, service: id, name: deviceName(id, f)})
			}
		}
	}
	return all, nil
}

// deviceName is what stands in the evidence.
func deviceName(id draas.ServiceID, f *config.Device) string {
	if f.Kind == config.DeviceIPMI {
		return fmt.Sprintf("%s: ipmi %s", id, f.Address)
	}
	return fmt.Sprintf("%s: %s", id, f.Off[0])
}
