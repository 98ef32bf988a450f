"""Cursors are written by a thread of their own: a commit on a frozen disk holds up no request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

PAUSE_SECONDS = 0.005  # between commits: at full speed that is every third request, and spares the thread's turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.journal.cursor import CursorFile


class Committer:
    """Writes the newest values of each cursor; older ones that had no turn are passed over."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._waiting: dict[CursorFile, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._awaited = threading.Event()  # somebody waits for all of them: no pause
        threading.Thread(target=self._work, name="commits", daemon=True).start()

    def submit(self, cursor: CursorFile, values: dict[str, Any]) -> None:
        with self._changed:
            self._waiting[cursor] = values
            self._changed.notify()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is written; False when that takes longer."""
        deadline = time.monotonic() + timeout
        self._awaited.set()
        try:
            with self._changed:
                while self._waiting or self._busy:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(left)
        finally:
            self._awaited.clear()
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                cursor, values = self._waiting.popitem()
                self._busy = True
            try:
                cursor.commit(values)
            except Exception as error:  # noqa: BLE001 (this thread must not end: later commits may succeed)
                self._on_error(error)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
            self._awaited.wait(PAUSE_SECONDS)
