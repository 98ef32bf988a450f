"""The contract of a sink.

- `encoder` and what it returns are pure: no clock, no network, the same input gives the same body. Slices are in order
  and come from one run; together they hold at most `limits.max_events` events. A body larger than
  `limits.max_body_bytes` may come out when more than one event went in: the caller halves. One event alone always fits,
  if need be cut and marked `truncated`.
- An event too old or too new for the provider goes under the present time, its own beside it as `original_timestamp`.
- `send` makes one request and returns when it was accepted, or raises one of:
  RetryableError   not now: the same body may be accepted later
  RejectedError    the content: the caller bisects until the offender is alone, drops it and goes on
  RefusedError     the secret, or what it may do: nothing goes through until somebody changes a setting
  Anything else is a bug.
- A message of an error or of a SettingError is for people: it names host or variable and says what to do. It holds
  neither a secret nor a line's content, and neither does what it was raised from.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from shipper.lines.events import Events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shipper.journal.facts import Facts

Slice = tuple[Events, int, int]
"""Events from the first index up to, not including, the second."""

RECORDS = threading.Lock()
"""Held by an encoder from writing into the slot `run` of shared records until these are serialised: so sinks may encode
the same events in turn, also from several threads, without a copy of each record (0.1 us)."""


class Limits(NamedTuple):
    """Of one request. Bytes are as `Body.size` counts them; ``target_body_bytes`` is what to aim at."""

    max_events: int
    max_body_bytes: int
    target_body_bytes: int


class Body:
    """One request's content, ready to be sent as often as it takes.

    data       what goes over the wire
    size       bytes as the provider counts them against its limit: before compression, unless it says otherwise
    count      events in it
    target     path and query
    headers    of this body, without the secret
    moved      events too old or too new for the provider, sent under the present time with their own beside it
    truncated  events cut to fit

    A sink may add what its `send` needs.
    """

    __slots__ = ("count", "data", "headers", "moved", "size", "target", "truncated")

    def __init__(
        self,
        data: bytes,
        size: int,
        count: int,
        target: str,
        headers: Mapping[str, str],
        *,
        moved: int = 0,
        truncated: int = 0,
    ) -> None:
        self.data = data
        self.size = size
        self.count = count
        self.target = target
        self.headers = headers
        self.moved = moved
        self.truncated = truncated


class Acceptance(NamedTuple):
    """A request accepted in part: ranges of events (first, end, reason in words) that were not taken, for good."""

    rejected: tuple[tuple[int, int, str], ...]


class SinkError(Exception):
    """What `send` raises; ``str()`` is a sentence for people."""


class RetryableError(SinkError):
    """``after``: seconds that the provider asked to wait, None when it asked for none. ``throttled``: it wants fewer
    requests, rather than having trouble of its own. ``maybe_taken``: the request may have been accepted all the same,
    so that trying again repeats its lines."""

    def __init__(
        self, message: str, after: float | None = None, *, throttled: bool = False, maybe_taken: bool = False
    ) -> None:
        super().__init__(message)
        self.after = after
        self.throttled = throttled
        self.maybe_taken = maybe_taken


def maybe_taken(status: int) -> bool:
    """Whether an answer of such a status leaves open if the request was accepted: a gateway's own time-out does, a
    refusal of service does not."""
    return status >= 500 and status != 503


class RejectedError(SinkError):
    """``status``: the HTTP status, 0 when there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class RefusedError(SinkError):
    """``variable``: the one to look at first."""

    def __init__(self, message: str, variable: str) -> None:
        super().__init__(message)
        self.variable = variable


class SettingError(ValueError):
    """A variable that keeps the sink from working; ``message`` is the whole sentence."""

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable
        self.message = message


class Encoder(Protocol):
    """Made once a run. ``now_ms``: wall time, the provider's where ours is known to be wrong, for limits of age."""

    def __call__(self, slices: Sequence[Slice], now_ms: int) -> Body: ...


class Sink(ABC):
    """One provider, as the environment asks for it.

    name, title  as in the registry, and as people know it
    destination  host, and port where one was given, as people see it
    url          scheme, host and port that requests go to
    variable     the one that holds the secret
    needs_lines  its encoder reads `Events.lines`
    tells_crashes  its encoder makes a body of a `lines.crash.Crash`, which then comes before a run's closing event
    drops_ahead  lines that are too far ahead of its own clock it drops without a word, as those too old
    notes        sentences for people about what stops no line; whoever calls `send` says each once and empties it
    """

    name: str
    title: str
    limits: Limits
    destination: str
    url: str
    variable: str
    needs_lines = False
    tells_crashes = False
    drops_ahead = False
    notes: list[str] | tuple[()] = ()

    @classmethod
    @abstractmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises SettingError. Does no I/O but reading a secret's file."""

    @abstractmethod
    async def open(self) -> None:
        """Before the first `send`, in the event loop that it will be called in. Connects nowhere yet."""

    @abstractmethod
    def encoder(self, facts: Facts) -> Encoder:
        """The encoder for lines of a run with these facts."""

    @abstractmethod
    def place(self, facts: Facts) -> str:
        """Where the lines of such a run are found at the provider, in words: "region eu", "group a, stream b"."""

    @abstractmethod
    async def send(self, body: Body) -> Acceptance | None:
        """One request. None: all of it was accepted."""

    @abstractmethod
    async def close(self) -> None:
        """May be called twice, and without `open`."""

    @property
    def clock_off(self) -> float:
        """Seconds that this machine's clock is ahead of the provider's, as its last answers say; 0 when that is little,
        or not known."""
        return 0.0
