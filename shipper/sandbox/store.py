"""What arrived: requests as they came, bounded, and counters that stay exact when old requests are dropped.

A request is kept as its bytes, compressed as it came, and unpacked again when somebody looks: 200,000 lines are some
10 MB this way and 400 MB as Python objects, and nothing is created on arrival that outlives the request.

Events are numbered from 1 over all providers, in order of arrival; a number is never given twice, also after `reset`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shipper.sandbox.intake import Dropped, Intake, Request, Unpacked, bare_view, writable
from shipper.sandbox.ledger import SHOWN_RANGES, Ledger

MAX_EVENTS = 2_000_000
MAX_BYTES = 128 * 2**20
REQUEST_BYTES = 1_000
FIELD_BYTES = 110
"""What a kept request, and each of its headers and query parameters, costs besides its text; measured, CPython 3.11."""

DROPPED_BYTES = 130
"""What each range of `Unpacked.dropped` costs; measured, CPython 3.11."""

KEPT_REFUSALS = 100
"""The last refused requests, which the page lists. Their bodies are not kept."""

MAX_LACKING = 1_000
"""Places that a refused request found missing and that are waited for, a provider."""

MAX_REASONS = 200
"""Different reasons of refusal that are counted apart, a provider."""


@dataclass(slots=True)
class Kept:
    """A request that was taken."""

    number: int
    first_id: int
    count: int
    intake: Intake
    request: Request  # without keys
    runs: frozenset[str]
    dropped: tuple[Dropped, ...]  # as `Unpacked.dropped` was when it came
    cost: int  # bytes, for the bound


@dataclass(slots=True)
class Totals:
    """One provider's counters."""

    requests: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # "403 API key is malformed" → requests
    mended: int = 0  # of the refused: what was missing was then made, and a later request was taken there
    lacking: dict[str, list[dict[str, object]]] = field(default_factory=dict)  # place → refusals that wait for it
    events: int = 0
    wire_bytes: int = 0  # of what was taken, as it came
    bytes: int = 0  # of the same, uncompressed
    refused_bytes: int = 0
    too_old: int = 0
    dropped: int = 0  # events that the service took and did not keep, for another reason than their age
    cut: int = 0
    key: str | None = None  # the last one seen, hidden
    last_ms: int = 0
    ledger: Ledger = field(default_factory=Ledger)


