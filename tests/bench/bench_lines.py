"""CPU of a line from bytes to a compressed Datadog body, beside the reference loop over the same lines.

    python tests/bench/bench_lines.py [DIRECTORY or FILE …]

Lines over 5,000 bytes are left out and the others repeated to 100,000. The latest time stamp of LiveKit's or pino's
becomes the capture's time, the others keep their distance from it, and each repetition moves on by 7 ms: so stamps are
as distinct as an agent's. Lines come as the journal's reader gives them: windows of 256 KiB of one stream, cut when
they are needed, five reads a window; they are decoded, encoded in requests of 1,000 over the windows' borders, and
dropped one window later. The reference is `orjson.loads` for each JSON line, one `orjson.dumps` of a list of 1,000,
ISA-L level 1. Figures are us a line, the best of five rounds that take turns, with the garbage collector off as in the
worker. ``free``: what dropping a window's events takes. The same code differs by 15 % from one process to the next, by
where its heap happens to lie (free and encode above all): compare the best of several.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

if __package__ in (None, ""):
    sys.path.append(str(Path(__file__).resolve().parents[2]))

import orjson
from isal import isal_zlib

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.calls import Calls
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.joining import group
from shipper.sinks.datadog import DatadogEncoder

LINES = 100_000
BATCH = 1_000
WINDOW_BYTES = 256 << 10
READS = 5  # a window
STEP_MS = 7  # from one repetition of the lines to the next
ROUNDS = 5
NOW_MS = 1_795_495_000_000  # 2026-11-24T04:36:40Z
FACTS = Facts(
    "0123456789abcdef", "agent-7f9c6d5b4-x2x9z", "CA_0123456789ab", "cloud.livekit.io", (), (), 262_144, 0, "python"
)


def sample_lines(paths: list[Path]) -> list[bytes]:
    lines = []
    for path in paths:
        for file in sorted(path.glob("*.log")) if path.is_dir() else [path]:
            lines += [line for line in file.read_bytes().split(b"\n") if line and len(line) <= 5000]
    return lines


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAMP = re.compile(rb'^(\{.*?"(?:timestamp|time)": ?)("\d{4}-\d\d-\d\dT[\d:.]+\+00:00"|\d{13}\b)(.*)')


def stamp_us(stamp: bytes) -> int:
    if stamp.startswith(b'"'):
        return (datetime.fromisoformat(stamp[1:-1].decode()) - EPOCH) // timedelta(microseconds=1)
    return int(stamp) * 1000


def restamped(some: list[bytes]) -> list[bytes]:
    found = [(line, STAMP.match(line)) for line in some]
    latest_us = max((stamp_us(match[2]) for _, match in found if match), default=0)
    lines: list[bytes] = []
    for repetition in range(LINES // len(some) + 1):
        forward_us = (NOW_MS + repetition * STEP_MS) * 1000 - latest_us
        for line, match in found:
            if match:
                time_us = stamp_us(match[2]) + forward_us
                stamp = b"%d" % (time_us // 1000)
                if match[2].startswith(b'"'):
                    moment = EPOCH + timedelta(microseconds=time_us)
                    stamp = b'"' + moment.isoformat(timespec="microseconds").encode() + b'"'
                line = match[1] + stamp + match[3]
            lines.append(line)
    return lines[:LINES]


def windows(lines: list[bytes]) -> Iterator[bytes]:
    chosen: list[bytes] = []
    size = 0
    for line in lines:
        chosen.append(line)
        size += len(line) + 1
        if size >= WINDOW_BYTES:
            yield b"\n".join(chosen)
            chosen, size = [], 0
    if chosen:
        yield b"\n".join(chosen)


def reference(data: list[bytes]) -> tuple[float, ...]:
    total = 0.0
    for window in data:
        lines = window.split(b"\n")
        for first in range(0, len(lines), BATCH):
            some = lines[first : first + BATCH]
            start = time.perf_counter()
            loaded: list[object] = []
            for line in some:
                if line[:1] == b"{":
                    try:
                        loaded.append(orjson.loads(line))
                        continue
                    except ValueError:
                        pass
                loaded.append({"message": line.decode(errors="replace")})
            isal_zlib.compress(orjson.dumps(loaded), 1, wbits=31)
            del loaded
            total += time.perf_counter() - start
    return (total,)


class Ours:
    """Joining, decoding, encoding without compression, compression, and dropping the events."""

    names = ("join", "decode", "encode", "compress", "free")

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.encoder = DatadogEncoder(FACTS, client_token=False)
        self.size = self.wire = self.lines = 0

    def __call__(self, data: list[bytes]) -> tuple[float, ...]:
        clock = time.perf_counter
        join = decode = encode = compress = free = 0.0
        calls = Calls.EMPTY
        seq = 1
        waiting: deque[tuple[Events, int, int]] = deque()
        kept: Events | None = None
        for window in data:
            lines = window.split(b"\n")
            times = [(read * len(lines) // READS, (NOW_MS + read) * 1_000_000) for read in range(READS)]
            start = clock()
            groups = group(lines, {}).groups
            join += clock() - start
            batch = Batch(1, lines, seq, times, {}, groups)
            seq += len(lines)
            start = clock()
            events, calls = self.decoder.follow(batch, calls)
            decode += clock() - start
            del batch, lines
            waiting.append((events, 0, events.count))
            while sum(end - first for _, first, end in waiting) >= BATCH:
                request, missing = [], BATCH
                while missing:
                    first, end = waiting[0][1:]
                    last = min(end, first + missing)
                    request.append((waiting[0][0], first, last))
                    missing -= last - first
                    piece = waiting.popleft()
                    if last < end:
                        waiting.appendleft((piece[0], last, end))
                    del piece
                start = clock()
                body = self.encoder(request, NOW_MS)
                took = clock() - start
                raw = isal_zlib.decompress(body.data, wbits=31)
                start = clock()
                isal_zlib.compress(raw, 1, wbits=31)
                compressing = clock() - start
                encode += took - compressing
                compress += compressing
                self.size += body.size
                self.wire += len(body.data)
                self.lines += sum(events.lines_in(first, end) for events, first, end in request)
                del request
            start = clock()
            kept = events
            free += clock() - start
        del kept
        return join, decode, encode, compress, free


def measure(data: list[bytes], works: list[Callable[[list[bytes]], tuple[float, ...]]]) -> list[tuple[float, ...]]:
    rounds = [[work(data) for work in works] for _ in range(ROUNDS)]
    best = [min(figures, key=sum) for figures in zip(*rounds, strict=True)]
    return [tuple(part / LINES * 1e6 for part in parts) for parts in best]


def main(arguments: list[str]) -> int:
    paths = [Path(argument) for argument in arguments] or [Path(__file__).resolve().parents[2] / "demo" / "lines"]
    some = sample_lines(paths)
    if not some:
        print("no lines there")
        return 2
    json_share = sum(line[:1] == b"{" for line in some) / len(some)
    print(f"{len(some)} lines, {sum(map(len, some)) / len(some):.0f} B in the mean, {json_share:.0%} JSON; us a line:")
    data = list(windows(restamped(some)))
    work = Ours()
    gc.freeze()
    gc.disable()
    (loop,), parts = measure(data, [reference, work])
    print(f"reference  {loop:.3f}")
    for name, part in zip(work.names, parts, strict=True):
        print(f"{name:10} {part:.3f}")
    print(f"total      {sum(parts):.3f}   {sum(parts) / loop:.2f} x the reference")
    print(f"a line is {work.size / work.lines:.0f} B in the body and {work.wire / work.lines:.1f} B on the wire")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
