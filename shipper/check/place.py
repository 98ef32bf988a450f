"""The journal's directory, looked at as the wrapper would find it, and nothing made in it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from shipper.journal import directory, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.journal.facts import Facts

_PROBE = b"\0" * 4096
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)  # open(2), O_TMPFILE


class Place:
    """The first directory that can be used, or with ``usable`` False the last one tried.

    ``full``: it cannot be used because there is no room, else because of what it is or whose.
    ``exists``: it is there, else the wrapper will make it. ``problem``: why not, or why not for long; in words.
    ``others``: those before it, each with what is wrong with it. Bytes; ``live``: runs that go on in it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.usable = self.full = False
        self.exists = False
        self.problem = ""
        self.others: list[tuple[str, str]] = []
        self.owner = self.mode = 0
        self.file_system = ""
        self.free_bytes = self.used_bytes = self.max_bytes = 0
        self.runs = self.live = 0
        self.facts: Facts | None = None


def find(paths: Sequence[str], max_bytes: int | None) -> Place:
    """``max_bytes``: SHIPPER_JOURNAL_MAX, None when it is not set."""
    others: list[tuple[str, str]] = []
    place = Place("")
    for path in paths:
        place = Place(path)
        try:
            _look(place, max_bytes)
            place.usable = True
            break
        except OSError as error:
            place.full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            place.problem = (error.strerror or type(error).__name__).lower()
            others.append((path, place.problem))
    place.others = others if place.usable else others[:-1]
    return place


def _look(place: Place, max_bytes: int | None) -> None:
    """Raises OSError when the wrapper could not use it."""
    place.exists = os.path.lexists(place.path)
    if place.exists:
        directory.prepare(place.path)  # makes nothing that is there, and raises what it would raise for the wrapper
        there = place.path
    else:
        there = _nearest(place.path)
    _try_to_write(there)
    info = os.stat(there)
    place.owner, place.mode = info.st_uid, stat.S_IMODE(info.st_mode)
    place.file_system = directory.file_system(there)
    disk = os.statvfs(there)
    place.free_bytes = disk.f_bavail * disk.f_frsize
    if place.exists:
        place.used_bytes = runs.used_bytes(place.path)
        paths = runs.list_runs(place.path)
        place.runs = len(paths)
        live = [path for path in paths if runs.is_live(path)]
        place.live = len(live)
        if live:
            place.facts = runs.read_facts(live[-1])
    place.max_bytes = max_bytes or directory.default_max_bytes(there, place.used_bytes)
    if place.free_bytes + place.used_bytes < place.max_bytes:
        place.problem = "the file system has less room than the bound, so lines are lost once it is full"


def _nearest(path: str) -> str:
    """The directory in which it would be made."""
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent) and parent != "/":
        parent = os.path.dirname(parent)
    return parent


def _try_to_write(path: str) -> None:
    """A file without a name, which is gone when it is closed; where there is none of these the permissions count."""
    if not os.path.isdir(path):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        code = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code), path)
    try:
        fd = os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_NAMELESS_FILES:
            return
        raise
    try:
        os.write(fd, _PROBE)
    finally:
        os.close(fd)
