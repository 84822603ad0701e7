package cloud

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers between this package's clients and its transport; they do not leave.
const (
	serviceHeader  = "Draas-Service"
	attemptsHeader = "Draas-Attempts"
	maybeHeader    = "Draas-Maybe" // an attempt before may have been carried out
)

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): whole
// seconds or a date, which is by the service's clock, as its Date is. It is 0 if
// there is none that makes sense, and never more than most.
func retryAfter(h http.Header, now time.Time, most time.Duration) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, most)
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), most)
}

// contentRange reads "bytes 5-9/10" (RFC 9110, section 14.4). The total is -1
// if it says "*", and first and last are -1 in the "bytes */10" of a 416.
func contentRange(v string) (first, last, total int64, ok bool) {
	unit, rest, found := strings.Cut(strings.TrimSpace(v), " ")
	if !found || !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	span, size, found := strings.Cut(rest, "/")
	if !found {
		return 0, 0, 0, false
	}
	total = -1
	if size != "*" {
		if total, ok = digits(size); !ok {
			return 0, 0, 0, false
		}
	}
	if span == "*" {
		return -1, -1, total, total >= 0
	}
	a, b, found := strings.Cut(span, "-")
	if !found {
		return 0, 0, 0, false
	}
	first, okFirst := digits(a)
	last, okLast := digits(b)
	if !okFirst || !okLast || first > last || total >= 0 && last >= total {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// digits reads a number without sign.
func digits(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil && s[0] != '+'
}
