"""`shipper run` with parts of a test's own: ``python -I launch.py PARTS run -- CMD``; PARTS is a JSON object.

{}                          as installed
"sinks": ["datadog"]        sinks that count as turned on
"worker": ["CMD", ...]      the worker's command; {control} and {restarts} are put in
"blocks": {"append": FIFO}  that call of the journal (or load) hangs in the kernel until FIFO is opened for writing
"slow": seconds             each append takes so long
"raises": ["append"]        that call fails with a bug; "put" is the writer's, "take" the main thread's
"threads": 1                so many threads can be started
"look_seconds": 0.1         between two looks whether the worker hangs; "busy_cpu": CPU time that says that it does
"old_kernel": 1             a write cannot be asked not to wait
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.config import Settings
    from shipper.journal.writer import JournalWriter
    from shipper.supervisor.outfit import Outfit
    from shipper.supervisor.spawn import Agent


def outfit_with(parts: dict[str, Any]) -> Callable[[Agent], Outfit]:
    """What it makes is made by the writer's thread."""

    def make(agent: Agent) -> Outfit:
        import time

        from shipper.supervisor.outfit import Outfit

        def disturb(call: str) -> None:
            if call in parts.get("blocks", {}):
                os.close(os.open(parts["blocks"][call], os.O_RDONLY))
            if call in parts.get("raises", ()):
                raise RuntimeError("a bug")
            if call == "append":
                time.sleep(parts.get("slow", 0.0))

        class TestOutfit(Outfit):
            def load(self) -> Settings:
                disturb("load")
                settings = super().load()
                settings.sinks = tuple(parts.get("sinks", settings.sinks))
                return settings

            def open_journal(self, settings: Settings) -> JournalWriter:
                disturb("open")
                journal = super().open_journal(settings)
                for name in ("append", "end", "skip"):
                    setattr(journal, name, disturbed(name, getattr(journal, name)))
                return journal

            def worker_command(self, journal: JournalWriter, control_fd: int, restarts: int) -> list[str]:
                command = parts.get("worker") or super().worker_command(journal, control_fd, restarts)
                values = {"{control}": str(control_fd), "{restarts}": str(restarts)}
                return [values.get(word, word) for word in command]

        def disturbed(name: str, call: Callable[..., None]) -> Callable[..., None]:
            def wrapper(*arguments: object) -> None:
                disturb(name)
                call(*arguments)

            return wrapper

        return TestOutfit(agent)

    return make


def break_calls(names: list[str]) -> None:
    from shipper.supervisor.loop import Supervisor
    from shipper.supervisor.writer import Writer

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    if "put" in names:
        Writer.put = bug  # type: ignore[method-assign, assignment]
    if "take" in names:
        Supervisor._take = bug  # type: ignore[method-assign, assignment]


def look_often(thresholds: dict[str, float]) -> None:
    from functools import partial

    from shipper.supervisor import loop
    from shipper.supervisor.worker import Worker

    vars(loop)["Worker"] = partial(Worker, **thresholds)  # type: ignore[arg-type]


def limit_threads(count: int) -> None:
    import _thread

    start = _thread.start_new_thread

    def limited(*arguments: Any) -> int:
        nonlocal count
        count -= 1
        if count < 0:
            raise RuntimeError("can't start new thread")
        return start(*arguments)

    _thread.start_new_thread = limited


def main() -> int:
    parts = json.loads(sys.argv[1])
    if not parts:
        from shipper.__main__ import main as shipper

        return shipper(sys.argv[2:])
    from shipper.supervisor.run import main as run

    if "raises" in parts:
        break_calls(parts["raises"])
    thresholds = {name: parts[name] for name in ("look_seconds", "busy_cpu") if name in parts}
    if thresholds:
        look_often(thresholds)
    if "old_kernel" in parts:
        del os.RWF_NOWAIT
    if "threads" in parts:
        limit_threads(parts["threads"])
    return run(sys.argv[3:], outfit_with(parts))


if __name__ == "__main__":
    sys.exit(main())
