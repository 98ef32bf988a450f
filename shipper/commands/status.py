"""``shipper status``: how the run of this container and each of its sinks do, from the run's files."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from shipper.commands import finding
from shipper.commands.figures import NOT_STARTED, Figures, SinkFigures, gather
from shipper.config.needles import hide
from shipper.config.settings import load
from shipper.config.units import size_in_words
from shipper.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

REFRESH_SECONDS = 1.0

EPILOG = """\
Reads the files of the newest run that lives, else of the newest: works in `docker exec` beside a running agent and
after its end. pending: captured, and nothing was done with it yet. filtered: lines that are not sent, empty ones and
those that SHIPPER_LEVEL and SHIPPER_EXCLUDE keep back. repeats: sent once more after an attempt of which nobody can
tell whether it was accepted. retried: attempts that failed and were followed by another. rejected: lines that the
provider will never take. lag: age of the oldest pending line. For each sink captured = delivered + filtered + rejected
+ dropped + pending (in --json dropped holds those rejected).

--json prints one object (with -w one a line, each second); names and meanings of these fields do not change:
  run, directory, host, source, service, started (UTC)
  agent     name, pid (null: unknown, or of another pid namespace), state: running, stopped, ending (it has ended, the
            wrapper has not), ended, killed (with its wrapper); uptime_seconds; end: what is known of it, or null
  captured  lines, bytes; stdout and stderr: lines, bytes
  memory    of the container, as last noted: use_bytes, limit_bytes, peak_bytes (each may be null), oom_kills; or null
  journal_bytes
  sinks     a list: name, title, state: well, waiting (for another attempt), parked (its secret is refused), left_out
            (memory does not hold it), journal (which cannot be read), not_started; until (UTC, the next attempt)
            or null; delivered, filtered, pending, repeats, retried, rejected (lines, but for retried); left_out:
            those filtered, by reason; dropped: lines by reason, those rejected among them; masked, redacted, pii:
            places in lines that were changed on the way; lag_seconds; complete: all is delivered, and nothing
            follows; last_error, last_error_at (UTC), or null; clock_off_seconds: that this machine's clock is
            ahead of the provider's, 0 while that is under 5 minutes
  earlier   runs and lines of earlier starts that are not delivered yet

