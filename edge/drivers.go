package edge

import (
	"fmt"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend"
)

// driverOf is what drives a proxy of others.
func driverOf(_ *config.Config, f config.Frontend) (frontend.Driver, error) {
	return nil, fmt.Errorf("frontend.%s: nothing drives kind %q", f.ID, f.Kind)
}
