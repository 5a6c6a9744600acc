package mq

import (
	"errors"
	"time"
)

// RetryPolicy says how often Run calls its handler for a record that fails.
type RetryPolicy struct {
	// MaxAttempts is how many calls there are in all. Default 1, no retry;
	// negative means no limit.
	MaxAttempts int `yaml:"max_attempts"`

	// Backoff is the wait before the second call. Each further one is twice as
	// long, and each is varied by up to a fifth. Default 100ms.
	Backoff time.Duration `yaml:"backoff"`

	// MaxBackoff bounds the wait. Default 10s.
	MaxBackoff time.Duration `yaml:"max_backoff"`
}

const (
	defaultRetryBackoff    = 100 * time.Millisecond
	defaultRetryMaxBackoff = 10 * time.Second
)

// allows reports whether there is another call after so many that failed, of
// which err is the last one's.
func (p RetryPolicy) allows(attempts int, err error) bool {
	var final *permanentError
	return (p.MaxAttempts < 0 || attempts < p.MaxAttempts) && !errors.As(err, &final)
}

// Permanent marks an error that a handler returns as one that no retry cures:
// the record is not tried again, whatever the RetryPolicy says. The error's text
// and what errors.Is finds in it stay the same. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }
