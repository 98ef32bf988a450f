"""An agent that prints by a seed, and keeps a record of what it printed, beside its journal's disk.

``agent.py RECORD SEED RATE MAX_LINE``: about RATE lines a second on both streams, in bursts and pauses; JSON, plain
text, empty lines, some that are too long. At TERM it prints for half a second more and ends with 0. RECORD holds, as
JSON: the numbers that its lines have on either stream (a line of more than MAX_LINE bytes has one a piece), and the
longest time that one write took, in seconds; what it was stopped for does not count.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

WORDS = b"the caller asks for a table at eight and the agent looks for one in the book of the house".split()


def main() -> None:
    record, seed, rate, max_line = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    numbers = {1: 0, 2: 0}
    printed = {1: 0, 2: 0}
    state = {"longest": 0.0, "continued": False, "until": float("inf")}
    signal.signal(signal.SIGCONT, lambda *_: state.update(continued=True))
    signal.signal(signal.SIGTERM, lambda *_: state.update(until=min(state["until"], time.monotonic() + 0.5)))

    def put(stream: int, lines: list[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        while data:
            state["continued"] = False
            begun = time.monotonic()
            written = os.write(stream, data[: 1 << 16])
            took = time.monotonic() - begun
            if not state["continued"]:
                state["longest"] = max(state["longest"], took)
            data = data[written:]
        printed[stream] += len(lines)
        numbers[stream] += sum(max(1, -(-len(line) // max_line)) for line in lines)

    def note(ended: bool) -> None:
        with open(record + ".new", "w") as file:
            values = {"stdout": numbers[1], "stderr": numbers[2], "stdout_lines": printed[1], "ended": ended}
            json.dump({**values, "longest": state["longest"]}, file)
        os.rename(record + ".new", record)

    def line(stream: int) -> bytes:
        number = numbers[stream] + 1
        kind = rng.random()
        text = b" ".join(rng.choices(WORDS, k=rng.randint(2, 40)))
        if kind < 0.4:
            return b'{"message": "%d %b", "level": "INFO", "name": "chaos", "job_id": "AJ_%d"}' % (number, text, seed)
        if kind < 0.45:
            return b""
        if kind < 0.4505:
            return text * (max_line // len(text) + rng.randint(1, 2000))
        if kind < 0.455:
            return bytes(rng.randrange(11, 256) for _ in range(100)).replace(b"\n", b" ")
        return b"%d %b" % (number, text)

    noted = 0.0
    begun = time.monotonic()
    due = begun
    while (now := time.monotonic()) < state["until"]:
        stream = 1 if rng.random() < 0.7 else 2
        burst = 2000 if rng.random() < 0.002 else rng.randint(1, 8)
        put(stream, [line(stream) for _ in range(burst)])
        due = max(due + burst / rate, now - 1.0)
        if now - noted > 0.1:
            noted = now
            note(False)
        time.sleep(max(0.0, min(due - time.monotonic(), 0.5)))
    for stream in (1, 2):
        put(stream, [b"the last words"])
    note(True)


main()
