"""All that was found, as lines for a person and as one object for a program."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from shipper import __version__
from shipper.config import Problem, secret
from shipper.config.identity import find_host, find_source
from shipper.config.registry import REGISTRY
from shipper.config.units import size_in_words
from shipper.journal.facts import Facts, new_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shipper.check.place import Place
    from shipper.check.probe import Probe
    from shipper.config import Settings
    from shipper.config.registry import SinkEntry

UNKNOWN_SOURCE = "shipper-check"
"""The source of the test line where only the agent's command would tell it."""

GOOD, BAD, NEUTRAL = "✓", "✗", "–"  # noqa: RUF001 (a dash as long as the marks are wide)
ASCII = {GOOD: "ok", BAD: "FAILED", NEUTRAL: "-"}
_COLOURS = {GOOD: "32", BAD: "31", NEUTRAL: "2"}


class Source(NamedTuple):
    """``known``: whether lines will really carry this name."""

    name: str
    known: bool
    origin: str


class Off(NamedTuple):
    """A sink that is not enabled. ``left_out``: by SHIPPER_SINKS alone, its secrets are set."""

    name: str
    title: str
    reason: str
    left_out: bool


class Report:
    def __init__(
        self,
        facts: Facts,
        source: Source,
        problems: Sequence[Problem],
        probes: Sequence[Probe],
        off: Sequence[Off],
        place: Place,
    ) -> None:
        self.facts = facts
        self.source = source
        self.problems = problems
        self.probes = probes
        self.off = off
        self.place = place

    @property
    def good(self) -> bool:
        return (
            all(probe.accepted for probe in self.probes)
            and not self.problems
            and self.place.usable
            and not self.place.problem
        )

    @property
    def timed_out(self) -> bool:
        return any(probe.timed_out for probe in self.probes)

    def lines(self) -> list[tuple[str, str, str]]:
        """(mark, subject, sentence)."""
        rows = [(NEUTRAL, "lines", self._identity())]
        rows += [(BAD, problem.variable, _sentence(problem.message)) for problem in self.problems]
        rows.append(_journal(self.place))
        for probe in self.probes:
            where = ", ".join(filter(None, (probe.destination, probe.place)))
            text = f"{where}: {probe.message}" if where and probe.accepted else _with_place(probe)
            rows.append((GOOD if probe.accepted else BAD, probe.title, text))
        rows += [(NEUTRAL, off.title, f"not enabled: {off.reason}.") for off in self.off]
        mark = BAD if not self.good else GOOD if self.probes else NEUTRAL
        rows.append((mark, "", self._verdict()))
        return rows

    def _identity(self) -> str:
        tags = "".join(f", {key} {value}" for key, value in self.facts.tags)
        name = self.source.name if self.source.known else "not known yet"
        return f"host {self.facts.host}, source {name} ({self.source.origin}), service {self.facts.service}{tags}."

    def _verdict(self) -> str:
        wrong = len({problem.variable for problem in self.problems})
        parts = []
        if self.probes:
            taken = sum(probe.accepted for probe in self.probes)
            parts.append(f"{taken} of {len(self.probes)} {_plural('sink', len(self.probes))} took the test line")
        elif left_out := [off.title for off in self.off if off.left_out]:
            parts.append(f"Nothing is forwarded: SHIPPER_SINKS leaves out {' and '.join(left_out)}")
        else:
            parts.append(
                "Nothing is forwarded: no sink is enabled. Setting its secret turns one on: "
                + ", ".join(" and ".join(entry.secrets) for entry in REGISTRY)
            )
        if wrong:
            parts.append(f"{wrong} {_plural('variable', wrong)} {'is' if wrong == 1 else 'are'} wrong")
        if not self.place.usable:
            parts.append("there is no place for the journal, so nothing would be forwarded")
        elif self.place.problem:
            parts.append("the journal is short of room")
        return "; ".join(parts) + "."

    def to_json(self) -> dict[str, object]:
        place = self.place
        return {
            "ok": self.good,
            "version": __version__,
            "host": self.facts.host,
            "source": self.source.name if self.source.known else None,
            "source_from": self.source.origin,
            "service": self.facts.service,
            "tags": [list(tag) for tag in self.facts.tags],
            "variables": [{"variable": problem.variable, "message": problem.message} for problem in self.problems],
            "journal": {
                "path": place.path,
                "usable": place.usable,
                "exists": place.exists,
                "message": place.problem or None,
                "owner": place.owner,
                "mode": f"{place.mode:04o}",
                "file_system": place.file_system,
                "free_bytes": place.free_bytes,
                "used_bytes": place.used_bytes,
                "max_bytes": place.max_bytes,
                "runs": place.runs,
                "live_runs": place.live,
                "passed_over": [{"path": path, "message": why} for path, why in place.others],
            },
            "sinks": [*map(_sink_json, self.probes), *map(_off_json, self.off)],
        }


def _sink_json(probe: Probe) -> dict[str, object]:
    reach = probe.reach
    return {
        "name": probe.name,
        "title": probe.title,
        "enabled": True,
        "accepted": probe.accepted,
        "destination": probe.destination or None,
        "place": probe.place or None,
        "proxy": reach.proxy.address if reach and reach.proxy else None,
        "addresses": reach.addresses if reach else [],
        "encrypted": reach.encrypted if reach else None,
        "tls": (reach.tls or None) if reach else None,
        "certificate_until": _iso(reach.valid_until) if reach else None,
        "seconds": None if probe.seconds is None else round(probe.seconds, 3),
        "variable": probe.variable or None,
        "message": probe.message,
    }


def _off_json(off: Off) -> dict[str, object]:
    return {"name": off.name, "title": off.title, "enabled": False, "accepted": False, "message": off.reason}


