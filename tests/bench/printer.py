"""The bench's agents; each waits for a line on stdin, prints, and stays until stdin ends. Standard library only.

flood FILE block|line   FILE's lines, each after its stream's number: in blocks of 64 KiB, or a write a line, as loggers
                        do. Prepared before the wait, so that nothing but writing is done afterwards
pace RATE COUNT         COUNT lines of some 170 bytes, RATE a second; `printed` in each is the monotonic clock's ns
"""

from __future__ import annotations

import os
import sys
import time

BLOCK_BYTES = 64 * 1024


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def flood(path: str, how: str) -> list[tuple[int, bytes]]:
    """The writes to make."""
    writes: list[tuple[int, bytes]] = []
    waiting = {1: bytearray(), 2: bytearray()}
    with open(path, "rb") as file:
        for numbered in file:
            fd = numbered[0] - ord("0")
            waiting[fd] += numbered[1:]
            if how == "line" or len(waiting[fd]) >= BLOCK_BYTES:
                writes.append((fd, bytes(waiting[fd])))
                waiting[fd].clear()
    return writes + [(fd, bytes(rest)) for fd, rest in waiting.items() if rest]


def pace(rate: float, count: int) -> None:
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        line = (
            b'{"message": "received job request", "level": "INFO", "name": "livekit.agents", "number": %d, '
            b'"job_id": "AJ_%024d", "room": "bench", "printed": %d}\n'
        )
        write(1, line % (number, number, time.monotonic_ns()))


def main() -> None:
    what, *arguments = sys.argv[1:]
    writes = flood(*arguments) if what == "flood" else []
    os.read(0, 1)
    for fd, data in writes:
        write(fd, data)
    if what == "pace":
        pace(float(arguments[0]), int(arguments[1]))
    while os.read(0, 4096):
        pass
    os._exit(0)


main()
