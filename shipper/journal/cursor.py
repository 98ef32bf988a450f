"""A sink's cursor in a run: what the provider has accepted.

The file holds two slots of 4,096 bytes, written in turn, each ``generation (8), length (4), CRC-32 (4), JSON``; the
newer whole one counts. Written in place: a commit costs one `pwrite`, needs no room on a full disk, and a kill in the
middle of it leaves the other slot.
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

CURSOR_PREFIX = "cursor-"
SLOT_BYTES = 4096
HEAD = Struct("<QII")


class CursorFile:
    """Open for one writer; `read` is for anybody.

    The values are a JSON object: ``streams`` {"1": [segment, offset, seq], …}: a frame at or before the first line that
    was not yet accepted, and that line's number; ``complete``: the run is dead and all of it accepted; the counters.
    """

    def __init__(self, run: str, sink: str) -> None:
        """Opens or creates it. Raises OSError."""
        self.path = os.path.join(run, CURSOR_PREFIX + sink)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._generation, self.values = _newest(os.pread(self._fd, 2 * SLOT_BYTES, 0))

    def commit(self, values: dict[str, Any]) -> None:
        """Raises OSError; ValueError when the values do not fit a slot."""
        data = dump_json(values)
        if HEAD.size + len(data) > SLOT_BYTES:
            raise ValueError("a cursor's values do not fit its slot")
        self._generation += 1
        slot = HEAD.pack(self._generation, len(data), crc32(data, self._generation & 0xFFFFFFFF)) + data
        # a slot is written whole, so that its blocks are there for good and a later commit needs none
        if os.pwrite(self._fd, slot.ljust(SLOT_BYTES, b"\0"), (self._generation % 2) * SLOT_BYTES) != SLOT_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self.values = values

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def read(run: str, sink: str) -> dict[str, Any] | None:
        """The values last committed; None when there are none or it cannot be read."""
        try:
            fd = os.open(os.path.join(run, CURSOR_PREFIX + sink), os.O_RDONLY)
        except OSError:
            return None
        try:
            return _newest(os.pread(fd, 2 * SLOT_BYTES, 0))[1]
        except OSError:
            return None
        finally:
            os.close(fd)


def _newest(content: bytes) -> tuple[int, dict[str, Any] | None]:
    best: tuple[int, dict[str, Any] | None] = (0, None)
    for start in (0, SLOT_BYTES):
        if start + HEAD.size > len(content):
            continue
        generation, length, crc = HEAD.unpack_from(content, start)
        data = content[start + HEAD.size : start + HEAD.size + length]
        if generation <= best[0] or length > SLOT_BYTES - HEAD.size or crc32(data, generation & 0xFFFFFFFF) != crc:
            continue
        try:
            best = (generation, load_json(data))
        except ValueError:
            continue
    return best
