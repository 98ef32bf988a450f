"""The pipe from the supervisor: single bytes, and its end."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

APPENDED = ord("w")
TERMINATING = ord("t")
DRAIN = ord("d")
QUIT = ord("q")


def listen(fd: int, heard: Callable[[int], None], ended: Callable[[], None]) -> None:
    """Call ``heard`` with each kind of byte that arrived, once a wake-up, and ``ended`` when the supervisor is gone."""
    os.set_blocking(fd, False)
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return
        for kind in dict.fromkeys(data):
            heard(kind)
        if not data:
            loop.remove_reader(fd)
            ended()

    loop.add_reader(fd, readable)
