package eventstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason names a failure more closely than its code.
type Reason string

// The reasons that the service gives; see types.proto.
const (
	InvalidField        Reason = "INVALID_FIELD"
	LiveNotAllowed      Reason = "LIVE_NOT_ALLOWED"
	NotRegistered       Reason = "NOT_REGISTERED"
	StaleEpoch          Reason = "STALE_EPOCH"
	SubscriptionActive  Reason = "SUBSCRIPTION_ACTIVE"
	StartAbovePosition  Reason = "START_ABOVE_POSITION"
	EventUnreadable     Reason = "EVENT_UNREADABLE"
	EventRefused        Reason = "EVENT_REFUSED"
	ConsumerStopped     Reason = "CONSUMER_STOPPED"
	RequestIDReused     Reason = "REQUEST_ID_REUSED"
	TakenOver           Reason = "TAKEN_OVER"
	BeyondHead          Reason = "BEYOND_HEAD"
	Discarded           Reason = "DISCARDED"
	Overloaded          Reason = "OVERLOADED"
	NotSettled          Reason = "NOT_SETTLED"
	DatabaseUnavailable Reason = "DATABASE_UNAVAILABLE"
	Draining            Reason = "DRAINING"
	ArchiveUnavailable  Reason = "ARCHIVE_UNAVAILABLE"
	Unauthenticated     Reason = "UNAUTHENTICATED"
	NotAllowed          Reason = "NOT_ALLOWED"
	CredentialsEnded    Reason = "CREDENTIALS_ENDED"
)

// Error is a failure of the service or of the connection to it, or an argument
// that was refused before anything was sent.
type Error struct {
	Code    codes.Code
	Reason  Reason // empty: none was given
	Message string
	// Field and Rule name the argument that is invalid and what it must be.
	Field, Rule string
	// RetryAfter is how long the service asks to wait. 0: it does not ask.
	RetryAfter time.Duration
	// Effect tells whether the failed call has certainly had no effect
	// ("none") or may have had one ("unknown"). Empty: it was not said.
	Effect string
	// Metadata is the rest of what the service said, such as "oldest_after_id"
	// of [Discarded] or "event_id" of [EventUnreadable].
	Metadata map[string]string
}

// Error implements error.
func (e *Error) Error() string {
	name := e.Code.String()
	if e.Reason != "" {
		name += " (" + string(e.Reason) + ")"
	}
	if e.Message == "" && e.Field != "" {
		return fmt.Sprintf("eventstream: %s: %s %s", name, e.Field, e.Rule)
	}
	return fmt.Sprintf("eventstream: %s: %s", name, e.Message)
}

// GRPCStatus lets status.FromError and status.Code see the code.
func (e *Error) GRPCStatus() *status.Status {
	return status.New(e.Code, e.Message)
}

// HandlerError is an event that its handler could not handle, under
// [StopOnFailure]. What was before it is acknowledged.
type HandlerError struct {
	Component string
	Event     Event // the first one, where the handler takes groups
	Err       error // what the handler returned
}

// Error implements error.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("eventstream: handler of %s failed on event %d: %v", e.Component, e.Event.ID, e.Err)
}

// Unwrap returns what the handler returned.
func (e *HandlerError) Unwrap() error { return e.Err }

func invalid(field, rule string) *Error {
	return &Error{Code: codes.InvalidArgument, Reason: InvalidField, Field: field, Rule: rule}
}

func unavailable(message string) *Error {
	return &Error{Code: codes.Unavailable, Message: message}
}

// asError makes an error of gRPC ours.
func asError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	from := status.Convert(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		from = status.FromContextError(err)
	}
	e := &Error{Code: from.Code(), Message: from.Message()}
	for _, detail := range from.Details() {
		e.add(detail)
	}
	return e
}

func (e *Error) add(detail any) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		e.Reason = Reason(detail.GetReason())
		e.Metadata = detail.GetMetadata()
		e.Effect = e.Metadata["effect"]
	case *errdetails.BadRequest:
		for _, violation := range detail.GetFieldViolations() {
			e.Field, e.Rule = violation.GetField(), violation.GetDescription()
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = detail.GetRetryDelay().AsDuration()
	}
}

// final tells whether a receiver that meets it ends, instead of reconnecting.
func (e *Error) final() bool {
	switch e.Code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.Unauthenticated, codes.Unimplemented, codes.OutOfRange, codes.DataLoss:
		return true
	case codes.FailedPrecondition:
		return e.Reason != StaleEpoch
	default:
		return false
	}
}

// fenced tells whether another session owns the consumer now.
func (e *Error) fenced() bool {
	return e.Reason == StaleEpoch || e.Reason == TakenOver
}

// repeatable tells whether a call that is safe to repeat may succeed later.
func (e *Error) repeatable() bool {
	switch e.Code {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Unknown:
		return true
	default:
		return false
	}
}
