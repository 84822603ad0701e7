package fence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

const (
	// maxPeers bounds the connections to the socket; further ones wait in the
	// listener's queue.
	maxPeers = 64
	// idlePeer is how long a peer may say nothing, or take to send a message.
	// The client connects again.
	idlePeer = time.Minute
	// closeWait bounds how long a close request waits for the confirmation.
	closeWait = 30 * time.Second
)

// serve answers on the socket until ctx ends.
func (g *Guard) serve(ctx context.Context, ln *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // unblocks Accept
	defer stop()
	var peers sync.WaitGroup
	defer peers.Wait()
	slots := make(chan struct{}, maxPeers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // came too late
			}
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM):
			<-slots
			g.log.Error("guard cannot accept", "err", err)
			pause(ctx, 100*time.Millisecond)
			continue
		case err != nil:
			return fmt.Errorf("accept on guard socket: %w", err)
		}
		peers.Go(func() {
			defer func() { <-slots }()
			g.converse(ctx, conn)
		})
	}
}

// converse answers one peer's requests, one after the other.
func (g *Guard) converse(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := checkPeer(conn); err != nil {
		g.log.Error("guard refused a peer", "err", err)
		return
	}
	r := bufio.NewReaderSize(conn, maxRequest)
	for {
		if ctx.Err() != nil || conn.SetDeadline(time.Now().Add(idlePeer)) != nil {
			return
		}
		if ctx.Err() != nil {
			return // it ended before the deadline was set anew
		}
		line, err := readLine(r)
		var rep reply
		switch {
		case err == nil:
			rep = g.answer(ctx, line)
		case errors.Is(err, ErrBadRequest):
			rep = refuse(err)
		default: // io.EOF, idle, or gone
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				g.log.Warn("guard lost a peer", "err", err)
			}
			return
		}
		out, eerr := encodeLine(rep, maxReply)
		if eerr != nil {
			out, _ = encodeLine(refuse(eerr), maxReply) // small: it always fits
		}
		if _, werr := conn.Write(out); werr != nil || err != nil || rep.Code == codeOf(ErrBadRequest) {
			return // out of step with this peer
		}
	}
}

func refuse(err error) reply {
	return reply{refusal: refusal{Code: codeOf(err), Error: bounded(err.Error(), 4096)}}
}

func (g *Guard) answer(ctx context.Context, line []byte) reply {
	req, err := decodeRequest(line)
	if err != nil {
		return refuse(err)
	}
	switch req.Op {
	case opStatus:
		var rep reply
		for _, k := range g.all() {
			rep.Services = append(rep.Services, k.status())
		}
		return rep
	case opExtendAll:
		var rep reply
		for _, x := range g.extend(ctx, req.Extend) {
			rep.Services = append(rep.Services, x.Status)
			var no refusal
			if x.Err != nil {
				no = refusal{Code: codeOf(x.Err), Error: bounded(x.Err.Error(), 1024)}
			}
			rep.Refused = append(rep.Refused, no)
		}
		return rep
	}
	var st Status
	if req.Op == opExtend {
		x := g.extend(ctx, []Extension{{Service: req.Service, Epoch: req.Epoch, Deadline: req.Deadline}})[0]
		st, err = x.Status, x.Err
	} else {
		st, err = g.close(ctx, req.Service, req.Epoch)
	}
	rep := reply{Services: []Status{st}}
	if err != nil {
		rep = refuse(err)
		rep.Services = []Status{st}
	}
	return rep
}

// Extended is what became of one Extension: the service's status, and the error
// with which the extension was refused.
type Extended struct {
	Status Status
	Err    error
}

// extend takes deadlines: one write of the journal and one wait for the effect,
// however many there are.
func (g *Guard) extend(ctx context.Context, asked []Extension) []Extended {
	keepers := make([]*keeper, len(asked))
	errs := make([]error, len(asked))
	marks := map[draas.ServiceID]mark{}
	for i, x := range asked {
		keepers[i] = g.keeper(x.Service)
		if keepers[i] == nil {
			errs[i] = fmt.Errorf("%w: %q", ErrUnknownService, bounded(string(x.Service), 64))
			continue
		}
		var m mark
		if m, errs[i] = keepers[i].try(x.Epoch, x.Deadline); errs[i] == nil {
			marks[x.Service] = m
		}
	}
	// Durable before it is acted on, and with no keeper locked, since a slow
	// disk must not hold up a deadline. So the ledger judges again afterwards.
	jerr := g.journal.raise(marks)
	for i, x := range asked {
		if errs[i] == nil && jerr != nil {
			errs[i] = jerr
		}
		if errs[i] == nil {
			errs[i] = keepers[i].take(x.Epoch, x.Deadline)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	all := make([]Extended, len(asked))
	for i, x := range asked {
		if errs[i] == nil {
			errs[i] = keepers[i].awaitOpen(ctx, x.Epoch, x.Deadline)
		}
		all[i] = Extended{Status: Status{Service: x.Service}, Err: errs[i]}
		if keepers[i] != nil {
			all[i].Status = keepers[i].status()
		}
	}
	return all
}

// close ends an epoch and waits until the fence is observed closed.
func (g *Guard) close(ctx context.Context, id draas.ServiceID, epoch draas.Epoch) (Status, error) {
	k := g.keeper(id)
	if k == nil {
		return Status{Service: id}, fmt.Errorf("%w: %q", ErrUnknownService, bounded(string(id), 64))
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	return k.close(ctx, epoch)
}

// checkPeer lets in only processes of our own user, and root.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("look at peer: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("look at peer: %w", err)
	}
	if cerr != nil {
		return fmt.Errorf("look at peer: %w", cerr)
	}
	return allowUID(cred.Uid, uint32(os.Geteuid()))
}

func allowUID(peer, own uint32) error {
	if peer != own && peer != 0 {
		return fmt.Errorf("peer's user id %d is neither %d nor root", peer, own)
	}
	return nil
}

// pause waits, but not past the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
