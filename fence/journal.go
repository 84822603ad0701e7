package fence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	draas "github.com/draasd/draas"
)

// maxJournal bounds the journal that is read at start.
const maxJournal = 1 << 20

// mark is what must survive a restart of the guard: an epoch that was closed
// or overtaken must not be reopened by a message that was under way.
type mark struct {
	Highest draas.Epoch `json:"highest"`
	Ended   draas.Epoch `json:"ended"`
}

// journal keeps the marks in one small file, written whole and renamed.
type journal struct {
	path string

	mu    sync.Mutex
	marks map[draas.ServiceID]mark
}

// openJournal reads the file. A missing file is a new guard; an unreadable one
// is an error, since unknown is not empty (DESIGN.md, rule 4).
func openJournal(path string) (*journal, error) {
	j := &journal{path: path, marks: map[draas.ServiceID]mark{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	if j.marks, err = decodeJournal(b); err != nil {
		return nil, fmt.Errorf("read journal %s: %w", path, err)
	}
	return j, nil
}

func decodeJournal(b []byte) (map[draas.ServiceID]mark, error) {
	if len(b) > maxJournal {
		return nil, fmt.Errorf("%d bytes, bound %d", len(b), maxJournal)
	}
	marks := map[draas.ServiceID]mark{}
	if err := json.Unmarshal(b, &marks); err != nil {
		return nil, err
	}
	if marks == nil {
		return nil, errors.New("not an object of services")
	}
	for id, m := range marks {
		if m.Ended > m.Highest {
			return nil, fmt.Errorf("service %q: epoch %d ended before it was seen (%d)", id, m.Ended, m.Highest)
		}
	}
	return marks, nil
}

func (j *journal) get(id draas.ServiceID) mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.marks[id]
}

// raise makes the services' marks at least those given, durably. When it
// returns an error the marks on disk are the old or the new ones.
func (j *journal) raise(marks map[draas.ServiceID]mark) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	old := j.marks
	raised := maps.Clone(old)
	for id, m := range marks {
		raised[id] = mark{Highest: max(old[id].Highest, m.Highest), Ended: max(old[id].Ended, m.Ended)}
	}
	if maps.Equal(raised, old) {
		return nil
	}
	j.marks = raised
	if err := j.write(); err != nil {
		j.marks = old // so that the next attempt writes
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal) write() error {
	b, err := json.Marshal(j.marks)
	if err != nil {
		return err
	}
	tmp := j.path + ".new"
	if err := writeSynced(tmp, append(b, '\n')); err != nil {
		return err
	}
	if err := os.Rename(tmp, j.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(j.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
