"""CPU of a line from bytes to a compressed Datadog body, beside the reference loop over the same lines.

    python tests/bench/bench_lines.py [DIRECTORY or FILE …]

Lines over 5,000 bytes are left out and the others repeated to 200,000, in batches of 1,000. Their own time stamps lie
in the past; the capture's time is set to the latest of them, so that they count as they would in a live run. The
reference is `orjson.loads` for each JSON line, one `orjson.dumps` of the list, ISA-L level 1. Figures are us a line,
the best of five rounds, with the garbage collector off as in the worker. ``free``: what dropping the events takes.
"""

from __future__ import annotations

import gc
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

if __package__ in (None, ""):
    sys.path.append(str(Path(__file__).resolve().parents[2]))

import orjson
from isal import isal_zlib

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.sinks.datadog import DatadogEncoder

LINES = 200_000
BATCH = 1_000
ROUNDS = 5
FACTS = Facts(
    "0123456789abcdef", "agent-7f9c6d5b4-x2x9z", "CA_0123456789ab", "cloud.livekit.io", (), (), 262_144, 0, "python"
)


def sample_lines(paths: list[Path]) -> list[bytes]:
    lines = []
    for path in paths:
        for file in sorted(path.glob("*.log")) if path.is_dir() else [path]:
            lines += [line for line in file.read_bytes().split(b"\n") if line and len(line) <= 5000]
    return lines


def latest_ms(lines: list[bytes]) -> int:
    found = [1]
    for line in lines:
        if line.startswith(b'{"'):
            stamp = orjson.loads(line).get("timestamp")
            if isinstance(stamp, str):
                found.append(int(datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp() * 1000))
    return max(found)


def reference(lines: list[bytes]) -> tuple[float, ...]:
    loaded: list[object] = []
    start = time.perf_counter()
    for line in lines:
        if line[:1] == b"{":
            try:
                loaded.append(orjson.loads(line))
                continue
            except ValueError:
                pass
        loaded.append({"message": line.decode(errors="replace")})
    body = orjson.dumps(loaded)
    isal_zlib.compress(body, 1, wbits=31)
    del loaded
    return (time.perf_counter() - start,)


class Ours:
    """Decode, encode with compression, compression alone once more, and dropping the events."""

    names = ("decode", "encode", "compress", "free")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.decoder = Decoder()
        self.encoder = DatadogEncoder(FACTS, client_token=False)
        self.size = self.wire = 0

    def __call__(self, lines: list[bytes]) -> tuple[float, ...]:
        batch = Batch(1, lines, 1, [(0, self.now_ms * 1_000_000)], {}, 0)
        started = time.perf_counter()
        events = self.decoder.decode(batch)
        decoded = time.perf_counter()
        body = self.encoder([(events, 0, events.count)], self.now_ms)
        encoded = time.perf_counter()
        del events
        freed = time.perf_counter()
        raw = isal_zlib.decompress(body.data, wbits=31)
        again = time.perf_counter()
        isal_zlib.compress(raw, 1, wbits=31)
        compressed = time.perf_counter() - again
        self.size += body.size
        self.wire += len(body.data)
        return decoded - started, encoded - decoded - compressed, compressed, freed - encoded


def measure(batches: list[list[bytes]], work: Ours | None) -> tuple[float, ...]:
    rounds = []
    for _ in range(ROUNDS):
        parts = [work(lines) if work else reference(lines) for lines in batches]
        rounds.append(tuple(sum(part) / LINES * 1e6 for part in zip(*parts, strict=True)))
    return min(rounds, key=sum)


def main(arguments: list[str]) -> int:
    paths = [Path(argument) for argument in arguments] or [Path(__file__).resolve().parents[2] / "demo" / "lines"]
    some = sample_lines(paths)
    if not some:
        print("no lines there")
        return 2
    lines = (some * (LINES // len(some) + 1))[:LINES]
    json_share = sum(line[:1] == b"{" for line in some) / len(some)
    print(f"{len(some)} lines, {sum(map(len, some)) / len(some):.0f} B in the mean, {json_share:.0%} JSON; us a line:")
    batches = [lines[start : start + BATCH] for start in range(0, LINES, BATCH)]
    work = Ours(latest_ms(some))
    gc.freeze()
    gc.disable()
    (loop,) = measure(batches, None)
    parts = measure(batches, work)
    print(f"reference  {loop:.3f}")
    for name, part in zip(work.names, parts, strict=True):
        print(f"{name:10} {part:.3f}")
    print(f"total      {sum(parts):.3f}   {sum(parts) / loop:.2f} x the reference")
    print(
        f"a line is {work.size / LINES / ROUNDS:.0f} B in the body and {work.wire / LINES / ROUNDS:.1f} B on the wire"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
