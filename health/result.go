package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// Probe is one look at one thing. It returns when ctx ends at the latest (a
// process that must be killed first may take some milliseconds more), and may
// be called again, also by several goroutines at once.
type Probe func(ctx context.Context) Result

// Class says in one word how a look ended. Its text is stable: it goes to
// logs, metrics and the replicated log.
type Class string

// The classes. The zero Class is no class of a finished look.
const (
	ClassOK          Class = "ok"
	ClassRefused     Class = "refused"     // nobody listens: the port answered with a reset, or ICMP
	ClassReset       Class = "reset"       // closed by the other side before the answer was complete
	ClassTimeout     Class = "timeout"     // silence until the deadline
	ClassUnreachable Class = "unreachable" // no route to the host or network
	ClassDNS         Class = "dns"         // a name could not be resolved, or a DNS answer is wrong
	ClassTLS         Class = "tls"         // no handshake, or a certificate that does not verify
	ClassExpiry      Class = "expiry"      // the certificate is, or is soon, out of date
	ClassStatus      Class = "status"      // an HTTP status outside the wanted ranges
	ClassBody        Class = "body"        // an HTTP body that does not match
	ClassExec        Class = "exec"        // the command exited with another status than 0
	ClassPeer        Class = "peer"        // the peer daemon answered, and not well
	ClassLocal       Class = "local"       // this process could not look: evidence of nothing
	ClassOther       Class = "other"       // anything else, such as an answer that is not HTTP
)

// Result is what one look saw.
type Result struct {
	Class Class
	// Detail is for people: at most 160 bytes of printable text. It is empty
	// after a success.
	Detail string
	// Latency is how long the look took. [Look] fills it in.
	Latency time.Duration
}

// OK reports whether the look saw what it wanted.
func (r Result) OK() bool { return r.Class == ClassOK }

// Blind reports whether the look is evidence of nothing.
func (r Result) Blind() bool { return r.Class == ClassLocal }

// Abrupt reports whether the other side's machine answered that the service
// does not: worth a second look at once.
func (r Result) Abrupt() bool { return r.Class == ClassRefused || r.Class == ClassReset }

// Look runs the probe for at most timeout and measures it. If ctx itself is
// cancelled the result has ClassLocal.
func Look(ctx context.Context, timeout time.Duration, probe Probe) Result {
	start := time.Now()
	look, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := probe(look)
	r.Latency = time.Since(start)
	if !r.OK() && errors.Is(ctx.Err(), context.Canceled) {
		r.Class, r.Detail = ClassLocal, "look cancelled"
	}
	return r
}

// failure is the result of a look that ended with err while doing step. An
// error that says nothing of its own gets the class other.
func failure(step string, err error, other Class) Result {
	class := classify(err)
	if class == ClassOther {
		class = other
	}
	// The addresses and the system call say nothing that the step does not.
	if op, ok := err.(*net.OpError); ok && op.Err != nil {
		err = op.Err
	}
	if sys, ok := err.(*os.SyscallError); ok {
		err = sys.Err
	}
	return Result{Class: class, Detail: clip(step + ": " + err.Error())}
}

// errnoClasses sorts what the kernel says. The local ones tell of this
// machine: its tables are full, or its own firewall forbids the look.
var errnoClasses = map[syscall.Errno]Class{
	syscall.ECONNREFUSED:  ClassRefused,
	syscall.ECONNRESET:    ClassReset,
	syscall.ECONNABORTED:  ClassReset,
	syscall.EPIPE:         ClassReset,
	syscall.ETIMEDOUT:     ClassTimeout,
	syscall.EHOSTUNREACH:  ClassUnreachable,
	syscall.EHOSTDOWN:     ClassUnreachable,
	syscall.ENETUNREACH:   ClassUnreachable,
	syscall.ENETDOWN:      ClassUnreachable,
	syscall.EMFILE:        ClassLocal,
	syscall.ENFILE:        ClassLocal,
	syscall.ENOBUFS:       ClassLocal,
	syscall.ENOMEM:        ClassLocal,
	syscall.EAGAIN:        ClassLocal,
	syscall.EADDRNOTAVAIL: ClassLocal, // out of local ports
	syscall.EACCES:        ClassLocal,
	syscall.EPERM:         ClassLocal,
}

func classify(err error) Class {
	// First of all, since EAGAIN also says of itself that it is a timeout.
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if class, ok := errnoClasses[errno]; ok {
			return class
		}
		return ClassOther
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return ClassTimeout
	}
	var resolve *net.DNSError
	if errors.As(err, &resolve) {
		if resolve.IsTimeout {
			return ClassTimeout
		}
		return ClassDNS
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ClassTimeout
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ClassReset
	}
	return classifyTLS(err)
}

func classifyTLS(err error) Class {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return ClassExpiry
	}
	var (
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
	)
	if errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) {
		return ClassTLS
	}
	return ClassOther
}

const maxDetail = 160 // bytes

// clip makes text that may come from the other side fit for a log line and a
// terminal: printable, one line, bounded.
func clip(s string) string {
	const enough = 4 * maxDetail // do not walk what is cut off anyway
	if len(s) > enough {
		s = s[:enough]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
	if len(s) <= maxDetail {
		return s
	}
	cut := maxDetail - len("...")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
