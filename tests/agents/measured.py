"""Prints numbered lines on both streams as it is told on stdin, and notes its longest write.

`COUNT WIDTH PAUSE` on a line of stdin: so many lines more on each stream, of so many characters, so many seconds apart.
At the end of stdin the longest write, in seconds, goes to the file named by the argument, and it ends with 7.
"""

from __future__ import annotations

import os
import sys
import time


def write(fd: int, line: bytes) -> float:
    began = time.monotonic()
    while line:
        line = line[os.write(fd, line) :]
    return time.monotonic() - began


def main() -> int:
    number = 0
    longest = 0.0
    for order in sys.stdin:
        count, width, pause = order.split()
        for _ in range(int(count)):
            number += 1
            line = b"%d %s %d\n" % (number, b"." * int(width), number)
            longest = max(longest, write(1, line), write(2, line))
            time.sleep(float(pause))
    with open(sys.argv[1], "w") as file:
        file.write(str(longest))
    return 7


if __name__ == "__main__":
    sys.exit(main())
