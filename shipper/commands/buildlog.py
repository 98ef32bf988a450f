"""Build logs on disk: what `shipper build` keeps and `shipper logs --log-type=build` shows. Standard library only.

::

    BUILD_DIR/VERSION/0001.json   the step: command, when it started, how long it took, how it ended
    BUILD_DIR/VERSION/0001.log    its output, stdout and stderr in the order in which they were read

Files of a step are its own, so that a step in a Dockerfile's RUN copies nothing of the steps before into its layer, and
steps may run side by side: whoever makes NNNN.json has the number. All are of mode 0644 in directories of 0755: the
image's build is root, as a rule, and who looks later is the agent's user.

Of a step's output the first `HEAD_BYTES` and the last ones, `TAIL_BYTES` at most, are kept. What comes after the first
ones goes into two files in turn, 0001.tail and 0001.tail.old, which the step's end puts behind a line that says how
much is missing; of a step that was killed they are found as they were. While a step runs it holds a lock on NNNN.log.

Values of secrets in the environment (`config.needles`) are not kept, neither in the command nor in the output: the
image may go where they must not. What is passed through is what the step printed.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from shipper.config.needles import ENDINGS, HIDDEN
from shipper.config.problems import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

IMAGE_PLACE = "/usr/share/shipper/build"
HEAD_BYTES, TAIL_BYTES = 2 << 20, 6 << 20
"""Errors stand at the end, versions and settings at the beginning; 8 MiB is a layer nobody minds."""
KEPT_VERSIONS = 10
UNVERSIONED = "unversioned"
MAX_VERSION, MAX_COMMAND = 100, 4096  # characters

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_META, _LOG, _TAIL, _OLD = ".json", ".log", ".tail", ".tail.old"


def places(environ: Mapping[str, str], directories: Sequence[str]) -> list[str]:
    """Where a build log may be, best first. ``directories``: as in `Settings`."""
    chosen = environ.get("SHIPPER_BUILD_DIR", "").strip()
    if chosen.startswith("/"):
        return [chosen]
    return [IMAGE_PLACE, *(os.path.join(directory, "build") for directory in directories)]


# -- writing ---------------------------------------------------------------------------------------------------------


class Step:
    """A step that is running. Its methods raise OSError, after which only its end can still be noted."""

    def __init__(self, place: str, version: str, values: Mapping[str, Any]) -> None:
        """``version``: of the steps that belong together, as a directory's name (`name_of`)."""
        self._directory = os.path.join(place, version)
        fresh = _make(self._directory)
        self.number, fd = _reserve(self._directory)
        self._path = os.path.join(self._directory, f"{self.number:04d}")
        os.close(fd)
        self._values = dict(values)
        self._log = _create(self._path + _LOG)
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # a file system without locks: it will be said to have not ended
        self._write_values()
        self._room = HEAD_BYTES
        self._tail = -1
        self._tail_bytes = 0
        self.total_bytes = 0
        if fresh:
            _remove_oldest(place, version)

    def write(self, data: bytes) -> None:
        self.total_bytes += len(data)
        if self._room:
            head = data[: self._room]
            _write(self._log, head)
            self._room -= len(head)
            data = data[len(head) :]
        if data:
            if self._tail < 0 or self._tail_bytes + len(data) > TAIL_BYTES // 2:
                self._turn()
            _write(self._tail, data)
            self._tail_bytes += len(data)

    def _turn(self) -> None:
        if self._tail >= 0:
            os.close(self._tail)
            os.replace(self._path + _TAIL, self._path + _OLD)
        self._tail = _create(self._path + _TAIL)
        self._tail_bytes = 0

    def end(self, *, whole: bool = True, **values: Any) -> None:
        """``values``: how it ended. Not ``whole``: something could not be written."""
        if not whole:
            values["whole"] = False
        elif self._tail >= 0:
            os.close(self._tail)
            tails = [self._path + ending for ending in (_OLD, _TAIL) if os.path.exists(self._path + ending)]
            missing = self.total_bytes - HEAD_BYTES - sum(os.path.getsize(tail) for tail in tails)
            if missing:
                _write(self._log, left_out(missing))
            for tail in tails:
                with open(tail, "rb") as file:
                    while part := file.read(1 << 20):
                        _write(self._log, part)
            for tail in tails:
                os.unlink(tail)
        self._values |= values
        self._values["bytes"] = self.total_bytes
        self._write_values()
        os.close(self._log)

    def _write_values(self) -> None:
        import json  # some 3 ms, once the step has begun

        fd = _create(self._path + _META + ".new")
        try:
            _write(fd, json.dumps(self._values, ensure_ascii=False).encode(errors="replace") + b"\n")
        finally:
            os.close(fd)
        os.replace(self._path + _META + ".new", self._path + _META)


