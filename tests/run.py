"""The whole suite in two processes, for `make check`: what starts real agents, and, at the lowest priority beside it,
everything else.

    python -m tests.run [OPTION of pytest …]

The first one mostly waits, for clocks, signals and containers, and compares an agent's times with the same agent's
bare: so the second one, all computation, gets only what it leaves (nice 19), and its report comes at the end. The exit
status is the first one that is neither 0 nor "no tests" (5), which narrowing options may leave one of them with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

OUTSIDE = ("chaos", "containers", "disk", "e2e", "supervisor", "test_demo.py", "test_entrypoint.py", "test_runtimes.py")
NO_TESTS = 5


def main(options: list[str]) -> int:
    pytest = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *options]
    outside = [f"tests/{name}" for name in OUTSIDE]
    with tempfile.TemporaryFile() as report:
        rest = subprocess.Popen(
            ["nice", "-n", "19", *pytest, *(f"--ignore={path}" for path in outside), "tests"],
            stdin=subprocess.DEVNULL,
            stdout=report,
            stderr=report,
        )
        try:
            statuses = [subprocess.run([*pytest, *outside], check=False).returncode, rest.wait()]
        finally:
            rest.kill()
        report.seek(0)
        sys.stdout.flush()
        for block in iter(lambda: report.read(1 << 16), b""):
            os.write(1, block)
    return next((status for status in statuses if status not in (0, NO_TESTS)), 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
