package measure

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/draasd/draas/rto"
)

// errUnanswered marks a failure before the first byte of the answer.
var errUnanswered = errors.New("no answer")

// lookupError says that a name did not resolve, in time or at all.
type lookupError struct {
	host string
	err  error
}

func (e *lookupError) Error() string { return "look up " + e.host + ": " + e.err.Error() }
func (e *lookupError) Unwrap() error { return e.err }

// handshakeError says that the TLS handshake failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// badAnswer is a whole answer that is not a good one.
type badAnswer struct{ reason string }

func (e *badAnswer) Error() string { return "answer: " + e.reason }

// classify tells how a request ended. A handshake that was cut or timed out
// is a reset or a timeout: tls means that the two sides did not agree.
func classify(err error) rto.Class {
	var (
		lookup    *lookupError
		handshake *handshakeError
		answer    *badAnswer
		network   net.Error
	)
	switch {
	case err == nil:
		return rto.Good
	case errors.As(err, &lookup):
		return rto.DNS
	case errors.As(err, &answer):
		return rto.Status
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return rto.Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return rto.Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return rto.Reset
	case errors.As(err, &handshake):
		return rto.TLS
	}
	return rto.Other
}
