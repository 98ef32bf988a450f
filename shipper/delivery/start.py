"""Where the worker's process begins: an installation that cannot even be imported is a sentence, not a traceback."""

from __future__ import annotations

import sys

from shipper.messages import flush, say


def main() -> int:
    """The worker's exit status; 1 when it could not be loaded."""
    try:
        from shipper.delivery.worker import main as run
    except Exception as error:  # noqa: BLE001 (whatever it is, the supervisor goes on and tries again)
        if sys.argv[-2:] == ["--restarts", "0"]:
            say(
                f"the part that forwards lines cannot be loaded ({type(error).__name__}: {error}): "
                "lines are kept in the journal and nothing is forwarded; install agent-shipper with its dependencies"
            )
            flush(0.2)
        return 1
    return run()
