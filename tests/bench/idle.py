"""What the wrapper costs while the agent prints nothing: memory of both processes, and their CPU."""

from __future__ import annotations

import time

from tests.bench.common import Intake, Row, Wrapper, cpu_seconds, memory_mb, printer, progress

QUIET_SECONDS = 5.0
TARGET_SUPERVISOR_MB = 12.0
TARGET_WORKER_MB = 42.0
TARGET_PERCENT = 0.1


def measure(quick: bool) -> list[Row]:
    seconds = 10.0 if quick else 30.0
    with Intake() as intake, Wrapper(printer("pace", "50", "20"), url=intake.url) as wrapper:
        worker = wrapper.worker_pid()
        wrapper.tell(b"\n")
        intake.wait_quiet(QUIET_SECONDS)
        memory = {name: [memory_mb(pid, name) for pid in (wrapper.pid, worker)] for name in ("Rss", "Pss")}
        used = [cpu_seconds(pid) for pid in (wrapper.pid, worker)]
        time.sleep(seconds)
        percents = [
            (cpu_seconds(pid) - before) / seconds * 100 for pid, before in zip((wrapper.pid, worker), used, strict=True)
        ]
        progress(f"idle: {percents[0]:.4f} + {percents[1]:.4f} %")
        wrapper.end_input()
        wrapper.wait()
    return [
        Row("idle memory, supervisor (RSS)", memory["Rss"][:1], "MB", TARGET_SUPERVISOR_MB, 1),
        Row("idle memory, worker (RSS)", memory["Rss"][1:], "MB", TARGET_WORKER_MB, 1),
        Row(
            "idle memory, both (PSS: what is shared with other Pythons counts in part)",
            [sum(memory["Pss"])],
            "MB",
            None,
            1,
        ),
        Row(f"idle CPU over {seconds:.0f} s, both, of one core", [sum(percents)], "%", TARGET_PERCENT, 3),
    ]
