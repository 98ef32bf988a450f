"""Children and descendants, and who holds a pipe: read from /proc. Where it cannot be read, nobody is found."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class Process:
    """``group`` is the process group; ``state`` is proc(5)'s letter, e.g. T for stopped."""

    __slots__ = ("group", "parent", "pid", "state")

    def __init__(self, pid: int, state: str, parent: int, group: int) -> None:
        self.pid = pid
        self.state = state
        self.parent = parent
        self.group = group


def parse_stat(data: bytes) -> Process | None:
    """/proc/PID/stat: ``PID (NAME) STATE PPID PGRP …``, where NAME may hold anything. None for what is no such line."""
    pid, _, _ = data.partition(b" ")
    fields = data[data.rfind(b")") + 1 :].split(None, 3)
    try:
        return Process(int(pid), fields[0].decode(), int(fields[1]), int(fields[2]))
    except (IndexError, ValueError):
        return None


def look(pid: int) -> Process | None:
    """The process, None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        return parse_stat(os.read(fd, 4096))
    except OSError:
        return None
    finally:
        os.close(fd)


def cpu_seconds(pid: int) -> float | None:
    """CPU time that the process has used, all its threads together; None when it cannot be told."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        data = os.read(fd, 4096)
        user, system = data[data.rfind(b")") + 1 :].split(None, 13)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def waits_for_fuse(pid: int) -> bool:
    """Whether its main thread waits for an answer of a file system in user space, which counts as sleep (state S).

    So do the bind mounts of Docker Desktop, gcsfuse and s3fs. By the function of the kernel in which it waits:
    `request_wait_answer` of fs/fuse/dev.c (Linux 2.6.14 to 6.18), or the one that it is inlined into.
    """
    try:
        fd = os.open(f"/proc/{pid}/wchan", os.O_RDONLY)
    except OSError:
        return False
    try:
        where = os.read(fd, 256)
    except OSError:
        return False
    finally:
        os.close(fd)
    return where == b"request_wait_answer" or b"fuse" in where


def table() -> dict[int, Process]:
    """Every living process that we see; the dead that wait to be reaped are left out."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    found = [look(int(name)) for name in names if name.isdecimal()]
    return {process.pid: process for process in found if process is not None and process.state not in "ZX"}


def children(processes: Mapping[int, Process], of: int) -> list[Process]:
    """The direct children."""
    return [process for process in processes.values() if process.parent == of]


def descendants(processes: Mapping[int, Process], of: int, without: Collection[int] = ()) -> list[int]:
    """All below ``of``, at any depth; those in ``without`` and what is below them are left out."""
    below: dict[int, list[int]] = {}
    for process in processes.values():
        below.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    layer = [of]
    while layer:
        layer = [pid for parent in layer for pid in below.get(parent, ()) if pid not in without]
        found += layer
    return found


def holders(pids: Iterable[int], pipes: Collection[str]) -> list[int]:
    """Those of ``pids`` with one of ``pipes`` open, named as /proc/PID/fd names them: ``pipe:[INODE]``."""
    return [pid for pid in pids if _holds(pid, pipes)]


def _holds(pid: int, pipes: Collection[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:  # it is gone, or belongs to another user and we may not look
        return False
    for name in names:
        try:
            if os.readlink(f"{directory}/{name}") in pipes:
                return True
        except OSError:
            pass
    return False
