"""Small text files that others wrote, read so that none of them can hold up the start."""

from __future__ import annotations

import os
import stat

MAX_BYTES = 1 << 20
"""A key or a project file is a few hundred bytes; more than this is some other file."""


def read_text(path: str) -> str:
    """The file's text; OSError or ValueError with the reason where there is none, FileNotFoundError included."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or a terminal would wait for its writer
            raise ValueError("it is no regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("it is larger than 1 MiB")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def reason(error: Exception) -> str:
    """What went wrong, without the path, which the message names anyway."""
    return error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error)
