"""What shipper says became of the lines of a run at a provider, held against what the provider's intake got.

Shipper says it twice: in `shipper status --json`, and in the closing event. Both must add up, agree with each other,
and with the intake: what is called delivered came there, what is called dropped was announced there, and no line that
came without being announced as lost is called anything but delivered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from shipper.sandbox.ranges import Ranges
from shipper.sandbox.store import Store
from tests.bodies import events_in
from tests.e2e.wrapped import CLOSING_BYTES, ROOT
from tests.helpers import is_closing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shipper.sandbox.intake import Intake, Request, Unpacked
    from shipper.sandbox.ledger import StreamLedger

REJECTIONS = (400, 413)  # what is answered so is dropped for good when it is alone: a closing event, too

Key = tuple[str, str]  # provider, run


@dataclasses.dataclass
class Told:
    """Lines of a run, or of more, by what shipper says became of them at one sink."""

    captured: int = 0
    delivered: int = 0
    dropped: int = 0
    filtered: int = 0
    pending: int = 0

    def add(self, other: Told) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def adds_up(self) -> bool:
        return self.captured == self.delivered + self.dropped + self.filtered + self.pending

    def __str__(self) -> str:
        parts = ", ".join(f"{field.name} {getattr(self, field.name):,}" for field in dataclasses.fields(self))
        return parts if self.pending else parts.removesuffix(", pending 0")


@dataclasses.dataclass
class Got:
    """Numbers of a run that an intake got, each counted once. ``announced``: as lost, those included whose announcement
    it refused, too. ``both``: came, and were announced (the answer to the request did not arrive). ``empty``: left out
    on purpose, as other events say."""

    arrived: int = 0
    announced: int = 0
    both: int = 0
    empty: int = 0


def told_by_status(values: Mapping[str, Any], sink: Mapping[str, Any]) -> Told:
    dropped = sum(sink["dropped"].values())
    return Told(values["captured"]["lines"], sink["delivered"], dropped, sink["filtered"], sink["pending"])


def told_by_closing(event: Mapping[str, Any]) -> Told:
    """Whichever provider's names it has: an object, or flat, and then of an empty object the text."""
    dropped = event.get("dropped")
    counts = dict(dropped) if isinstance(dropped, dict) else {}
    counts |= {name: value for name, value in event.items() if name.startswith("dropped.")}
    return Told(event["captured"], event["delivered"], sum(counts.values()), event["filtered"])


def disagreements(who: str, told: Told, got: Got, captured: int) -> list[str]:
    """What is wrong with what ``who`` says, in words; ``captured``: how many lines there were."""
    wrong = []
    if told.captured != captured:
        wrong.append(f"{who} says {told}, but {captured:,} lines were captured")
    if not told.adds_up():
        wrong.append(f"{who} does not add up: {told}")
    if told.delivered > got.arrived:
        wrong.append(f"{who} says {told}, but only {got.arrived:,} lines came")
    if told.filtered > got.empty:
        wrong.append(f"{who} says {told}, but only {got.empty:,} were empty")
    if told.pending:
        return wrong
    if told.delivered < got.arrived - got.both:
        wrong.append(f"{who} says {told}, but {got.arrived - got.both:,} lines came that nobody announced as lost")
    if told.dropped > got.announced:
        wrong.append(f"{who} says {told}, but only {got.announced:,} lines were announced as lost")
    return wrong


