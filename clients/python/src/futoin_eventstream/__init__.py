"""Client of FutoIn EventStream: events in your own transactions, and every event in order, at least once.

* `EventStream` is a client for asyncio, `futoin_eventstream.sync.EventStream` the same for threads.
* `add_event` and `add_event_async` put an event into the database transaction that you are in.
* The generated messages and stubs of the contract are in `futoin.evt.v1`.
"""

from .backoff import Backoff
from .client import EventStream
from .connection import Tls
from .database import add_event, add_event_async
from .errors import EventStreamError, HandlerFailed, InvalidEvent, ServiceError, SessionLost
from .events import Event, JsonText, NewEvent
from .importing import ImportResult, ImportStopped
from .live import LiveReceiver
from .options import ReceiverOptions, StreamOptions
from .policies import Conflict, DeadLetter, FailurePolicy, Retry, Stop
from .receiver import ReliableReceiver
from .start import Start

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Conflict",
    "DeadLetter",
    "Event",
    "EventStream",
    "EventStreamError",
    "FailurePolicy",
    "HandlerFailed",
    "ImportResult",
    "ImportStopped",
    "InvalidEvent",
    "JsonText",
    "LiveReceiver",
    "NewEvent",
    "ReceiverOptions",
    "ReliableReceiver",
    "Retry",
    "ServiceError",
    "SessionLost",
    "Start",
    "Stop",
    "StreamOptions",
    "Tls",
    "add_event",
    "add_event_async",
]