def left_out(count: int) -> bytes:
    return b"\n[shipper: %s bytes of output are not kept here]\n" % f"{count:,}".encode()


def name_of(version: str) -> str:
    """The directory of a version. Raises ValueError, with what is wrong with it."""
    if not version or len(version) > MAX_VERSION or not version.isprintable():
        raise ValueError(f"a version is 1 to {MAX_VERSION} printable characters")
    name = "".join(one if one in _SAFE else "".join(f"%{byte:02X}" for byte in one.encode()) for one in version)
    if len(name) > 200:  # of the 255 bytes that a file's name may have
        raise ValueError("it has too many characters beyond A to Z, 0 to 9 and ._+-")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def shown(command: Sequence[str], secrets: Sequence[str]) -> str:
    """The command as a person would type it, on one line, without what is a secret or is called one."""
    import re
    from shlex import quote

    ending = f"(?:{'|'.join(ENDINGS)})"
    assigned = re.compile(rf"([\w-]*{ending}=)(\"[^\"]*\"|'[^']*'|[^\s;&|]+)", re.IGNORECASE)
    following = re.compile(rf"(--?[\w-]*{ending}\s+)([^\s;&|]+)", re.IGNORECASE)
    in_url = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")
    option = re.compile(rf"--?[\w-]*{ending}", re.IGNORECASE)
    words: list[str] = []
    before = ""
    for word in command:
        bare = HIDDEN if option.fullmatch(before) and not word.startswith("-") else word
        for secret in secrets:
            bare = bare.replace(secret, HIDDEN)
        for named in (assigned, following, in_url):
            bare = named.sub(rf"\g<1>{HIDDEN}", bare)
        words.append(bare if bare == HIDDEN else quote(bare))
        before = word
    return clean(" ".join(words).replace("\n", "\\n"), MAX_COMMAND)


def _make(directory: str) -> bool:
    """Makes it readable for all, whatever the umask; whether it is new."""
    if os.path.isdir(directory):
        return False
    above = os.path.dirname(directory)
    if not os.path.isdir(above):
        _make(above)
    try:
        os.mkdir(directory)
    except FileExistsError:  # a step beside this one
        return False
    os.chmod(directory, 0o755)  # noqa: S103 (whoever the image switches to reads it)
    return True


def _reserve(directory: str) -> tuple[int, int]:
    number = 1 + max(_numbers(directory), default=0)
    while True:
        try:
            return number, _create(os.path.join(directory, f"{number:04d}{_META}"), exclusive=True)
        except FileExistsError:
            number += 1


def _create(path: str, *, exclusive: bool = False) -> int:
    how = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_EXCL if exclusive else os.O_TRUNC)
    fd = os.open(path, how, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask
    except OSError:
        pass  # a file system that knows no modes
    return fd


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _remove_oldest(place: str, own: str) -> None:
    """All but the newest versions of a place."""
    found = [name for name in _versions(place) if name != own]
    found.sort(key=lambda name: _newest(os.path.join(place, name)))
    for name in found[: 1 - KEPT_VERSIONS]:
        directory = os.path.join(place, name)
        try:
            for file in os.listdir(directory):
                os.unlink(os.path.join(directory, file))
            os.rmdir(directory)
        except OSError:
            continue  # another's, or a step beside this one was quicker


# -- reading ---------------------------------------------------------------------------------------------------------


def newest_version(directories: Sequence[str]) -> list[Kept]:
    """The steps of the version in which one began last, in order; none when there is none that can be read."""
    found = [os.path.join(place, name) for place in directories for name in _versions(place)]
    found.sort(key=_newest, reverse=True)
    return next((steps for directory in found if (steps := steps_in(directory))), [])


def steps_in(directory: str) -> list[Kept]:
    steps = (Kept(directory, number) for number in sorted(_numbers(directory)))
    return [step for step in steps if step.values is not None]


def nothing_to_show(places: Sequence[str]) -> str:
    """Why `newest_version` found none, as a sentence."""
    found = [path for place in places for path in (place, os.path.dirname(place))]
    locked = [path for path in found if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK)]
    if locked:
        return f"whether there is a build log in {locked[0]} its owner alone can see: run this as that user or as root"
    return f"there is no build log in {', '.join(places)}: has `shipper build` been run here (with SHIPPER_BUILD_DIR)?"


