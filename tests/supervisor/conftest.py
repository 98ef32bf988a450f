"""Whatever a test has started is gone after it."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from shipper.supervisor.processes import descendants, table
from tests.supervisor import wrapping

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    while wrapping.started:
        process = wrapping.started.pop()
        if process.poll() is None:
            below = descendants(table(), process.pid)
            process.kill()
            process.wait()
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
