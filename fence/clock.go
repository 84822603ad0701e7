package fence

import (
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// Clock reads this machine's clocks.
type Clock interface {
	Now() draas.Reading
}

// SystemClock reads CLOCK_BOOTTIME and CLOCK_REALTIME.
type SystemClock struct{}

// Now reads both clocks. CLOCK_BOOTTIME exists on every Linux since 2.6.39;
// should reading it fail all the same, the reading is so late that every
// deadline has passed.
func (SystemClock) Now() draas.Reading {
	wall := time.Duration(time.Now().UnixNano())
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return draas.Reading{Boot: 1<<63 - 1, Wall: wall}
	}
	return draas.Reading{Boot: time.Duration(ts.Nano()), Wall: wall}
}