class Kept:
    """A step as it is on disk. ``values``: None where they cannot be read."""

    def __init__(self, directory: str, number: int) -> None:
        self._path = os.path.join(directory, f"{number:04d}")
        self.number = number
        self.values = _values(self._path + _META)

    @property
    def running(self) -> bool:
        try:
            fd = os.open(self._path + _LOG, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        finally:
            os.close(fd)
        return False

    def title(self) -> str:
        """When, how long, how it ended, and the command."""
        values = self.values or {}
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(values["started"])))
        if "duration" in values:
            how = f"{float(values['duration']):.1f} s, "
            how += "not all kept, " if values.get("whole") is False else ""
            how += f"ended by signal {values['signal']}" if "signal" in values else f"status {values.get('status')}"
        else:
            how = "is running" if self.running else "did not end: it was killed"
        return f"{when}, {how}: {values['command']}"

    def output(self) -> Iterator[bytes]:
        """What is kept of it, in parts. Raises OSError."""
        with open(self._path + _LOG, "rb") as file:
            while part := file.read(1 << 20):
                yield part
        tails = [self._path + ending for ending in (_OLD, _TAIL)]
        if os.path.exists(tails[0]):
            yield b"\n[shipper: some of the output is not kept here]\n"
        for tail in tails:  # of a step that has not ended
            try:
                with open(tail, "rb") as file:
                    while part := file.read(1 << 20):
                        yield part
            except FileNotFoundError:
                continue


def _values(path: str) -> dict[str, Any] | None:
    import json

    try:
        with open(path, "rb") as file:
            values = json.loads(file.read(1 << 20))
        time.localtime(float(values["started"]))
        float(values.get("duration", 0)), str(values["command"])
    except (OSError, ValueError, OverflowError, TypeError, LookupError, RecursionError):
        return None  # another's, or cut short
    return dict(values)


def _versions(place: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _numbers(directory: str) -> list[int]:
    try:
        names = [name.removesuffix(_META) for name in os.listdir(directory) if name.endswith(_META)]
    except OSError:
        return []
    return [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10]


def _newest(directory: str) -> float:
    """When its last step began."""
    numbers = _numbers(directory)
    values = _values(os.path.join(directory, f"{max(numbers):04d}{_META}")) if numbers else None
    return 0.0 if values is None else float(values["started"])


# -- showing ---------------------------------------------------------------------------------------------------------


def show(steps: Sequence[Kept], count: int | None, *, colour: bool) -> None:
    """Writes the last ``count`` lines of the steps' output, all for None, each step's under its title.

    Raises OSError, BrokenPipeError among them.
    """
    begin = 0
    left = count
    skip = 0
    if left is not None:  # where to begin: from the end, so that a long log is not held
        for begin in range(len(steps) - 1, -1, -1):
            lines = _count_lines(steps[begin])
            if lines >= left or not begin:
                skip = max(0, lines - left)
                break
            left -= lines
    out = sys.stdout.buffer
    for place, step in enumerate(steps[begin:]):
        title = f"# step {step.number} of {steps[-1].number}: {step.title()}"
        out.write(f"\x1b[1m{title}\x1b[0m\n".encode() if colour else f"{title}\n".encode())
        last = b"\n"
        for part in _without_lines(step, skip if not place else 0):
            out.write(part)
            last = part[-1:] or last
        if last != b"\n":
            out.write(b"\n")
    out.flush()


def _count_lines(step: Kept) -> int:
    lines, last = 0, b"\n"
    for part in step.output():
        lines += part.count(b"\n")
        last = part[-1:]
    return lines + (last != b"\n")


def _without_lines(step: Kept, count: int) -> Iterator[bytes]:
    """Its output without the first ``count`` lines."""
    for part in step.output():
        at = 0
        while count and at < len(part):
            found = part.find(b"\n", at)
            at = found + 1 or len(part)
            count -= found >= 0
        if at < len(part):
            yield part[at:]
