"""What a person types: ``shipper check [--json]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import orjson

from shipper.check import place
from shipper.check.probe import TIMEOUT, probe
from shipper.check.report import GOOD, NEUTRAL, Report, facts_of, half_set, not_enabled, printed, who
from shipper.config.needles import hide
from shipper.config.problems import Problem
from shipper.config.registry import REGISTRY
from shipper.config.settings import load
from shipper.lines.filters import make
from shipper.messages import say

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from shipper.check.probe import Probe
    from shipper.config.registry import SinkEntry
    from shipper.journal.facts import Facts

USAGE = 64

EPILOG = f"""\
examples:
  shipper check
  docker exec CONTAINER shipper check          beside a running agent
  docker run --rm --env-file .env IMAGE shipper check
  shipper check --json | jq '.sinks[] | select(.enabled and (.accepted | not))'

One test line goes to each enabled sink, with logger "shipper" and the level info; all are asked at the same time, for
at most {TIMEOUT:g} s. CloudWatch makes the log group and stream if they are missing, as it would for the agent's lines.
Nothing is written on this machine.

--json prints one object:
  ok             as the exit status says
  version, host, source (null where only the agent's command tells it), source_from, service, tags
  variables      [variable, message] of each that is wrong
  journal        path, usable, exists, message, owner, mode, file_system, free_bytes, used_bytes, max_bytes, runs,
                 live_runs, passed_over [path, message]
  sinks          name, title, enabled, accepted, message; of enabled ones also destination, place, proxy, addresses,
                 encrypted, tls, certificate_until, seconds, variable (the one to look at)

exit status:
  0 when every enabled sink took its line, no variable is wrong and the journal has its place; 1 otherwise; 64 for a
  wrong option.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        say(f"{message}; `shipper check --help` shows what there is")
        raise SystemExit(USAGE)


def main(argv: Sequence[str]) -> int:
    parser = _Parser(
        prog="shipper check",
        description="Says where each sink would send to, and sends one test line to see whether it may.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    options = parser.parse_args(argv)
    report = check(os.environ)
    if options.json:
        text = orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n"
    else:
        text = printed(report, ascii_only=not _shows_marks(), colour=_shows_colour())
    _write(hide(os.environ, text))
    status = 0 if report.good else 1
    if report.timed_out:
        # A thread may still wait for a name server, and the interpreter would wait for it (up to a minute).
        os._exit(status)
    return status


def check(environ: Mapping[str, str], timeout: float = TIMEOUT) -> Report:
    """Asks all enabled sinks at once; ends within ``timeout`` seconds and a moment."""
    settings = load(environ)
    problems = list(settings.problems)
    problems += half_set(environ, settings, problems)
    patterns = make(0, settings.exclude, settings.redact, settings.pii)[1]
    problems += [Problem(variable, hide(environ, sentence)) for variable, sentence in patterns]
    where = place.find(settings.directories, settings.journal_max_bytes)
    source = who(environ, problems, where.facts)
    facts = facts_of(environ, settings, source, where.facts)
    entries = [entry for entry in REGISTRY if entry.name in settings.sinks]
    probes = _run(_all(entries, environ, facts, timeout)) if entries else []
    return Report(facts, source, problems, probes, not_enabled(environ, settings), where)


async def _all(
    entries: Sequence[SinkEntry],
    environ: Mapping[str, str],
    facts: Facts,
    timeout: float,  # noqa: ASYNC109 (handed on)
) -> list[Probe]:
    return await asyncio.gather(*(probe(entry, environ, facts, timeout) for entry in entries))


def _run(work: Coroutine[Any, Any, list[Probe]]) -> list[Probe]:
    """Without asyncio.run's wait for threads, which may hang in a name server that is away."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(_end())
        loop.close()


async def _end() -> None:
    """What Ctrl-C left ends too, and closed connections are forgotten, one turn of the loop later."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)


def _shows_marks() -> bool:
    try:
        (GOOD + NEUTRAL).encode(_encoding())
    except (UnicodeError, LookupError):
        return False
    return True


def _shows_colour() -> bool:
    if sys.stdout is None:  # it was closed before we began: the exit status still tells
        return False
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    """Whatever stdout can show of it."""
    if sys.stdout is None:
        return
    encoding = _encoding()
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "ascii"