def _iso(moment: float | None) -> str | None:
    return None if moment is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def who(environ: Mapping[str, str], problems: list[Problem], live: Facts | None) -> Source:
    """The agent's name, as far as it can be told without its command; ``live``: of a run that goes on here."""
    if live is not None:
        return Source(live.source, True, "as the running agent has it")
    name = find_source(environ, [UNKNOWN_SOURCE], os.getcwd(), problems)
    for variable in ("SHIPPER_SOURCE", "LIVEKIT_AGENT_ID"):
        if environ.get(variable, "").strip():
            return Source(name, True, variable)
    if name != UNKNOWN_SOURCE:
        return Source(name, True, "livekit.toml or LIVEKIT_AGENT_NAME")
    return Source(name, False, "the agent's script will tell it, or SHIPPER_SOURCE; the test line has shipper-check")


def facts_of(environ: Mapping[str, str], settings: Settings, source: Source, live: Facts | None) -> Facts:
    """Those of a run of this test's own."""
    return Facts(
        run=new_run_id(),
        host=live.host if live is not None else find_host(environ),
        source=source.name,
        service=settings.service,
        tags=settings.tags,
        sinks=settings.sinks,
        max_line=settings.max_line_bytes,
        started_ns=time.time_ns(),
        agent="shipper check",
    )


def not_enabled(environ: Mapping[str, str], settings: Settings) -> list[Off]:
    found = []
    names = [name.strip() for name in environ.get("SHIPPER_SINKS", "").lower().split(",")]
    for entry in REGISTRY:
        if entry.name in settings.sinks:
            continue
        missing = _missing(entry, environ)
        unread = [f"{name}_FILE" for name in missing if environ.get(f"{name}_FILE", "").strip()]
        if unread:
            reason = f"{' and '.join(unread)} {'holds' if len(unread) == 1 else 'hold'} no secret that could be read"
        elif missing:
            reason = _half(entry, missing)
        elif "none" in names:
            reason = f"SHIPPER_SINKS {'names it, but ' if entry.name in names else 'leaves it out ('}none"
            reason += " beside it" if entry.name in names else ")"
        else:
            reason = "SHIPPER_SINKS leaves it out (it names others)"
        found.append(Off(entry.name, entry.title, reason, not missing))
    return found


def half_set(environ: Mapping[str, str], settings: Settings, problems: Sequence[Problem]) -> list[Problem]:
    """One for each sink of whose secrets a part is set. `shipper run` says nothing of it: what an agent has for other
    things of AWS is no mistake there, and it would be told at every start. Who asks `check` wants to know."""
    found: list[Problem] = []
    if environ.get("SHIPPER_SINKS", "").strip():
        return found  # it leaves the sink out, or names it, of which the settings tell
    told = {problem.variable for problem in problems}
    for entry in REGISTRY:
        missing = _missing(entry, environ)
        if entry.name in settings.sinks or len(missing) in (0, len(entry.secrets)):
            continue
        if told.isdisjoint({f"{name}_FILE" for name in missing}):
            found.append(Problem(missing[0], f"{_half(entry, missing)}: nothing is sent to {entry.title}"))
    return found


def _missing(entry: SinkEntry, environ: Mapping[str, str]) -> list[str]:
    return [name for name in entry.secrets if secret(environ, name) is None]


def _half(entry: SinkEntry, missing: Sequence[str]) -> str:
    there = [name for name in entry.secrets if name not in missing]
    beside = f", {' and '.join(there)} is" if there else ""
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set{beside}"


def _with_place(probe: Probe) -> str:
    """A failure names the host or the variable by itself; the place is told where it adds something."""
    return f"{probe.message} ({probe.place})" if probe.place and probe.place not in probe.message else probe.message


def _journal(place: Place) -> tuple[str, str, str]:
    others = "".join(f" {path} is passed over: {why}." for path, why in place.others)
    if not place.usable:
        remedy = (
            "make room there, or let SHIPPER_DIR name a directory where there is some"
            if place.full
            else "SHIPPER_DIR names a directory that this user may write to"
        )
        text = (
            f"{place.path} cannot be used: {place.problem}.{others} The agent would run, and nothing be forwarded; "
            f"{remedy}."
        )
        return BAD, "journal", text
    state = f"owner {place.owner}, mode {place.mode:04o}" if place.exists else "will be made"
    kind = place.file_system or "unknown file system"
    if kind in ("tmpfs", "ramfs"):
        kind += ", which counts as memory and is gone with the container"
    held = (
        f"holds {size_in_words(place.used_bytes)} of {place.runs} {_plural('run', place.runs)}"
        if place.runs
        else "empty"
    )
    bound, free = size_in_words(place.max_bytes), size_in_words(place.free_bytes)
    text = (
        f"{place.path} ({state}, {kind}): {held}, bound {bound}, {free} free"
        f"{', an agent is running' if place.live else ''}."
    )
    if place.problem:
        return BAD, "journal", f"{text} {place.problem.capitalize()}: lower SHIPPER_JOURNAL_MAX or make room.{others}"
    return GOOD, "journal", text + others


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def printed(report: Report, *, ascii_only: bool, colour: bool) -> str:
    rows = report.lines()
    width = max(len(subject) for _, subject, _ in rows)
    marks = max(len(mark) for mark in ASCII.values()) if ascii_only else 1
    out = []
    for mark, subject, text in rows:
        shown = f"{ASCII[mark] if ascii_only else mark:<{marks}}"
        if colour:
            shown = f"\x1b[{_COLOURS[mark]}m{shown}\x1b[0m"
        out.append(f"{shown} {subject:<{width}}  {text}" if subject else f"{shown} {text}")
    return "\n".join(out) + "\n"
