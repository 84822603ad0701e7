package bugs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files gives the content of each file that the edits change, by its path from
// the module's root.
func Files(root string, edits []Edit) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range edits {
		if e.Old == "" || e.Old == e.New {
			return nil, fmt.Errorf("edit of %s changes nothing", e.File)
		}
		text, ok := files[e.File]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(root, e.File)); err != nil {
				return nil, fmt.Errorf("read what a bug changes: %w", err)
			}
		}
		if n := strings.Count(string(text), e.Old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, not once: %q", e.File, n, e.Old)
		}
		files[e.File] = []byte(strings.Replace(string(text), e.Old, e.New, 1))
	}
	return files, nil
}

// WriteOverlay writes the edited files and a file for go build -overlay below
// dir, and gives the latter's name.
func WriteOverlay(root, dir string, edits []Edit) (string, error) {
	files, err := Files(root, edits)
	if err != nil {
		return "", err
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("find root: %w", err)
	}
	replace := make(map[string]string, len(files))
	for name, text := range files {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return "", fmt.Errorf("write overlay: %w", err)
		}
		replace[filepath.Join(root, name)] = to
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	return name, nil
}
