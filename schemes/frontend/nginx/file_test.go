package nginx

import (
	"os"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// The samples that lead nowhere are what the driver writes for nowhere.
func TestSamples(t *testing.T) {
	for _, name := range []string{"shop", "ledger"} {
		spec := &frontend.Spec{Service: draas.ServiceID(name)}
		d, err := New(Config{Include: "/run/draas/nginx", Streams: []draas.ServiceID{"ledger"}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.place(spec).render(spec, frontend.Leading{})
		if err != nil {
			t.Fatal(err)
		}
		path := "../../../etc/frontend/nginx/" + name + ".conf"
		if os.Getenv("DRAAS_UPDATE") != "" {
			if err := os.WriteFile(path, f.text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		sample, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(sample) != string(f.text) {
			t.Errorf("%s has\n%swant\n%s(DRAAS_UPDATE=1 writes it)", path, sample, f.text)
		}
	}
}
