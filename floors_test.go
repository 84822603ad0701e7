package draas_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/draasd/draas"

// floorOf is the map of DESIGN.md, section 5. A package below one of these
// stands on the same floor.
var floorOf = map[string]int{
	"":        0,
	"runbook": 1, "config": 1, "rto": 1,
	"failover": 2,
	"cloud":    3,
	"health":   4, "quorum": 4, "fence": 4, "schemes": 4, "measure": 4, "api": 4, "syncer": 4,
	"model":  4, // imports nothing of ours
	"daemon": 5, "demo": 5, "edge": 5,
	"cmd": 6,
}

// pure lists what packages of floors 0 to 2 must not import: no network,
// files, processes or clock of their own.
var pure = []string{"net/http", "os", "os/exec", "net", "syscall", "crypto/tls", "crypto/rand", "math/rand", "math/rand/v2"}

type pkg struct {
	ImportPath string
	Imports    []string
}

// A package imports only lower floors, or its own parent; never a sibling.
func TestFloors(t *testing.T) {
	for _, p := range listPackages(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if strings.HasPrefix(path, "internal/") {
			continue // simulator and lab look at everything
		}
		floor, known := floorFor(path)
		if !known {
			t.Errorf("%s stands on no floor: put it on the map in DESIGN.md and in this test", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if floor <= 2 {
				for _, forbidden := range pure {
					if imported == forbidden && !strings.HasSuffix(path, "test") {
						t.Errorf("%s is pure and imports %s", path, imported)
					}
				}
			}
			below, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			below = strings.TrimPrefix(below, "/")
			belowFloor, _ := floorFor(below)
			if belowFloor < floor || isParent(below, path) {
				continue
			}
			t.Errorf("%s (floor %d) imports %s (floor %d)", path, floor, below, belowFloor)
		}
	}
}

func floorFor(path string) (int, bool) {
	top, _, _ := strings.Cut(path, "/")
	f, known := floorOf[top]
	return f, known
}

func isParent(parent, child string) bool {
	return parent != "" && strings.HasPrefix(child, parent+"/")
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("read packages: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}
