"""What decoding a line of each format costs, of what the reference loop spends on a line of the demo's.

In one process and in turn, best of a round each. Lines differ in the milliseconds of their time, as an agent's do, and
come in windows of 600, read at once. The reference is that of bench_lines.py: parsing, serialising and compressing.
"""

from __future__ import annotations

import gc
import re
import time
from pathlib import Path

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from tests.bench import bench_lines
from tests.bench.common import Row, ratios
from tests.lines.table import CAPTURE_MS, entries, lines_of

WINDOW = 600  # lines
MILLISECONDS = re.compile(rb"(35[.,]|1795492535)(?:080|149)(?=\D)")
DEMO = Path(__file__).resolve().parents[2] / "demo" / "lines"


def measure(quick: bool) -> list[Row]:
    rounds, windows = (3, 4) if quick else (7, 20)
    data = list(bench_lines.windows(bench_lines.restamped(bench_lines.sample_lines([DEMO]))))[: windows * 2]
    count = sum(window.count(b"\n") + 1 for window in data)
    shown = {entry["format"]: lines_of(entry) for entry in entries() if entry.get("in_table", True)}
    batches = {title: [batch(some, number * WINDOW) for number in range(windows)] for title, some in shown.items()}
    loop: list[float] = []
    spent: dict[str, list[float]] = {title: [] for title in shown}
    gc.freeze()
    gc.disable()
    try:
        for _ in range(rounds):
            loop.append(bench_lines.reference(data)[0] / count)
            for title, some in batches.items():
                spent[title].append(decode(some))
    finally:
        gc.enable()
        gc.unfreeze()
    return [
        Row(f"decoding a line: {title}", ratios([min(values)], [min(loop)]), "x the reference loop's line")
        for title, values in spent.items()
    ]


def batch(some: list[bytes], first: int) -> Batch:
    lines = []
    for number in range(first, first + WINDOW):
        lines += [MILLISECONDS.sub(rb"\g<1>%03d" % (number % 1000), line) for line in some]
    return Batch(1, lines, first + 1, [(0, CAPTURE_MS * 1_000_000)], {})


def decode(batches: list[Batch]) -> float:
    """Seconds a line, dropping the events included."""
    decoder = Decoder()
    began = time.process_time()
    for some in batches:
        decoder.decode(some)
    return (time.process_time() - began) / sum(len(some.lines) for some in batches)
