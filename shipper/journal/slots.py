"""A small file whose values change all the time: two slots, written in turn and in place.

Each slot is ``generation (8), length (4), CRC-32 (4), JSON``; the newer whole one counts. A commit costs one `pwrite`,
needs no room on a full disk, and a kill in the middle of it leaves the other slot.
"""

from __future__ import annotations

import errno
import os
from struct import Struct
from zlib import crc32

from shipper.journal.facts import dump_json, load_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD = Struct("<QII")


class SlotFile:
    """Open for one writer; `read_slots` is for anybody. ``values``: a JSON object, None while there is none."""

    def __init__(self, path: str, slot_bytes: int, *, create: bool = True) -> None:
        """Opens it, or creates it. Raises OSError."""
        self.path = path
        self._slot_bytes = slot_bytes
        self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
        self._generation = 0
        self.values: dict[str, Any] | None = None
        self.reread()

    def reread(self) -> None:
        """Takes what is there now. Raises OSError."""
        self._generation, self.values = _newest(os.pread(self._fd, 2 * self._slot_bytes, 0), self._slot_bytes)

    def commit(self, values: dict[str, Any]) -> None:
        """Raises OSError; ValueError when the values do not fit a slot."""
        data = dump_json(values)
        if HEAD.size + len(data) > self._slot_bytes:
            raise ValueError("the values do not fit their slot")
        self._generation += 1
        slot = HEAD.pack(self._generation, len(data), crc32(data, self._generation & 0xFFFFFFFF)) + data
        # a slot is written whole, so that its blocks are there for good and a later commit needs none
        at = (self._generation % 2) * self._slot_bytes
        if not os.fstat(self._fd).st_nlink:
            self._make_again()
        if os.pwrite(self._fd, slot.ljust(self._slot_bytes, b"\0"), at) != self._slot_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self.values = values

    def _make_again(self) -> None:
        """Somebody removed the run's directory, and its writer makes it again: the values are to be in the new one.

        Until that is there they go where nobody reads them. Raises OSError.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return
        os.close(self._fd)
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_slots(path: str, slot_bytes: int) -> dict[str, Any] | None:
    """The values last committed; None when there are none or it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # whatever stands in its place
    except OSError:
        return None
    try:
        return _newest(os.pread(fd, 2 * slot_bytes, 0), slot_bytes)[1]
    except OSError:
        return None
    finally:
        os.close(fd)


def _newest(content: bytes, slot_bytes: int) -> tuple[int, dict[str, Any] | None]:
    best: tuple[int, dict[str, Any] | None] = (0, None)
    for start in (0, slot_bytes):
        if start + HEAD.size > len(content):
            continue
        generation, length, crc = HEAD.unpack_from(content, start)
        data = content[start + HEAD.size : start + HEAD.size + length]
        if generation <= best[0] or length > slot_bytes - HEAD.size or crc32(data, generation & 0xFFFFFFFF) != crc:
            continue
        try:
            best = (generation, load_json(data))
        except ValueError:
            continue
    return best