class WatchingStore(Store):
    """The sandbox's, which also keeps the numbers of the events themselves, and the closing ones.

    ``refused``: runs whose closing event the intake refused for good, as it was told to; ``refused_losses``: the lines,
    by stream, of which it refused so the event that tells of their loss.
    """

    def reset(self) -> None:
        super().reset()
        self.arrived: defaultdict[Key, dict[str, Ranges]] = defaultdict(dict)
        self.count: defaultdict[Key, int] = defaultdict(int)  # of them all
        self.inner: defaultdict[Key, dict[tuple[str, int, int], int]] = defaultdict(dict)  # empty ones among those lost
        self.closings: defaultdict[Key, list[Told]] = defaultdict(list)
        self.refused: set[Key] = set()
        self.refused_losses: defaultdict[Key, defaultdict[str, Ranges]] = defaultdict(lambda: defaultdict(Ranges))

    def take(self, intake: Intake, request: Request, unpacked: Unpacked) -> None:
        super().take(intake, request, unpacked)
        kept = unpacked.kept()
        for entry in kept:
            self._look(intake.name, {**unpacked.shared, **entry})
        kept_ids = set(map(id, kept)) if kept is not unpacked.entries else set()
        for entry in unpacked.entries if kept is not unpacked.entries else ():
            if id(entry) not in kept_ids and "lost" in entry:
                self._refuse_loss(intake.name, {**unpacked.shared, **entry})
        for event in _own_alone(intake, request):
            if is_closing(event):
                key = (intake.name, event["run"])
                if kept:
                    self.closings[key].append(told_by_closing(event))
                else:
                    self.refused.add(key)

    def refuse(self, intake: Intake, request: Request, status: int, reason: str, lacks: str | None = None) -> None:
        super().refuse(intake, request, status, reason, lacks)
        for event in _own_alone(intake, request) if status in REJECTIONS else ():
            if is_closing(event):
                self.refused.add((intake.name, event["run"]))
            elif "lost" in event:
                self._refuse_loss(intake.name, event)

    def _look(self, provider: str, entry: dict[str, Any]) -> None:
        key = (provider, entry.get("run", ""))
        if "seq" in entry:
            numbers = self.arrived[key].setdefault(entry["stream"], Ranges())
            numbers.add(entry["seq"], entry["seq"] + entry.get("lines", 1))
            self.count[key] = sum(ranges.covered for ranges in self.arrived[key].values())
        elif "lost" in entry:
            first, last = entry["first_seq"], entry["last_seq"]
            self.inner[key][entry["stream"], first, last] = last + 1 - first - entry["lost"]

    def _refuse_loss(self, provider: str, event: dict[str, Any]) -> None:
        """Empty lines before it are told by nobody either."""
        key, first, last = (provider, event["run"]), event["first_seq"], event["last_seq"]
        skipped, inner = event.get("skipped", 0), last + 1 - first - event["lost"]
        self.refused_losses[key][event["stream"]].add(first - max(0, skipped - inner), last + 1)
        self.inner[key][event["stream"], first, last] = max(skipped, inner)

    def got(self, provider: str, run: str, streams: Mapping[str, StreamLedger]) -> Got:
        """``streams``: the run's, as the sandbox's own ledger has them."""
        got = Got(empty=sum(self.inner[provider, run].values()))
        for name, one in streams.items():
            numbers = self.arrived[provider, run].get(name, Ranges())
            got.arrived += numbers.covered
            announced = both_of(one.announced, self.refused_losses[provider, run][name])
            got.announced += announced.covered
            got.both += sum(announced.within(start, end) for start, end in numbers.pairs())
            got.empty += one.seen.covered - numbers.covered
        return got


def both_of(one: Ranges, other: Ranges) -> Ranges:
    """The numbers that are in either."""
    either = Ranges()
    for ranges in (one, other):
        for start, end in ranges.pairs():
            either.add(start, end)
    return either


def _own_alone(intake: Intake, request: Request) -> list[dict[str, Any]]:
    """The event of shipper's own, if it holds nothing else: so goes a closing one, and what was refused beside others
    and is tried alone."""
    if len(request.body) > CLOSING_BYTES:
        return []
    events: list[dict[str, Any]] = []
    with contextlib.suppress(ValueError, KeyError):  # a call that makes a stream, or what else there is
        events = events_in(intake.name, request.body)
    return events if len(events) == 1 and events[0].get("logger") == "shipper" else []


def ask_status(directory: Path) -> dict[str, Any]:
    """What `shipper status --json` says there. Raises CalledProcessError."""
    environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shipper", "status", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True)
    values: dict[str, Any] = json.loads(done.stdout)
    return values
