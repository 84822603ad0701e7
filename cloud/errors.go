package cloud

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// What a cloud does not have, or a session cannot.
var (
	// ErrNoService: the catalog has no such service in the region. The cloud is
	// as good as before.
	ErrNoService = errors.New("the cloud has no such service")
	// ErrOneProject: these credentials are for one project (application
	// credentials, a trust).
	ErrOneProject = errors.New("these credentials are for one project only")
	// ErrStream: gophercloud was to send a stream, which it would send again
	// without its body. Upload is for that.
	ErrStream = errors.New("a body that cannot be read twice: use cloud.Upload")
	// ErrForeign: a request or a link leads to a host to which no token goes.
	ErrForeign = errors.New("leads to a host that is not the service's")
	// ErrTooLong: an answer longer than what is read of it.
	ErrTooLong = errors.New("an answer longer than is read")
	// ErrRangeIgnored: the server sends the whole body instead of the range.
	ErrRangeIgnored = errors.New("the server does not send ranges of it")
	// ErrChanged: what is read is not what it was when the reading began.
	ErrChanged = errors.New("it changed while it was read")
	// ErrSize: a body is longer or shorter than was said.
	ErrSize = errors.New("not of the size that was said")
	// ErrStalled: a stream has not moved for too long.
	ErrStalled = errors.New("not an octet has moved")
)

// Error is a request that failed.
type Error struct {
	Cloud   string // its name in the file
	Service string // its type
	Method  string
	Path    string // without the query
	// Status is 0 if no answer came, or none that could be read.
	Status int
	// Said are the service's words, on one line, without secrets.
	Said string
	// After is how long the service asks to be let alone, 0 if it says
	// nothing.
	After time.Duration
	// Uncertain: the request was sent, and may have been carried out, or be
	// carried out later.
	Uncertain bool
	// Attempts is how often it was sent, or was to be. A DELETE that was sent
	// twice may find nothing because of the first.
	Attempts int
	// Sent are the octets of the body that left, of an Upload.
	Sent int64

	err error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s %s: ", e.Cloud, e.Service, e.Method, e.Path)
	switch {
	case e.Status == 0:
		b.WriteString(e.Said)
	case e.Said == "":
		fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
	default:
		fmt.Fprintf(&b, "%d %s: %s", e.Status, http.StatusText(e.Status), e.Said)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (after %d attempts)", e.Attempts)
	}
	if e.Uncertain {
		b.WriteString("; it may have been carried out")
	}
	return b.String()
}

// Unwrap is gophercloud's error, or the network's.
func (e *Error) Unwrap() error { return e.err }

// find is the error of this package in another. The library hides it where a
// token could not be renewed.
func find(err error) *Error {
	var e *Error
	var login *gophercloud.ErrUnableToReauthenticate
	if errors.As(err, &login) {
		err = login.ErrReauth
	}
	if errors.As(err, &e) {
		return e
	}
	return nil
}

func isStatus(err error, status ...int) bool {
	e := find(err)
	for _, s := range status {
		if e != nil && e.Status == s || e == nil && gophercloud.ResponseCodeIs(err, s) {
			return true
		}
	}
	return false
}

// NotFound reports whether the service says that what was asked for is not
// there.
func NotFound(err error) bool { return isStatus(err, http.StatusNotFound, http.StatusGone) }

// Conflict reports whether what is there stands against it: a name that is
// taken, a state in which it cannot be done.
func Conflict(err error) bool { return isStatus(err, http.StatusConflict) }

// Denied reports whether the service knows us and does not let us.
func Denied(err error) bool { return isStatus(err, http.StatusForbidden) }

// Unauthorized reports whether the credentials are refused, or a token in an
// Upload. The next request brings a new token, if there is one.
func Unauthorized(err error) bool { return isStatus(err, http.StatusUnauthorized) }

// Uncertain reports whether the request may have been carried out although it
// failed: look before it is made again.
func Uncertain(err error) bool {
	e := find(err)
	return e != nil && e.Uncertain
}

// Temporary reports whether the same request may succeed later, and after how
// long at the least, if the service says so.
func Temporary(err error) (after time.Duration, ok bool) {
	e := find(err)
	switch {
	case err == nil, errors.Is(err, context.Canceled) && e == nil, errors.Is(err, ErrForeign), errors.Is(err, ErrStream),
		errors.Is(err, ErrTooLong), errors.Is(err, ErrRangeIgnored):
		return 0, false
	case e == nil:
		return 0, errors.Is(err, ErrChanged) || errors.Is(err, ErrStalled)
	case e.Status == 0:
		return e.After, !errors.Is(e.err, context.Canceled) && !permanent(e.err)
	}
	return e.After, throttled(e.Status) || e.Status == http.StatusRequestTimeout ||
		e.Status >= http.StatusInternalServerError && e.Status != http.StatusNotImplemented
}

// permanent reports whether an error without an answer will be the same the
// next time.
func permanent(err error) bool {
	return isCertificate(err) || errors.Is(err, ErrForeign) || errors.Is(err, ErrStream) || errors.Is(err, ErrTooLong) || errors.Is(err, ErrSize)
}

// isCertificate reports whether who answers is not who should.
func isCertificate(err error) bool {
	var unverified *tls.CertificateVerificationError
	return errors.As(err, &unverified)
}

// throttled reports whether a status says "too much of you": 429, and 498 of
// Swift's.
func throttled(status int) bool {
	return status == http.StatusTooManyRequests || status == 498
}

// unsentError is of a request that was not begun.
type unsentError struct{ error }

func (e unsentError) Unwrap() error { return e.error }

// unsent reports whether an error shows that nothing of a request left.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, new(unsentError)) || errors.As(err, &op) && op.Op == "dial" || isCertificate(err) || errors.Is(err, ErrForeign) || errors.Is(err, ErrStream)
}

// secretMark stands where a secret was.
const secretMark = "[secret]"

// maxSaid bounds what is repeated of a service's words, in octets.
const maxSaid = 300

// said makes a service's words fit for an error.
func said(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) > 2 { // shorter ones are everywhere
			text = strings.ReplaceAll(text, s, secretMark)
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f && r <= 0xa0 }), " ")
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// message is what there is to read in the body of a refusal. Each service
// wraps its words in its own way: {"message":..}, {"error":{"message":..}},
// {"NeutronError":{"message":..}}, {"itemNotFound":{"message":..}}, HTML.
func message(body []byte) string {
	var any map[string]json.RawMessage
	if json.Unmarshal(body, &any) != nil {
		return stripTags(string(body))
	}
	type words struct {
		Message     string `json:"message"`
		FaultString string `json:"faultstring"`
		Title       string `json:"title"`
		Detail      string `json:"detail"`
	}
	text := func(w words) string {
		for _, s := range []string{w.Message, w.FaultString, w.Detail, w.Title} {
			if s != "" {
				return s
			}
		}
		return ""
	}
	var top words
	if json.Unmarshal(body, &top) == nil && text(top) != "" {
		return text(top)
	}
	for _, raw := range any {
		var inner words
		if json.Unmarshal(raw, &inner) == nil && text(inner) != "" {
			return text(inner)
		}
	}
	return string(body)
}

// stripTags is what of a page of HTML is text, roughly.
func stripTags(s string) string {
	if !strings.Contains(s, "<") {
		return s
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "<")
		b.WriteString(before + " ")
		if !found {
			return b.String()
		}
		_, s, found = strings.Cut(rest, ">")
		if !found {
			return b.String()
		}
	}
}
