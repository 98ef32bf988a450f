"""What the container allows and uses: CPU quota, memory limit and use, by cgroup v2 or v1. Standard library only.

=========  =====================================  =========================================================
what       cgroup v2                              cgroup v1
=========  =====================================  =========================================================
CPU quota  ``cpu.max``: quota and period, in µs   ``cpu.cfs_quota_us`` (-1: none), ``cpu.cfs_period_us``
limit      ``memory.max`` ("max": none)           ``memory.limit_in_bytes`` (2^63 less a page: none)
use        ``memory.current``                     ``memory.usage_in_bytes``
           less ``inactive_file`` of memory.stat  less ``total_inactive_file`` of memory.stat
held       ``anon``, ``shmem``, ``kernel`` (5.18)  ``total_rss``, ``total_shmem`` of memory.stat,
           less ``slab_reclaimable``              ``memory.kmem.usage_in_bytes``
peak       ``memory.peak`` (Linux 5.19)           ``memory.max_usage_in_bytes``
kills      ``oom_kill`` of memory.events          ``oom_kill`` of memory.oom_control (Linux 4.13)
=========  =====================================  =========================================================

(docs.kernel.org: admin-guide/cgroup-v2, admin-guide/cgroup-v1/memory, scheduler/sched-bwc; read 2026-11.)

In a container its own cgroup is usually the root of what is mounted at /sys/fs/cgroup; elsewhere /proc/self/cgroup
names it. A limit of a cgroup above counts too: the least one acts.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NO_LIMIT = 1 << 60  # bytes; what v1 says where there is none is above it

MOST_KERNEL_BYTES = 8 << 20  # v1 does not say how much of it are names of files, which can be taken back

MARGIN_SHARE = 16  # of the memory limit one such part, at most MAX_MARGIN_BYTES, is left to the agent for growing
MAX_MARGIN_BYTES = 16 << 20


def margin_bytes(limit: int) -> int:
    """What is to stay free under a memory limit, so that the agent meets it no sooner than without us."""
    return min(limit // MARGIN_SHARE, MAX_MARGIN_BYTES)


class Container:
    """Reads the files anew at each question. Everything is None where it cannot be told or there is no such limit."""

    __slots__ = ("_membership", "_mount", "_paths")

    def __init__(self, mount: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> None:
        """``mount``: where cgroups are mounted; ``membership``: the file that names this process's own."""
        self._mount = mount
        self._membership = membership
        self._paths: dict[str, str] | None = None

    def cpu_quota(self) -> float | None:
        """CPUs that the container may use: 0.5 is half of one."""
        quotas = []
        for place in self._places("cpu"):
            words = _read(f"{place}/cpu.max").split()
            if not words:
                words = [_read(f"{place}/cpu.cfs_quota_us").strip(), _read(f"{place}/cpu.cfs_period_us").strip()]
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
                quotas.append(int(words[0]) / int(words[1]))
        return min(quotas, default=None)

    def memory_limit_bytes(self) -> int | None:
        limits = []
        for place in self._places("memory"):
            limit = _number(f"{place}/memory.max", f"{place}/memory.limit_in_bytes")
            if limit is not None and limit < NO_LIMIT:
                limits.append(limit)
        return min(limits, default=None)

    def memory_use_bytes(self) -> int | None:
        """Without the page cache that the kernel would give back first: what `docker stats` shows."""
        for place in self._places("memory"):
            used = _number(f"{place}/memory.current", f"{place}/memory.usage_in_bytes")
            if used is None:
                continue
            stat = _fields(f"{place}/memory.stat")
            return max(0, used - stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return None

    def memory_held_bytes(self) -> int | None:
        """What the kernel cannot take back from the processes in here, about: the page cache, code included, is not in
        it, a tmpfs is."""
        for place in self._places("memory"):
            stat = _fields(f"{place}/memory.stat")
            if "anon" in stat:
                kernel = max(0, stat.get("kernel", 0) - stat.get("slab_reclaimable", 0))
                return stat["anon"] + stat.get("shmem", 0) + kernel
            if "total_rss" in stat:
                kernel = _number(f"{place}/memory.kmem.usage_in_bytes") or 0
                return stat["total_rss"] + stat.get("total_shmem", 0) + min(kernel, MOST_KERNEL_BYTES)
        return None

    def memory_peak_bytes(self) -> int | None:
        """The most that was ever used, page cache included."""
        for place in self._places("memory"):
            peak = _number(f"{place}/memory.peak", f"{place}/memory.max_usage_in_bytes")
            if peak is not None:
                return peak
        return None

    def oom_kills(self) -> int | None:
        """How many processes the out-of-memory killer has ended in here so far."""
        for place in self._places("memory"):
            for name in ("memory.events", "memory.oom_control"):
                kills = _fields(f"{place}/{name}").get("oom_kill")
                if kills is not None:
                    return kills
        return None

    def _places(self, controller: str) -> Iterator[str]:
        """The controller's directories, from this process's own cgroup up to what is mounted."""
        if self._paths is None:
            self._paths = _memberships(self._membership)
        paths = self._paths
        v1 = os.path.join(self._mount, controller)
        root, path = (v1, paths.get(controller, "")) if controller in paths else (self._mount, paths.get("", ""))
        path = path.strip("/")
        if ".." in path.split("/") or not os.path.isdir(os.path.join(root, path)):
            path = ""  # in a container, by what the host calls it: what is mounted is our own
        while path:
            yield f"{root}/{path}"
            path = os.path.dirname(path)
        yield root


def _memberships(name: str) -> dict[str, str]:
    """A controller's cgroup, by the controller's name; v2's has none."""
    paths = {}
    for line in _read(name).splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def _read(name: str) -> str:
    try:
        with open(name, encoding="ascii", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""


def _number(*names: str) -> int | None:
    """The first file's that holds one."""
    for name in names:
        text = _read(name).strip()
        if text.isdigit():
            return int(text)
    return None


def _fields(name: str) -> dict[str, int]:
    """A file of names and numbers, a pair a line."""
    fields = {}
    for line in _read(name).splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            fields[key] = int(value)
    return fields
