"""Where the worker's process begins: nothing of the agent's in hand, stepped back and under its limit from the first
import on. An installation that cannot even be imported is a sentence, not a traceback."""

from __future__ import annotations

import os
import sys

from shipper.delivery import priority, throttle
from shipper.messages import flush, say


def main() -> int:
    """The worker's exit status; 1 when it could not be loaded."""
    control_fd, lock_fd = (int(sys.argv[sys.argv.index(name) + 1]) for name in ("--control-fd", "--lock-fd"))
    _close_others(control_fd, lock_fd)
    priority.step_back()
    throttle.begin(control_fd, os.environ)
    try:
        return _run()
    finally:
        throttle.lift()  # its signal is not to meet an interpreter that is ending


def _run() -> int:
    try:
        from shipper.delivery.worker import main as run
    except Exception as error:  # noqa: BLE001 (whatever it is, the supervisor goes on and tries again)
        if sys.argv[sys.argv.index("--restarts") + 1] == "0":
            say(
                f"the part that forwards lines cannot be loaded ({type(error).__name__}: {error}): "
                "lines are kept in the journal and nothing is forwarded; install agent-shipper with its dependencies"
            )
            flush(0.2)
        return 1
    return run()


def _close_others(*kept: int) -> None:
    """What the wrapper was started with is the agent's; an open copy here would keep pipes from ending."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue  # the listing's own
