"""Logs a line of JSON a second, and ends as it should when it is told to."""

import json
import signal
import threading
import time

told = threading.Event()


def log(level: str, message: str, **more: object) -> None:
    print(json.dumps({"level": level, "message": message, "time": time.time(), **more}), flush=True)


signal.signal(signal.SIGTERM, lambda *_: told.set())
turn = 0
while not told.is_set():
    turn += 1
    log("info", f"turn {turn}", latency_ms=100 + turn)
    told.wait(1)
log("info", "told to end")
