"""A flood through the wrapper with its journal on, against `cat FILE | tee JOURNAL` of the same bytes.

Wall time from the first process's start to the last one's end, the reader's (`cat` into /dev/null, at the other end of
a pipe) included. No sink. The journal may grow to hold all of it, as tee's file does, on the same file system.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.bench.common import MB, TIMES, BenchError, Row, Wrapper, in_turn, place, progress, ratios, write_flood

TARGET = 1.2


def measure(quick: bool) -> list[Row]:
    size = (64 if quick else 256) * MB
    with place() as directory:
        flood = Path(directory, "flood")
        copy = Path(directory, "copy")
        write_flood(flood, size)
        check(flood)
        values = in_turn(
            3 if quick else 15,
            shipper=lambda: through_shipper(flood),
            tee=lambda: through_tee(flood, copy),
        )
    against = ratios(values["shipper"], values["tee"])
    return [
        Row(f"passthrough of {size // MB} MB, wall time against `cat` into `tee FILE`", against, TIMES, TARGET),
        Row("passthrough, wall time of `cat` into `tee FILE`", values["tee"], "s"),
    ]


def settings(flood: Path) -> dict[str, str]:
    return {"SHIPPER_JOURNAL_MAX": str(2 * flood.stat().st_size)}


def check(flood: Path) -> None:
    """The same bytes come out, and all of them are in the journal; also warms the file's pages."""
    wanted = subprocess.run(["cksum"], stdin=flood.open("rb"), capture_output=True, check=True).stdout
    with Wrapper(
        ["cat", str(flood)], settings=settings(flood), reader=["cksum"], reader_out=subprocess.PIPE
    ) as wrapper:
        wrapper.end_input()
        if wrapper.wait() != 0 or wrapper.reader_output() != wanted:
            raise BenchError("the wrapper did not pass on the agent's bytes")
        kept = sum(file.stat().st_size for file in wrapper.journal.rglob("*") if file.is_file())
        if kept < flood.stat().st_size:
            raise BenchError("the journal does not hold all that was printed")


def through_shipper(flood: Path) -> float:
    with Wrapper(["cat", str(flood)], settings=settings(flood)) as wrapper:
        wrapper.end_input()
        if wrapper.wait() != 0:
            raise BenchError("the wrapper failed")
        seconds = time.monotonic() - wrapper.started
    progress(f"passthrough: shipper {seconds:.3f} s")
    return seconds


def through_tee(flood: Path, copy: Path) -> float:
    started = time.monotonic()
    with (
        subprocess.Popen(["cat", str(flood)], stdout=subprocess.PIPE) as source,
        subprocess.Popen(["tee", str(copy)], stdin=source.stdout, stdout=subprocess.PIPE) as tee,
        subprocess.Popen(["cat"], stdin=tee.stdout, stdout=subprocess.DEVNULL) as reader,
    ):
        for process, following in ((source, tee), (tee, reader)):
            assert process.stdout is not None
            assert following.pid
            process.stdout.close()
        if source.wait() or tee.wait() or reader.wait():
            raise BenchError("cat or tee failed")
        seconds = time.monotonic() - started
    os.unlink(copy)
    progress(f"passthrough: tee {seconds:.3f} s")
    return seconds