exit status: 0, 1 when there is no run to show, 64 for a wrong option, 130 Ctrl-C.
"""

COLOURS = {"well": "32", "waiting": "33", "parked": "31", "left_out": "31", "journal": "31", NOT_STARTED: "31"}
MARGIN = "  "
STARTS_WITHIN = 30.0  # a second as a rule; with a small share of CPU, or where others are busy, much longer


def main(argv: Sequence[str]) -> int:
    import argparse

    parser = finding.Parser(
        prog="shipper status",
        description="Shows what was captured, what each provider has of it, and what keeps the rest.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-w", "--watch", action="store_true", help="refresh each second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    options = parser.parse_args(argv)
    directories = finding.candidates(load(os.environ).directories)
    figures = _look(directories)
    if figures is None:
        say(finding.nothing_to_show(directories))
        return 1
    if options.watch:
        _watch(directories, figures, as_json=options.json)
    _write(_as_json(figures, indent=2) if options.json else _as_text(figures))
    return 0


def _look(directories: Sequence[str]) -> Figures | None:
    for _ in range(3):  # a run may be removed while it is read
        run = finding.newest_run(directories)
        if run is None:
            return None
        try:
            return gather(run)
        except FileNotFoundError:
            continue
    return None


def _watch(directories: Sequence[str], figures: Figures | None, *, as_json: bool) -> NoReturn:
    """Raises KeyboardInterrupt, BrokenPipeError, SystemExit."""
    signal.signal(signal.SIGTERM, _end)
    screen = not as_json and sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    last = ""
    try:
        if screen:
            _write("\x1b[?1049h\x1b[?25l\x1b[?7l")  # another screen, no cursor, long lines are cut
        while True:
            if figures is not None:
                last = _as_json(figures) if as_json else _as_text(figures)
                _write(_in_place(last) if screen else last if as_json else f"{last}\n")
            time.sleep(REFRESH_SECONDS)
            figures = _look(directories)
    finally:
        if screen:
            _write(f"\x1b[?7h\x1b[?25h\x1b[?1049l{last}")


def _end(signo: int, _: object) -> NoReturn:
    raise SystemExit(128 + signo)


def _in_place(text: str) -> str:
    """Over what is on the screen, as far as it fits."""
    try:
        rows = os.get_terminal_size(1).lines or 24
    except OSError:
        rows = 24
    return "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in text.splitlines()[: max(1, rows - 1)]) + "\x1b[J"


def _write(text: str) -> None:
    """Whatever stdout can show of it, without a secret that was given to SHIPPER_HOST, say."""
    if sys.stdout is None:
        return
    text = hide(os.environ, text)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


# -- as an object --------------------------------------------------------------------------------------------------


def _as_json(figures: Figures, indent: int | None = None) -> str:
    note = figures.note
    values: dict[str, Any] = {
        "run": figures.facts.run,
        "directory": figures.run,
        "host": figures.facts.host,
        "source": figures.facts.source,
        "service": figures.facts.service,
        "started": _utc(figures.facts.started_ns),
        "agent": {
            "name": figures.facts.agent,
            "pid": figures.pid if figures.pid_is_ours else None,
            "state": figures.state,
            "uptime_seconds": round(figures.uptime, 1),
            "end": figures.captured.end,
        },
        "captured": {
            "lines": sum(figures.lines.values()),
            "bytes": sum(figures.bytes.values()),
            **{name: {"lines": figures.lines[name], "bytes": figures.bytes[name]} for name in figures.lines},
        },
        "memory": None
        if note is None
        else {
            "use_bytes": note.use_bytes,
            "limit_bytes": note.limit_bytes,
            "peak_bytes": note.peak_bytes,
            "oom_kills": note.oom_kills,
        },
        "journal_bytes": figures.captured.size,
        "sinks": [
            {
                "name": sink.name,
                "title": sink.title,
                "state": sink.state,
                "until": _utc(sink.until_ns),
                "delivered": sink.delivered,
                "filtered": sink.filtered,
                "left_out": sink.left_out,
                "pending": sink.pending,
                "repeats": sink.repeats,
                "retried": sink.retried,
                "rejected": sink.rejected,
                "dropped": sink.dropped,
                **sink.changed,
                "lag_seconds": round(sink.lag, 3),
                "complete": sink.complete,
                "last_error": sink.error or None,
                "last_error_at": _utc(sink.error_at_ns),
                "clock_off_seconds": sink.clock_off,
            }
            for sink in figures.sinks
        ],
        "earlier": {"runs": figures.earlier_runs, "lines": figures.earlier_lines},
    }
    return json.dumps(values, indent=indent) + "\n"


def _utc(moment_ns: int) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_ns // 10**9)) if moment_ns else None


# -- for a person --------------------------------------------------------------------------------------------------


def _as_text(figures: Figures) -> str:
    facts, streams = figures.facts, figures.lines
    by_stream = ", ".join(f"{name} {count:,}" for name, count in streams.items())
    captured = f"{_lines(sum(streams.values()))}, {size_in_words(sum(figures.bytes.values()))} ({by_stream})"
    rows = [
        ("agent", _agent(figures)),
        ("", f"host {facts.host}, source {facts.source}, service {facts.service}, run {facts.run}"),
        ("captured", captured),
        ("journal", f"{size_in_words(figures.captured.size)} in {figures.run}"),
    ]
    if figures.note is not None and figures.note.use_bytes is not None:
        rows.append(("memory", _memory(figures)))
    for sink in [sink for sink in figures.sinks if sink.clock_off][:1]:  # the others say the same
        off = f"{_duration(round(abs(sink.clock_off) / 60) * 60)} {'ahead of' if sink.clock_off > 0 else 'behind'}"
        rows.append(("clock", f"this machine's is {off} that of {sink.title}: set it right"))
    if figures.earlier_runs:
        runs = (
            "1 run of an earlier start is"
            if figures.earlier_runs == 1
            else f"{figures.earlier_runs:,} earlier runs are"
        )
        rows.append(("earlier", f"{runs} not delivered yet: {_lines(figures.earlier_lines)} pending"))
    out = [f"{name:<8}{MARGIN}{text}" for name, text in rows]
    out += (
        ["", *_table(figures)]
        if figures.sinks
        else ["", "Nothing is forwarded: no sink is turned on, `shipper check` says why."]
    )
    dropped = [(sink.title, sink.dropped) for sink in figures.sinks if sink.dropped]
    if dropped:
        out += ["", "dropped lines"]
        out += _aligned(
            [(title, ", ".join(f"{why} {n:,}" for why, n in reasons.items())) for title, reasons in dropped]
        )
    changed = [(sink.title, {name: n for name, n in sink.changed.items() if n}) for sink in figures.sinks]
    if any(places for _, places in changed):
        out += ["", "changed on the way, places in lines"]
        out += _aligned(
            [(title, ", ".join(f"{what} {n:,}" for what, n in places.items())) for title, places in changed if places]
        )
    errors = [sink for sink in figures.sinks if sink.error]
    if errors:
        out += ["", "last errors"]
        out += _aligned([(sink.title, f"{_clock(sink.error_at_ns, figures.now_ns)}  {sink.error}") for sink in errors])
    return "\n".join(out) + "\n"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{MARGIN}{name:<{width}}{MARGIN}{text}" for name, text in rows]


def _agent(figures: Figures) -> str:
    who = figures.facts.agent
    if figures.pid and figures.state in ("running", "stopped"):
        who += f" (pid {figures.pid}{'' if figures.pid_is_ours else ' in its own namespace'})"
    lasted = _duration(figures.uptime)
    if figures.state == "running":
        return f"{who} is running, up {lasted}"
    if figures.state == "stopped":
        return f"{who} is stopped by a signal, started {lasted} ago; SIGCONT continues it"
    if figures.state == "killed":
        return f"{who} has no end: it was killed, as a rule with its whole container or machine"
    what = f"{who} {_end_in_words(figures.captured.end)}"
    if figures.state == "ending":
        return f"{what} after {lasted}; what it left is still being delivered or waited for"
    return f"{what} after {lasted}, {_clock(figures.captured.end_ns, figures.now_ns)}"


def _end_in_words(end: dict[str, Any] | None) -> str:
    if end is None:
        return "has ended"
    if "signal" in end:
        return f"was ended by signal {end['signal']}"
    return f"ended with status {end.get('exit_status', 'unknown')}"


def _memory(figures: Figures) -> str:
    note = figures.note
    assert note is not None  # noqa: S101 (for the type checker)
    text = size_in_words(note.use_bytes or 0)
    text += " of the container's " + size_in_words(note.limit_bytes) if note.limit_bytes is not None else ", no limit"
    if note.oom_kills:
        text += f"; processes killed for lack of it: {note.oom_kills}"
    return f"{text}, noted {_clock(note.at_ns, figures.now_ns)}"


def _table(figures: Figures) -> list[str]:
    head = ("sink", "delivered", "filtered", "pending", "repeats", "retried", "rejected", "dropped", "lag", "state")
    rows = [head, *(_row(sink, figures) for sink in figures.sinks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    colour = _shows_colour()
    out = []
    for row, sink in zip(rows, [None, *figures.sinks], strict=True):
        cells = [f"{cell:<{width}}" if not column else f"{cell:>{width}}" for column, (cell, width) in
                 enumerate(zip(row[:-1], widths, strict=False))]  # fmt: skip
        state = row[-1]
        if colour and sink is not None:
            state = f"\x1b[{COLOURS.get(sink.state, '0')}m{state}\x1b[0m"
        out.append(MARGIN.join([*cells, state]))
    return out


def _row(sink: SinkFigures, figures: Figures) -> tuple[str, ...]:
    otherwise = sink.dropped_otherwise
    lines = (sink.delivered, sink.filtered, sink.pending, sink.repeats, sink.retried, sink.rejected, otherwise)
    return (sink.title, *(f"{number:,}" for number in lines), _duration(sink.lag), _state(sink, figures))


def _state(sink: SinkFigures, figures: Figures) -> str:
    if sink.complete or (figures.over and not sink.pending):
        return "well, all delivered"
    if figures.over:
        return "waits for the next start on this directory"
    if sink.state == NOT_STARTED:
        return "not started: `shipper check` says why" if figures.uptime > STARTS_WITHIN else "not started yet"
    seconds = max(0.0, (sink.until_ns - figures.now_ns) / 1e9) if sink.until_ns else 0.0
    soon = f"in {_duration(seconds)}" if seconds else "now"
    if sink.state == "waiting":
        return f"waiting, next attempt {soon}"
    if sink.state == "parked":
        return f"parked: its secret is refused, looks again {soon}"
    if sink.state == "left_out":
        return "left out: the container's memory limit does not hold it"
    return "the journal cannot be read" if sink.state == "journal" else sink.state


def _shows_colour() -> bool:
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // small} {small_name}"
    return f"{whole} s"


def _clock(moment_ns: int, now_ns: int) -> str:
    """UTC, with the day unless it is today's."""
    moment = time.gmtime(moment_ns // 10**9)
    today = time.gmtime(now_ns // 10**9)
    return time.strftime("%H:%M:%S UTC" if moment[:3] == today[:3] else "%Y-%m-%d %H:%M:%S UTC", moment)