class Store:
    """All that arrived since the start or the last reset."""

    def __init__(self, intakes: Iterable[Intake], max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._intakes = tuple(intakes)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._next_id = 1
        self._next_number = 1
        self.epoch = 0  # goes up with each reset, so that the page notices
        self.reset()

    def reset(self) -> None:
        self.epoch += 1
        self.started_ms = now_ms()
        self.totals = {intake.name: Totals() for intake in self._intakes}
        self._kept: deque[Kept] = deque()
        self._refusals: deque[dict[str, object]] = deque(maxlen=KEPT_REFUSALS)
        self._kept_events = 0
        self._kept_bytes = 0
        self._evicted = 0

    def take(self, intake: Intake, request: Request, unpacked: Unpacked) -> None:
        """Count and keep a request that the intake took. `request` must be without keys."""
        totals = self.totals[intake.name]
        count = len(unpacked.entries)
        totals.requests += 1
        totals.accepted += 1
        totals.events += count
        totals.wire_bytes += len(request.body)
        totals.bytes += unpacked.size
        totals.too_old += len(unpacked.too_old)
        totals.dropped += sum(end - first for first, end, _ in unpacked.dropped)
        totals.cut += len(unpacked.cut)
        totals.last_ms = request.received_ms
        totals.key = _key(intake, request) or totals.key
        for refusal in totals.lacking.pop(unpacked.place, ()) if unpacked.place is not None else ():
            refusal["mended"] = True
            totals.mended += 1
        runs = totals.ledger.take(unpacked.kept(), unpacked.shared, request.received_ms)
        number = self._next_number
        self._next_number += 1
        if not count:
            return
        cost = len(request.body) + REQUEST_BYTES + DROPPED_BYTES * len(unpacked.dropped)
        for fields in (request.headers, request.query):
            cost += sum(FIELD_BYTES + len(name) + len(value) for name, value in fields.items())
        self._kept.append(Kept(number, self._next_id, count, intake, request, frozenset(runs), unpacked.dropped, cost))
        self._next_id += count
        self._kept_events += count
        self._kept_bytes += cost
        while self._kept_events > self._max_events or self._kept_bytes > self._max_bytes:
            oldest = self._kept.popleft()
            self._kept_events -= oldest.count
            self._kept_bytes -= oldest.cost
            self._evicted += oldest.count

    def refuse(self, intake: Intake, request: Request, status: int, reason: str, lacks: str | None = None) -> None:
        """Count a request that was not taken. `request` must be without keys; `status` 0: no answer was given.

        `lacks`: see RefusedError.
        """
        totals = self.totals[intake.name]
        totals.requests += 1
        totals.refused_bytes += len(request.body)
        totals.last_ms = request.received_ms
        totals.key = _key(intake, request) or totals.key
        why = f"{status or 'no answer'} {reason}"
        totals.refused[why if why in totals.refused or len(totals.refused) < MAX_REASONS else "other"] += 1
        refusal: dict[str, object] = {
            "number": self._next_number,
            "provider": intake.name,
            "received_ms": request.received_ms,
            "status": status,
            "reason": reason,
            "request_id": intake.request_id(request),
            "wire_bytes": len(request.body),
            "mended": False,
        }
        self._refusals.append(refusal)
        if lacks is not None and (lacks in totals.lacking or len(totals.lacking) < MAX_LACKING):
            waiting = totals.lacking.setdefault(lacks, [])
            if len(waiting) < KEPT_REFUSALS:
                waiting.append(refusal)
        self._next_number += 1

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        newest: bool = False,
        provider: str | None = None,
        run: str | None = None,
    ) -> dict[str, object]:
        """Events with an id above `after`: the first `limit` of them, or with `newest` the last, ascending.

        `last` is what to pass as `after` next time; `oldest` the lowest id that is still kept.
        """
        kept = list(self._kept)
        wanted = kept[bisect_left(kept, after + 2, key=lambda one: one.first_id + one.count) :]
        found: list[dict[str, Any]] = []
        last = self._next_id - 1
        for one in reversed(wanted) if newest else wanted:
            if (provider is not None and one.intake.name != provider) or (run is not None and run not in one.runs):
                continue
            views = self._views(one, after, run)
            if newest:
                found[:0] = views[-(limit - len(found)) :]
            else:
                found.extend(views[: limit - len(found)])
            if len(found) >= limit:
                if not newest:
                    last = found[-1]["id"]
                break
        return {
            "events": found,
            "last": last,
            "oldest": kept[0].first_id if kept else self._next_id,
            "newest": self._next_id - 1,
            "epoch": self.epoch,
        }

    def _views(self, one: Kept, after: int, run: str | None) -> list[dict[str, Any]]:
        unpacked = one.intake.unpack(one.request)
        unpacked.dropped = one.dropped
        request_id = one.intake.request_id(one.request)
        views = []
        for index in range(max(0, after + 1 - one.first_id), one.count):
            view = {
                "id": one.first_id + index,
                "provider": one.intake.name,
                "request": one.number,
                "request_id": request_id,
                "received_ms": one.request.received_ms,
                **_view(one, index, unpacked),
            }
            if run is None or view["run"] == run:
                views.append(view)
        return views

    def summary(self) -> dict[str, object]:
        return {
            "epoch": self.epoch,
            "started_ms": self.started_ms,
            "now_ms": now_ms(),
            "kept": {"events": self._kept_events, "bytes": self._kept_bytes, "evicted": self._evicted},
            "providers": {intake.name: self._summary(intake) for intake in self._intakes},
            "refusals": list(self._refusals),
        }

    def _summary(self, intake: Intake) -> dict[str, object]:
        totals = self.totals[intake.name]
        streams = totals.ledger.streams()
        shown = [stream.summary() for stream in streams[-SHOWN_RANGES:]]
        return {
            "title": intake.title,
            "requests": totals.requests,
            "accepted": totals.accepted,
            "refused": sum(totals.refused.values()),
            "mended": totals.mended,
            "refused_why": dict(totals.refused),
            "events": totals.events,
            "lines": sum(stream.lines for stream in streams) + totals.ledger.unnumbered + totals.ledger.untracked,
            "own": totals.ledger.own,
            "unnumbered": totals.ledger.unnumbered,
            "untracked": totals.ledger.untracked,
            "wire_bytes": totals.wire_bytes,
            "bytes": totals.bytes,
            "refused_bytes": totals.refused_bytes,
            "too_old": totals.too_old,
            "dropped": totals.dropped,
            "cut": totals.cut,
            "missing": sum(stream.seen.missing() for stream in streams),
            "repeats": sum(stream.repeats for stream in streams),
            "key": totals.key,
            "last_ms": totals.last_ms,
            "streams": shown,
        }


def _view(one: Kept, index: int, unpacked: Unpacked) -> dict[str, Any]:
    """What the page shows of an entry: one that cannot be shown says so, and hides no other."""
    try:
        return writable(one.intake.view(index, unpacked, one.request))
    except Exception as error:  # noqa: BLE001 (an entry is whatever anybody sent)
        why = f"this entry cannot be shown: fault of the sandbox ({type(error).__name__})"
        return bare_view(one.request, [*unpacked.why_dropped(index), why])


def _key(intake: Intake, request: Request) -> str | None:
    """The key that the request came with, already hidden."""
    query = {name.lower(): value for name, value in request.query.items()}
    for name in intake.secret_names:
        found = request.headers.get(name) or query.get(name)
        if found:
            return found
    return None


def now_ms() -> int:
    return time.time_ns() // 1_000_000
