"""A worker that notes in FILE its restarts and what the control pipe says; ends with 0 on d, or with STATUS at once."""

from __future__ import annotations

import os
import sys

control_fd, restarts, path, status = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]


def note(text: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(text + "\n")


note(f"start {restarts} {os.getpid()} {os.getsid(0)}")
if "--shrunk" in status:
    note(f"shrunk {status[-1]}")
if status:
    sys.exit(int(status[0]))
while heard := os.read(control_fd, 1):
    note(heard.decode())
    if heard == b"d":
        sys.exit(0)
    if heard == b"q":
        sys.exit(1)
note("eof")
