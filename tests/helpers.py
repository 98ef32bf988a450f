"""What tests of several rooms share."""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


def wait_until(predicate: Callable[[], object], timeout: float = 10.0, what: str = "the condition") -> None:
    """Returns as soon as ``predicate()`` is true; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.01)


def variables(url: str, names: Collection[str] | None = None) -> dict[str, str]:
    """What turns these sinks on, all of them when none is named, and sends them to the sandbox's intakes at ``url``."""
    from shipper.sandbox.server import INTAKES

    intakes = [intake() for intake in INTAKES if names is None or intake.name in names]
    return {name: value for intake in intakes for name, value in intake.settings(url).items()}


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Whatever opens a file in here gets EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
