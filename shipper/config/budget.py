"""What the worker may hold under the container's memory limit: which sinks, and how much of lines under way. Pure.

What counts is what the kernel cannot take back: anonymous memory, tmpfs, its own. Measured with the package on Linux
6.18, 2026-12, in MiB of anonymous memory of the worker once each sink has sent something (intake without TLS): Datadog
or New Relic or both 22.4, with Sentry 26.4, with CloudWatch 33.4, all four 34.6. So the HTTP client is most of it and
shared, as is what botocore and sentry-sdk have in common (urllib3, 2.8); masking has 0.5, some more with many secrets.

Code is page cache, which can be taken back, but whoever runs it reads it again from disk, the agent too: 15 MiB of
files are mapped in the worker, 6 of them also in the supervisor, and most are used over and over.
"""

from __future__ import annotations

from shipper.config.container import MARGIN_SHARE, MAX_MARGIN_BYTES, margin_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20

IN_FLIGHT_BYTES = 5 * MIB  # decoded, in requests under way over all sinks; lines of 175 bytes are 1.8 MiB of it
QUEUE_BYTES = 768 << 10
"""What a sink may have decoded and not begun to send, records and all, while the others go on and it need not decode
it again: 1,600 lines of 175 bytes."""
WINDOW_BYTES = 256 << 10  # journal.reader's
MOST_REQUESTS = 16

BASE_BYTES = 45 * MIB // 2  # the interpreter, the delivery, RE2 and the HTTP client
TLS_BYTES = 2 * MIB  # certificates, and connections that are encrypted
CODE_BYTES = 13 * MIB
LIBRARIES = {"urllib3": 2_900_000, "sentry_sdk": 1_300_000, "botocore": 8_700_000}
SINKS: dict[str, tuple[str, ...]] = {
    "datadog": (),
    "newrelic": (),
    "sentry": ("urllib3", "sentry_sdk"),
    "cloudwatch": ("urllib3", "botocore"),
}
"""What each loads that others need not, the cheapest sink first: in this order they are kept."""

WORK_FACTOR = 4
"""Bytes that come with each byte under way: decoded lines take twice what they are counted as (475 for one of 175
bytes, measured 669 to 886), and each is queued before, read as a window, and encoded; with 5 MiB for four sinks the
peak was 20 to 24 MiB above idle."""
LEAST_IN_FLIGHT_BYTES = 512 << 10
LEAST_BYTES = BASE_BYTES + TLS_BYTES + WORK_FACTOR * LEAST_IN_FLIGHT_BYTES
"""With the cheapest sink and the smallest batches. With less to be had a start ends at the limit."""
SMALLEST_REQUEST_BYTES = 64 << 10
EVENT_BYTES = 400  # decoded, of a short line


class Budget:
    """``sinks`` are loaded, ``left_out`` are not; both in the order they were given.

    Bytes as `delivery.source.Part.weight` counts them: ``in_flight_bytes`` over all sinks, ``queue_bytes`` a sink,
    ``request_bytes`` a request. ``request_events``: a request holds at most so many lines; ``most_requests``: a sink
    has at most so many under way. ``window_bytes``: of the journal, read at once. ``needed_bytes``: the limit under
    which all sinks would be loaded.
    """

    __slots__ = (
        "in_flight_bytes",
        "left_out",
        "most_requests",
        "needed_bytes",
        "queue_bytes",
        "request_bytes",
        "request_events",
        "sinks",
        "window_bytes",
    )

    def __init__(
        self, sinks: Sequence[str], left_out: Sequence[str] = (), in_flight: int = IN_FLIGHT_BYTES, needed: int = 0
    ) -> None:
        self.sinks = tuple(sinks)
        self.left_out = tuple(left_out)
        self.in_flight_bytes = in_flight
        self.needed_bytes = needed
        tight = in_flight < IN_FLIGHT_BYTES
        share = in_flight // max(1, len(sinks))
        self.queue_bytes = min(QUEUE_BYTES, in_flight * 3 // 20) if tight else QUEUE_BYTES
        self.window_bytes = WINDOW_BYTES >> (2 if in_flight < IN_FLIGHT_BYTES // 2 else 0)
        self.request_bytes = max(SMALLEST_REQUEST_BYTES, share) if tight else 1 << 30
        self.request_events = self.request_bytes // EVENT_BYTES
        self.most_requests = max(1, min(MOST_REQUESTS, share // SMALLEST_REQUEST_BYTES))


def idle_bytes(sinks: Sequence[str]) -> int:
    """What the worker takes with these loaded and nothing under way."""
    libraries = {library for name in sinks for library in SINKS.get(name, ())}
    return BASE_BYTES + TLS_BYTES + sum(LIBRARIES[library] for library in libraries)


def plan(sinks: Sequence[str], limit: int | None, others: int = 0, shrunk: int = 0) -> Budget:
    """``limit``: the container's, None where there is none; ``others``: what everybody else in it holds, for good.

    ``shrunk``: how often the worker was ended at the limit: each time the batches are halved; where they cannot be
    smaller the most expensive sink is left out, but for the last one.
    """
    in_flight = IN_FLIGHT_BYTES
    kept = [name for name in SINKS if name in sinks] + [name for name in sinks if name not in SINKS]
    needed = 0
    if limit is not None:
        room = limit - margin_bytes(limit) - CODE_BYTES - others
        least = WORK_FACTOR * LEAST_IN_FLIGHT_BYTES
        needed = idle_bytes(sinks) + least + CODE_BYTES + others
        needed += min(needed // (MARGIN_SHARE - 1) + 1, MAX_MARGIN_BYTES)
        while idle_bytes(kept) > idle_bytes(kept[:1]) and idle_bytes(kept) + least > room:
            del kept[-1]
        in_flight = min(in_flight, max(LEAST_IN_FLIGHT_BYTES, (room - idle_bytes(kept)) // WORK_FACTOR))
    for _ in range(shrunk):
        if in_flight > LEAST_IN_FLIGHT_BYTES:
            in_flight = max(in_flight // 2, LEAST_IN_FLIGHT_BYTES)
        elif len(kept) > 1:
            del kept[-1]
    left_out = [name for name in sinks if name not in kept]
    return Budget([name for name in sinks if name in kept], left_out, in_flight, needed)
