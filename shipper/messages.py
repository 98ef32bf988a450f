"""The program's own lines on stderr: few, prefixed ``shipper:``, and never a reason to wait.

stderr is usually the agent's too, and whoever reads it may have stopped. So a message is written by its caller only
where that cannot block; else a thread takes over, which may.
"""

from __future__ import annotations

import _thread  # threading would cost PID 1 0.9 MB
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_stderr = 2
_mask: Callable[[str], str] = str

# A pipe reports POLLOUT once so many bytes fit in, and they go in whole, not mixed with another writer's (pipe(7)).
_PIPE_BUF = select.PIPE_BUF

_MAX_WAITING = 100


class _Backlog:
    """Messages that could not be written at once, in order, and the thread that writes them while there are any."""

    __slots__ = ("_busy", "_dropped", "_lock", "_messages")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._busy = _thread.allocate_lock()  # held as long as the thread has something to write
        self._messages: list[bytes] = []
        self._dropped = 0

    def nothing_to_tell(self) -> bool:
        return not (self._busy.locked() or self._dropped)

    def add(self, text: str) -> None:
        with self._lock:
            if len(self._messages) >= _MAX_WAITING:
                self._dropped += 1
                return
            if self._dropped:
                text = f"{text} (messages left out before this one: {self._dropped})"
            self._messages.append(_line(text))
            self._dropped = 0
            if self._busy.acquire(blocking=False):
                try:
                    _thread.start_new_thread(self._write_out, ())
                except RuntimeError:  # no thread to be had: what waits goes with the next message's thread
                    self._busy.release()

    def wait(self, timeout: float) -> None:
        if self._busy.acquire(timeout=timeout):
            self._busy.release()

    def _write_out(self) -> None:
        while True:
            with self._lock:
                if not self._messages:
                    self._busy.release()
                    return
                data = self._messages[0]  # stays in its place, and counts, until it is written
            _write(data)
            with self._lock:
                del self._messages[0]


def _line(text: str) -> bytes:
    return f"shipper: {' '.join(text.splitlines())}\n".encode(errors="replace")


def _writable(timeout_ms: int | None) -> bool:
    poll = select.poll()
    poll.register(_stderr, select.POLLOUT)
    return bool(poll.poll(timeout_ms))


def _write(data: bytes) -> None:
    """Writes all of it, however long that takes; gives up when stderr is closed or its reader is gone."""
    try:
        while data:
            _writable(None)  # whoever shares stderr may have made it non-blocking
            try:
                data = data[os.write(_stderr, data) :]
            except BlockingIOError:
                pass
    except OSError:
        pass


_backlog = _Backlog()


def move_to(descriptor: int) -> None:
    """Messages go there from now on: our stderr has given up its number (`supervisor/spawn.stand_in`)."""
    global _stderr  # noqa: PLW0603  one a process, as stderr is
    _stderr = descriptor


def mask_with(function: Callable[[str], str]) -> None:
    """From now on ``function`` takes out of every message what must not be shown."""
    global _mask  # noqa: PLW0603  one a process, as stderr is
    _mask = function


def masked(text: str) -> str:
    """As it would be said: for sentences that are shown elsewhere."""
    return _mask(text)


def stderr() -> int:
    """The descriptor that messages are written to."""
    return _stderr


def say(text: str) -> None:
    """Writes ``shipper: TEXT`` to stderr; never raises and never holds up the caller."""
    text = _mask(text)
    data = _line(text)
    try:
        if len(data) <= _PIPE_BUF and _backlog.nothing_to_tell() and _writable(0):
            os.write(_stderr, data)
            return
    except BlockingIOError:
        pass
    except OSError:
        return
    _backlog.add(text)


def flush(timeout: float) -> None:
    """Waits until everything said is written, at most ``timeout`` seconds; for the last moment before os._exit."""
    _backlog.wait(timeout)
