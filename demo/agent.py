"""The demo's agent: prints what real LiveKit workers printed, at a lively pace, until TERM or INT.

Standard library only, and nothing of shipper: it is what stands behind `shipper run --`, as any agent would. The lines
are those of demo/lines; only the times in them are moved to now, since a provider drops lines that are too old
(Datadog: 18 hours).
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = Path(__file__).resolve().parent / "lines"
SCENES = ("py_drain", "node_job", "py_task", "node_throw", "py_segv", "py_dev")
PAUSE = 1 / 35
"""Seconds between two lines; with the work between them some 30 lines a second."""

STAMPS = re.compile(
    rb'(?P<python>"timestamp": ")\d{4}-\d\d-\d\dT[0-9:.]+\+00:00'
    rb'|(?P<node>^\{"level":\d+,"time":)\d{13}'
    rb"|(?P<dev>^)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}(?= - )"
)


def restamped(line: bytes, now: datetime.datetime) -> bytes:
    """`line` with its time, in whichever of the three forms workers print one, moved to `now` (UTC)."""

    def stamp(match: re.Match[bytes]) -> bytes:
        if match["python"] is not None:
            return match["python"] + now.isoformat(timespec="microseconds").encode()
        if match["node"] is not None:
            return match["node"] + b"%d" % (now.timestamp() * 1000)
        return now.strftime("%Y-%m-%d %H:%M:%S,").encode() + b"%03d" % (now.microsecond // 1000)

    return STAMPS.sub(stamp, line, count=1)


def scene(name: str) -> Iterator[tuple[int, bytes]]:
    """The lines of one captured run as (descriptor, line), stderr's spread evenly between stdout's."""
    streams = {1: LINES / f"{name}.stdout.log", 2: LINES / f"{name}.stderr.log"}
    lines = {fd: path.read_bytes().rstrip(b"\n").split(b"\n") for fd, path in streams.items() if path.exists()}
    ordered = sorted((index / len(of), fd, line) for fd, of in lines.items() for index, line in enumerate(of))
    for _, fd, line in ordered:
        yield fd, line


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def main() -> int:
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked_to_stop.append(received))

    for fd, line in itertools.chain.from_iterable(map(scene, itertools.cycle(SCENES))):
        if asked_to_stop:
            break
        write(fd, restamped(line, datetime.datetime.now(datetime.UTC)) + b"\n")
        time.sleep(PAUSE)

    farewell = {
        "message": f"shutting down worker after {signal.Signals(asked_to_stop[0]).name}",
        "level": "INFO",
        "name": "demo-agent",
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
    }
    write(1, json.dumps(farewell).encode() + b"\n")
    write(1, b"the demo agent's last words, and no newline after them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
