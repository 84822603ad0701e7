package edge

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// maxLines bounds in bytes what of the access log waits for the disk.
const maxLines = 4 << 20

// lines is the access log: what the disk does not take in time is dropped and
// counted, and holds no request up.
type lines struct {
	dropped atomic.Int64
	log     *slog.Logger
	file    *os.File // nil: none

	mu    sync.Mutex
	kept  []byte
	wake  chan struct{}
	quit  chan struct{}
	ended chan struct{}
}

// openLines opens the file; an empty path is no log.
func openLines(path string, log *slog.Logger) (*lines, error) {
	l := &lines{log: log, wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	if path == "" {
		close(l.ended)
		return l, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	l.file = f
	go l.run()
	return l, nil
}

// wanted reports whether there is a log: without one no line is put together.
func (l *lines) wanted() bool { return l != nil && l.file != nil }

// Write takes whole lines.
func (l *lines) Write(p []byte) (int, error) {
	if l.file == nil {
		return len(p), nil
	}
	l.mu.Lock()
	if len(l.kept)+len(p) > maxLines {
		l.dropped.Add(1)
	} else {
		l.kept = append(l.kept, p...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) run() {
	defer close(l.ended)
	failed := false
	for {
		quit := false
		select {
		case <-l.wake:
		case <-l.quit:
			quit = true
		}
		l.mu.Lock()
		data := l.kept
		l.kept = nil
		l.mu.Unlock()
		if _, err := l.file.Write(data); err != nil {
			l.dropped.Add(1)
			if !failed {
				l.log.Error("cannot write the access log", "err", err)
			}
			failed = true
		} else if len(data) > 0 {
			failed = false
		}
		if quit {
			return
		}
	}
}

// close writes what is left.
func (l *lines) close() error {
	if l.file == nil {
		return nil
	}
	close(l.quit)
	<-l.ended
	return l.file.Close()
}

var _ io.Writer = (*lines)(nil)
