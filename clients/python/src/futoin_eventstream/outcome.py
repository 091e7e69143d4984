"""What an error means to a receiver: to come back, to be fenced, or to end."""

from __future__ import annotations

from grpc import StatusCode

from .errors import ServiceError, SessionLost

_RECONNECT = {
    StatusCode.UNAVAILABLE,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
}


def is_fenced(error: Exception) -> bool:
    """Another session has the consumer, or it was sought: this one acknowledges no more."""
    return isinstance(error, ServiceError) and error.reason in ("STALE_EPOCH", "TAKEN_OVER")


def is_final(error: Exception) -> bool:
    """Coming back would not help; the receiver ends with it."""
    if isinstance(error, ServiceError):
        return error.code not in _RECONNECT and error.reason != "STALE_EPOCH"
    return not isinstance(error, SessionLost)
