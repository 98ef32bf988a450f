"""Where the journal lives and how large it may become."""

from __future__ import annotations

import errno
import os
import stat

from shipper import messages
from shipper.config.container import Container

MIB = 1 << 20
DEFAULT_MAX_BYTES = 128 * MIB
MIN_MAX_BYTES = MIB
MIN_SEGMENT_BYTES = 64 << 10
MAX_SEGMENT_BYTES = 8 * MIB
TMPFS_SHARE = 0.05  # of the container's memory limit: a tmpfs is charged to it
MOST_TMPFS_SHARE = 0.5  # the same, where a bound was asked for


def prepare(path: str) -> None:
    """Make ``path`` a directory of ours alone, or raise OSError.

    A directory that is there and another user's (a Kubernetes volume's root belongs to root) is taken as it is unless
    it is in a place where anybody may make one: there it could be a trap. So could a link that is neither root's nor
    ours, anywhere.
    """
    created = False
    try:
        os.makedirs(path, 0o700)
        created = True
    except FileExistsError:
        pass
    info = os.lstat(path)
    shared = _in_shared_place(path)
    link = stat.S_ISLNK(info.st_mode)
    if (shared and (link or info.st_uid != os.geteuid())) or (link and info.st_uid not in (0, os.geteuid())):
        raise PermissionError(errno.EPERM, "it is a link or another user's directory", path)
    info = os.stat(path)
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if (created or shared) and info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) & 0o077:
        os.chmod(path, 0o700)


def _in_shared_place(path: str) -> bool:
    """Whether the parent is a directory like /tmp: sticky, anybody may create in it."""
    parent = os.stat(os.path.dirname(os.path.abspath(path)))
    return bool(parent.st_mode & stat.S_ISVTX and parent.st_mode & stat.S_IWOTH)


def default_max_bytes(path: str, used_bytes: int) -> int:
    """128 MiB, at most half of what is free, on a tmpfs at most 5 % of the memory limit; never under 1 MiB.

    ``used_bytes``: what the journal holds already, which counts as free. A Kubernetes emptyDir over its limit evicts
    the pod at once, hence the modest bound.
    """
    disk = os.statvfs(path)
    bound = min(DEFAULT_MAX_BYTES, (disk.f_bavail * disk.f_frsize + used_bytes) // 2)
    limit = memory_limit_of(path)
    if limit is not None:
        bound = min(bound, int(limit * TMPFS_SHARE))
    return max(bound, MIN_MAX_BYTES)


def chosen_max_bytes(path: str, wanted_bytes: int) -> int:
    """The bound that was asked for; on a tmpfs at most half of the memory limit, which is said."""
    limit = memory_limit_of(path)
    if limit is None or wanted_bytes <= limit * MOST_TMPFS_SHARE:
        return wanted_bytes
    bound = max(int(limit * MOST_TMPFS_SHARE), MIN_MAX_BYTES)
    messages.say(
        f"SHIPPER_JOURNAL_MAX is {wanted_bytes // MIB} MiB, but {path} is memory (a tmpfs), and the container's memory "
        f"limit is {limit // MIB} MiB: {bound // MIB} MiB are used, half of it; set SHIPPER_DIR to a volume for more."
    )
    return bound


def memory_limit_of(path: str) -> int | None:
    """The container's memory limit, where what is written to ``path`` counts against it."""
    return Container().memory_limit_bytes() if file_system(path) in ("tmpfs", "ramfs") else None


def segment_bytes(max_bytes: int) -> int:
    """A segment's size: the bound is kept by dropping whole segments, so one is at most a 16th of it."""
    return max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, max_bytes // 16))


def file_system(path: str) -> str:
    """The type of the file system that ``path`` is on, by /proc/self/mountinfo; "" when it can't be told."""
    path = os.path.realpath(path)
    best, kind = -1, ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                mount = left.split(" ")[4].replace("\\040", " ")
                if len(mount) >= best and (path + "/").startswith(mount.rstrip("/") + "/"):
                    best, kind = len(mount), right.split(" ")[0]
    except (OSError, IndexError):
        return ""
    return kind
