"""Logs a line of JSON a second, and ends as it should when it is told to."""

import json
import signal
import sys
import time


def log(level: str, message: str, **more: object) -> None:
    print(json.dumps({"level": level, "message": message, "time": time.time(), **more}), flush=True)


def end(*_: object) -> None:
    log("info", "told to end")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
turn = 0
while True:
    turn += 1
    log("info", "turn", turn=turn)
    time.sleep(1)
