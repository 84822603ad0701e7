package matrix

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

// syncEvery is the pause between two looks at both clouds: the least that the
// file can say.
const syncEvery = time.Second

// cloudLatency is what a service of a cloud takes for a request at the least,
// the way to it aside.
const cloudLatency = 10 * time.Millisecond

// customer is the project whose users write.
const customer = "shop"

// in acts in the customer's project of a cloud; false: it is not there.
func in(c *fakecloud.Cloud) (h fakecloud.Hand, project string, ok bool) {
	out, err := c.Hand().Do(fakecloud.Identity, http.MethodGet, "projects?name="+customer, nil)
	all, _ := out["projects"].([]any)
	if err != nil || len(all) != 1 {
		return h, "", false
	}
	found, _ := all[0].(fakecloud.Fields)
	project, ok = found["id"].(string)
	return c.Hand().In(project), project, ok
}

// startClouds gives each site a cloud, on a machine of its own, and writes the
// file by which members reach both. The clouds are in this process, which is how
// what they hold is known without asking; their sockets are the machines'.
func (w *world) startClouds() error {
	entries := "clouds:\n"
	for _, s := range sites {
		m, err := w.net.add(cloudHost(s), s, hostCloud)
		if err != nil {
			return err
		}
		err = m.Inside(func() error {
			c, err := fakecloud.Start(fakecloud.Options{Listen: fmt.Sprintf("%s:%d", address(s, hostCloud), cloudPort), Latency: cloudLatency})
			if err == nil {
				w.clouds[m.Name] = c
				entries += c.YAMLEntry(s)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("start cloud of %s: %w", s, err)
		}
	}
	w.clouds[cloudHost(primary)].Hand().Make("project", fakecloud.Fields{"name": customer})
	for _, s := range sites {
		if err := os.WriteFile(filepath.Join(w.home(s), "clouds.yaml"), []byte(entries), 0o600); err != nil {
			return fmt.Errorf("write clouds.yaml: %w", err)
		}
	}
	return nil
}

// boot opens the cloud of a machine again, if it has one.
func (w *world) boot(machine string) error {
	c := w.clouds[machine]
	if c == nil {
		return nil
	}
	if err := w.net.machines[machine].Inside(c.Revive); err != nil {
		return fmt.Errorf("start %s: %w", machine, err)
	}
	return nil
}

// cloudOf are the machines of a site's cloud: none, or one.
func (w *world) cloudOf(site string) []string {
	if !w.clouded() {
		return nil
	}
	return []string{cloudHost(site)}
}
