package fence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	draas "github.com/draasd/draas"
)

// maxRequest and maxReply bound one message, newline included. A reply may
// hold the status of a thousand services.
const (
	maxRequest = 64 << 10
	maxReply   = 1 << 20
)

// The operations of the protocol: JSON objects, one a line, one reply to each
// request, in order.
const (
	opExtend    = "extend"
	opExtendAll = "extend_all"
	opClose     = "close"
	opStatus    = "status"
)

// maxExtensions bounds the extensions in one request, so that it fits into
// maxRequest with names of 64 bytes and the largest numbers.
const maxExtensions = 256

// Extension is a deadline for one service.
type Extension struct {
	Service  draas.ServiceID `json:"service"`
	Epoch    draas.Epoch     `json:"epoch"`
	Deadline draas.Deadline  `json:"deadline"`
}

// request is what draasd asks.
type request struct {
	Op       string          `json:"op"`
	Service  draas.ServiceID `json:"service,omitempty"`
	Epoch    draas.Epoch     `json:"epoch,omitempty"`
	Deadline draas.Deadline  `json:"deadline,omitzero"`
	Extend   []Extension     `json:"extend,omitempty"` // extend_all
}

// refusal is why the guard did not do what was asked; the zero refusal is none.
type refusal struct {
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// reply is what the guard answers: a code and a text when it refuses, and the
// status of the service asked about, or of all. To extend_all it answers one
// refusal and one status for each extension, in order.
type reply struct {
	refusal
	Services []Status  `json:"services,omitempty"`
	Refused  []refusal `json:"refused,omitempty"`
}

// Status is what the guard knows of one service.
type Status struct {
	Service draas.ServiceID `json:"service"`
	Kind    draas.FenceKind `json:"kind"`
	// State is what was last observed.
	State State `json:"state"`
	// Phase is what the guard is at: "opening", "closing", or "" for neither.
	Phase string `json:"phase,omitempty"`
	// Epoch is the highest epoch seen, Ended the highest closed for good.
	Epoch draas.Epoch `json:"epoch"`
	Ended draas.Epoch `json:"ended"`
	// Left is the time to the deadline; zero when there is no permit.
	Left time.Duration `json:"left_ns"`
	// Worst is the worst time to close that the fence claims, LastClose what
	// the last close took, and LateCloses how many took longer than Worst.
	Worst      time.Duration `json:"worst_ns"`
	LastClose  time.Duration `json:"last_close_ns,omitempty"`
	LateCloses int           `json:"late_closes,omitempty"`
	// Conns is the number of open connections, where the kind counts them.
	Conns int `json:"conns,omitempty"`
	// Upsets is how often the fence was found not as the guard had left it (a
	// foreign flush of the rules, a unit that somebody stopped) since the guard
	// started, LastUpset what was found last.
	Upsets    int    `json:"upsets,omitempty"`
	LastUpset string `json:"last_upset,omitempty"`
	// Error is the last error, until the fence does what it should again.
	Error string `json:"error,omitempty"`
}

// codes name the errors that cross the socket.
var codes = []struct {
	code string
	err  error
}{
	{"stale_epoch", draas.ErrStaleEpoch},
	{"expired", draas.ErrExpired},
	{"too_far", ErrTooFar},
	{"unknown_service", ErrUnknownService},
	{"not_ready", ErrNotReady},
	{"not_closed", ErrNotClosed},
	{"not_opened", ErrNotOpened},
	{"bad_request", ErrBadRequest},
}

// errInternal stands for every error without a code of its own.
var errInternal = errors.New("guard failed")

func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

// remoteError is a refusal as it came over the socket; it unwraps to the
// sentinel that the guard returned.
type remoteError struct {
	sentinel error
	text     string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

// asError is the error that a refusal stands for, or nil.
func (r refusal) asError() error {
	if r.Code == "" {
		return nil
	}
	for _, c := range codes {
		if c.code == r.Code {
			return &remoteError{sentinel: c.err, text: r.Error}
		}
	}
	return &remoteError{sentinel: errInternal, text: r.Error}
}

// readLine reads one message, without its newline; the reader's buffer bounds
// it. The bytes are good until the next call. io.EOF means that the peer ended between two messages.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: message over %d bytes", ErrBadRequest, r.Size())
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, fmt.Errorf("%w: message cut short", ErrBadRequest)
	}
	return nil, err
}

// decodeRequest is strict: the guard refuses what it does not fully understand.
func decodeRequest(line []byte) (request, error) {
	var req request
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return request{}, fmt.Errorf("%w: %v", ErrBadRequest, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return request{}, fmt.Errorf("%w: more than one object in a line", ErrBadRequest)
	}
	switch req.Op {
	case opExtend, opClose:
		if req.Service == "" {
			return request{}, fmt.Errorf("%w: %s without a service", ErrBadRequest, req.Op)
		}
	case opExtendAll:
		if len(req.Extend) == 0 || len(req.Extend) > maxExtensions {
			return request{}, fmt.Errorf("%w: %d extensions, from 1 to %d can be asked", ErrBadRequest, len(req.Extend), maxExtensions)
		}
		seen := make(map[draas.ServiceID]bool, len(req.Extend))
		for _, x := range req.Extend {
			if x.Service == "" || seen[x.Service] {
				return request{}, fmt.Errorf("%w: extension without a service, or of one that came before", ErrBadRequest)
			}
			seen[x.Service] = true
		}
	case opStatus:
	default:
		return request{}, fmt.Errorf("%w: unknown op %q", ErrBadRequest, req.Op)
	}
	return req, nil
}

// encodeLine makes a message of v, newline included, of at most limit bytes.
func encodeLine(v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(b)+1 > limit {
		return nil, fmt.Errorf("encode message: %d bytes, bound %d", len(b)+1, limit)
	}
	return append(b, '\n'), nil
}
