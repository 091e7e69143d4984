"""Everything that this package raises on purpose.

An error of the service keeps what its details said, so that callers decide by
`code` and `reason` and never by text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from .events import Event

_DETAILS = "grpc-status-details-bin"


class EventStreamError(Exception):
    """The base of every error of this package."""


class InvalidEvent(EventStreamError, ValueError):
    """An event that was refused before anything was sent or inserted."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        """What is wrong: `type`, `data` or `table`."""
        self.rule = rule
        """What it has to be."""


class ServiceError(EventStreamError):
    """What the service answered instead of a result, or why it was not reached."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code.name}{f' ({reason})' if reason else ''}: {message}")
        self.code = code
        """The gRPC status."""
        self.message = message
        """For people."""
        self.reason = reason
        """The service's name for it, as listed in `types.proto`; empty where the connection failed."""
        self.field = field
        """The field of the request that INVALID_ARGUMENT is about, else empty."""
        self.retry_after = retry_after
        """The service asks not to come back earlier."""
        self.metadata = dict(metadata or {})
        """Figures that belong to the reason, for instance how far an import came."""

    @property
    def effect(self) -> str:
        """Of UNAVAILABLE: `none` if the call has certainly had no effect, else `unknown`."""
        return self.metadata.get("effect", "unknown")

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> ServiceError:
        """The typed form of what gRPC raised."""
        reason, field, retry_after, metadata = "", "", None, {}
        for detail in _details(error):
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(request) and request.field_violations:
                field = request.field_violations[0].field
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta()
        return cls(
            error.code(),
            error.details() or "",
            reason=reason,
            field=field,
            retry_after=retry_after,
            metadata=metadata,
        )


class SessionLost(EventStreamError):
    """A subscription that ended without an answer; receivers reconnect."""


class HandlerFailed(EventStreamError):
    """The handler failed, and the policy is to stop. `__cause__` is its error."""

    def __init__(self, event: Event) -> None:
        super().__init__(f"the handler failed for event {event.id} ({event.type})")
        self.event = event
        """The event, which is not acknowledged; everything before it is."""


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []
