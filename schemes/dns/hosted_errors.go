package dns

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What hinders a change at a DNS service, by kind. After all but ErrUnanswered
// and ErrDown nothing was changed by the request.
var (
	// ErrCredentials: the service does not know us.
	ErrCredentials = errors.New("credentials refused: see that those of the credentials file are valid and have not expired")
	// ErrPermission: the service knows us and does not let us.
	ErrPermission = errors.New("permission denied: let these credentials list and change the zone's records")
	// ErrThrottled: too many requests. It is waited for as long as there is
	// time.
	ErrThrottled = errors.New("throttled: the account makes too many requests; see what else uses it")
	// ErrNoZone: the service has no such zone.
	ErrNoZone = errors.New("zone not found: see the zone's id, and that the credentials belong to its account")
	// ErrQuota: the service takes no more records.
	ErrQuota = errors.New("quota reached: remove records or have the quota raised")
	// ErrDown: the service fails, by its own account. The request may have been
	// applied.
	ErrDown = errors.New("the service fails: see its status page")
	// ErrChange: the service refuses the change itself.
	ErrChange = errors.New("change refused")
	// ErrForeign: what stands in the zone was not written by draas and is in
	// the way.
	ErrForeign = errors.New("not written by draas")
	// ErrUnanswered: nobody knows whether the request was applied, will be, or
	// neither.
	ErrUnanswered = errors.New("no answer that counts")
	// ErrLookup: the records could not be read, so nothing was sent.
	ErrLookup = errors.New("the service cannot be read")
	// ErrMoved: what was read is not there any more. Do looks again.
	ErrMoved = errors.New("the records changed in between")
	// ErrBusy: the service is still busy with another change of the zone.
	ErrBusy = errors.New("the service is busy with another change")
)

// ServiceError is what a store makes of a client library's error: its kind and
// what the service said. It does not wrap the library's, which may hold the
// request with its secrets.
type ServiceError struct {
	Kind error  // one of the above
	Said string // by the service, without secrets
	// After is how long the service asks to wait (Retry-After), 0 if it says
	// nothing.
	After time.Duration
}

func (e *ServiceError) Error() string {
	if e.Said == "" {
		return e.Kind.Error()
	}
	return fmt.Sprintf("%s (%s)", e.Kind, e.Said)
}

func (e *ServiceError) Unwrap() error { return e.Kind }

// maxSaid bounds what is repeated of a service's words, in octets.
const maxSaid = 300

// Said makes a service's words fit for an error: on one line, short, and
// without the secrets, should the service repeat them.
func Said(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// again reports whether a request that ended so may be made again at once, and
// after how long at least.
func again(err error) (after time.Duration, ok bool) {
	var s *ServiceError
	if errors.As(err, &s) {
		after = s.After
	}
	for _, kind := range []error{ErrThrottled, ErrBusy, ErrMoved, ErrDown, ErrUnanswered} {
		ok = ok || errors.Is(err, kind)
	}
	return after, ok
}
