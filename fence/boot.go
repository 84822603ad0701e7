package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	draas "github.com/draasd/draas"
)

// CloseAll closes the kernel fences among the entries, backstops included, and
// leaves the closing to the kernel: it is for the time between boot, before the
// network is up, and the start of the guard whose socket is named. The other
// kinds need a guard and are passed over. An interface that is not there yet
// is logged, not an error: the guard's start restores the backstop.
//
// It returns ErrGuardRunning when the guard runs, which has done it then.
func CloseAll(ctx context.Context, socket string, entries []Entry, log *slog.Logger) error {
	if err := makePrivateDir(filepath.Dir(socket)); err != nil {
		return fmt.Errorf("close fences: %w", err)
	}
	unlock, err := lockFile(socket + ".lock")
	if err != nil {
		return fmt.Errorf("close fences: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Kind != draas.FenceKernel {
			continue
		}
		cerr := e.Fence.Close(ctx)
		state, serr := e.Fence.State(ctx)
		switch {
		case state == Closed:
			log.Info("fence closed", "service", e.Service)
		case errors.Is(serr, ErrNoInterface): // the rules were found whole before
			log.Warn("fence closed without its backstop", "service", e.Service, "err", serr)
		default:
			errs = append(errs, fmt.Errorf("close fence of %s: observed %s: %w", e.Service, state, errors.Join(cerr, serr)))
		}
	}
	return errors.Join(append(errs, unlock())...)
}
