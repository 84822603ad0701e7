package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/internal/lab/fakecloud"
)

// Users of the primary's cloud write objects all the time, one every feedPause,
// each of so many octets, into one container.
const (
	feedPause  = 50 * time.Millisecond
	feedSize   = 4 << 10
	feedInto   = "orders"
	feedLooks  = 3 // of the copier, before anything happens
	swiftRoot  = "/object-store/v1/AUTH_"
	loginsPath = "/auth/tokens"
)

// feed is what is written at one cloud, and copied to the other: who writes knows
// what has to be there.
type feed struct {
	from   fakecloud.Hand
	to     *fakecloud.Cloud
	prefix string // of this run's names

	mu      sync.Mutex
	written []written
	looks   []look
	planned int           // looks, up to the last one of which something was copied
	login   time.Time     // since the last look; zero: none
	copied  chan struct{} // gets one when something is being copied

	unhook []func()
	quit   context.CancelFunc
	done   sync.WaitGroup
}

// written is an object, and when it was: a listing that was asked for before may
// lack it.
type written struct {
	name string
	at   time.Time
}

// look is one at what there is to be copied: when the copier logged in for it, and
// when the source was asked for the listing. What was written before that stands
// in it.
type look struct{ login, listed time.Time }

// startFeed begins to write.
func (w *world) startFeed() error {
	source := w.clouds[cloudHost(primary)]
	from, project, ok := in(source)
	if !ok {
		return fmt.Errorf("%s has no project %s", cloudHost(primary), customer)
	}
	f := &feed{from: from, to: w.clouds[cloudHost(dr)], prefix: time.Now().Format("150405.000000-"), copied: make(chan struct{}, 1)}
	container := swiftRoot + project + "/" + feedInto
	f.unhook = []func(){
		source.OnRequest(func(r fakecloud.Request) { f.asked(r, container) }),
		f.to.OnRequest(func(r fakecloud.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.Path, "/"+feedInto+"/") {
				f.put()
			}
		}),
	}
	var ctx context.Context
	ctx, f.quit = context.WithCancel(context.Background())
	f.done.Go(func() { f.write(ctx) })
	w.feed = f
	return nil
}

// asked notes what the copier asks the source for.
func (f *feed) asked(r fakecloud.Request, container string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.Path, loginsPath):
		if f.login.IsZero() {
			f.login = time.Now()
		}
	case r.Method == http.MethodGet && r.Path == container && !f.login.IsZero(): // the first page of a run
		f.looks = append(f.looks, look{f.login, time.Now()})
		f.login = time.Time{}
	}
}

// put notes that something is being copied.
func (f *feed) put() {
	f.mu.Lock()
	f.planned = len(f.looks)
	f.mu.Unlock()
	select {
	case f.copied <- struct{}{}:
	default:
	}
}

func (f *feed) write(ctx context.Context) {
	tick := time.NewTicker(feedPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		name := fmt.Sprintf("%s%05d", f.prefix, n)
		f.from.Object(feedInto, name, fakecloud.Generated(uint64(n), feedSize), nil)
		f.mu.Lock()
		f.written = append(f.written, written{name, time.Now()})
		f.mu.Unlock()
	}
}

// stop ends the writing: nobody can write at a site that is off. What is asked of
// the clouds is noted on.
func (f *feed) stop() {
	f.quit()
	f.done.Wait()
}

// endFeed forgets the feed, if there is one.
func (w *world) endFeed() {
	if w.feed == nil {
		return
	}
	w.feed.stop()
	for _, u := range w.feed.unhook {
		u()
	}
	w.feed = nil
}

// missing are the objects that did not come across, the oldest first.
func (f *feed) missing() []written {
	f.mu.Lock()
	all := f.written
	f.mu.Unlock()
	to, _, ok := in(f.to)
	var out []written
	for _, x := range all {
		if !ok || to.ObjectData(feedInto, x.name) == nil {
			out = append(out, x)
		}
	}
	return out
}

// complete counts the looks, from the first on, of which everything came across.
func (f *feed) complete() int {
	missing := f.missing()
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.looks {
		if len(missing) > 0 && missing[0].at.Before(l.listed) {
			break
		}
		n++
	}
	return n
}

// copying waits until what the primary's cloud has comes to the other, and begins
// to write there. After a move a person has to accept that it goes on.
func (w *world) copying(ctx context.Context) error {
	err := await(ctx, homeLimit, func(ctx context.Context) error {
		s, err := w.syncStatus(ctx)
		switch {
		case err != nil:
			return err
		case s.Held != "":
			return errors.Join(errors.New("it was held"), w.accept(ctx))
		case s.Failures > 0:
			_, err := w.clients[dr].TriggerSync(ctx, api.SyncTrigger{})
			pause(ctx, syncEvery/2)
			return errors.Join(fmt.Errorf("runs have failed: %s", s.Error), err)
		case !s.Known:
			return errors.New("it is not known how far the copy is")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy the cloud: %w", err)
	}
	if err := w.startFeed(); err != nil {
		return err
	}
	err = await(ctx, startLimit, func(context.Context) error {
		if n := w.feed.complete(); n < feedLooks {
			return fmt.Errorf("%d looks have copied everything", n)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy the cloud: %w", err)
	}
	return nil
}

// accept does what a person does about a direction that has turned.
func (w *world) accept(ctx context.Context) error {
	cmd := w.net.machines[dr].Command("/", w.o.Draasd, "sync", "run", "--accept", "keep", "-c", w.file(dr))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	})
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("accept: %w: %s", err, &said)
	}
	return nil
}

func (w *world) syncStatus(ctx context.Context) (*api.Sync, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return w.clients[dr].Sync(ctx)
}

// midRun waits until something is being copied.
func (w *world) midRun(ctx context.Context) error {
	select {
	case <-w.feed.copied: // long ago, perhaps
	default:
	}
	t := time.NewTimer(startLimit)
	defer t.Stop()
	select {
	case <-w.feed.copied:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("nothing is copied for %v", startLimit)
	}
}

// notCarried is how a member warns of runs that fail, one after the other.
const notCarried = "is not carried here"

// alarmLimit is how long that may take: three runs fail, after pauses of 5 s and
// 10 s, each by as many requests as are tried again.
const alarmLimit = 90 * time.Second

// alarmed waits until the member that copies warns, and returns after how long.
func (w *world) alarmed(ctx context.Context, struck time.Time) (time.Duration, error) {
	err := await(ctx, alarmLimit, func(ctx context.Context) error {
		s, err := w.clients[dr].Status(ctx, true)
		if err != nil {
			return err
		}
		for _, text := range s.Warnings {
			if strings.Contains(text, notCarried) {
				return nil
			}
		}
		pause(ctx, 100*time.Millisecond)
		return fmt.Errorf("it warns of %q", s.Warnings)
	})
	if err != nil {
		err = fmt.Errorf("%w; %s", err, w.copier(ctx))
	}
	return time.Since(struck), err
}

// copier is what the member that copies says of it.
func (w *world) copier(ctx context.Context) string {
	s, err := w.syncStatus(ctx)
	if err != nil {
		return fmt.Sprintf("how the copier is: %v", err)
	}
	s.Kinds = nil // long
	said, err := json.Marshal(s)
	if err != nil {
		return fmt.Sprintf("how the copier is: %v", err)
	}
	return fmt.Sprintf("the copier at %s: %s", time.Now().UTC().Format(time.RFC3339), said)
}
