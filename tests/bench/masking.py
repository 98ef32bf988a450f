"""What masking adds to a line, with a few secrets and with many, against the reference loop over the same lines.

Windows, reference and the best of some rounds are those of bench_lines; nothing in the lines is to be masked, as in
nearly all of an agent's.
"""

from __future__ import annotations

import gc
import hashlib
import time
from base64 import b64encode
from pathlib import Path

from shipper.lines.masking import HIDDEN, Masker
from tests.bench.bench_lines import LINES, ROUNDS, reference, restamped, sample_lines, windows
from tests.bench.common import TIMES, BenchError, Row, in_turn, ratios

TARGET = 0.35
FEW, MANY = 4, 64


def measure(quick: bool) -> list[Row]:
    data = list(windows(restamped(sample_lines([Path(__file__).parents[2] / "demo" / "lines"]))))
    few, many = (Masker(map(secret, range(count))) for count in (FEW, MANY))
    for masker in (few, many):
        if masker.mask([b"it is " + secret(FEW - 1).encode()]) != [b"it is " + HIDDEN]:
            raise BenchError("nothing is masked")
    gc.freeze()
    gc.disable()
    try:
        values = in_turn(
            2 if quick else 7,
            reference=lambda: min(reference(data)[0] for _ in range(ROUNDS)) / LINES * 1e6,
            few=lambda: min(masking(few, data) for _ in range(ROUNDS)),
            many=lambda: min(masking(many, data) for _ in range(ROUNDS)),
        )
    finally:
        gc.enable()
        gc.unfreeze()
    return [
        Row(f"masking with {FEW} secrets, against the reference loop", ratios(values["few"], values["reference"]),
            TIMES, TARGET),
        Row(f"masking with {MANY} secrets", ratios(values["many"], values["reference"]), TIMES, TARGET),
        Row(f"masking with {FEW} secrets, a line", values["few"], "µs", None, 3),
        Row(f"masking with {MANY} secrets, a line", values["many"], "µs", None, 3),
    ]  # fmt: skip


def secret(number: int) -> str:
    """As random as a key, and the same each time."""
    return b64encode(hashlib.sha256(b"%d" % number).digest()).decode()


def masking(masker: Masker, data: list[bytes]) -> float:
    """us a line. The lines of a window have just been cut, as they have in the worker."""
    took = 0.0
    for window in data:
        lines = window.split(b"\n")
        began = time.perf_counter()
        masker.mask(lines)
        took += time.perf_counter() - began
    return took / LINES * 1e6
