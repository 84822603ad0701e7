package openstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Left lists the processes whose command line names one of the folders: when
// their sites have been stopped there is none.
func Left(dirs ...string) ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for _, dir := range dirs {
			if strings.Contains(string(text), dir) {
				found = append(found, strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " ")))
			}
		}
	}
	return found, nil
}
