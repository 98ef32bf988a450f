"""Writes COUNT lines of SIZE bytes to stdout, each with one write, then the longest time that one took, to stderr."""

from __future__ import annotations

import os
import sys
import time

count, size = int(sys.argv[1]), int(sys.argv[2])
longest = 0.0
for number in range(count):
    line = b"%d " % number
    line += b"x" * (size - len(line) - 1) + b"\n"
    begun = time.monotonic()
    while line:
        line = line[os.write(1, line) :]
    longest = max(longest, time.monotonic() - begun)
os.write(2, b"%f\n" % longest)
