"""`python -m tests.bench`: the README's figures, in some minutes, on this machine.

A missed target is no failure (machines differ, and a shared one is noisy): the status is 1 only when lines were lost or
something did not run.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from tests.bench.common import Row, machine, table

FIGURES = (
    "passthrough",
    "cpu",
    "start",
    "memory",
    "idle",
    "latency",
    "drain",
    "backlog",
    "rate",
    "fleet",
    "masking",
    "formats",
    "containers",
)


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGTERM, terminated)
    began = time.monotonic()
    about = machine()
    print(about, flush=True)
    rows: list[Row] = []
    failures: list[str] = []
    for name in arguments.only:
        print(f"\n{name}", flush=True)
        try:
            found: list[Row] = importlib.import_module(f"tests.bench.{name}").measure(arguments.quick)
        except Exception as error:  # noqa: BLE001  the other figures are still worth having
            failures.append(f"{name}: {type(error).__name__}: {error}")
            print(f"FAILED: {failures[-1]}", flush=True)
            continue
        for row in found:
            print(f"{row.figure}: {row.shown()} {row.shown_target()}", flush=True)
        rows += found
    print(f"\n{about}; {time.monotonic() - began:.0f} s\n\n{table(rows)}")
    if arguments.json:
        figures = [{**dataclasses.asdict(row), "value": row.value, "met": row.met} for row in rows]
        content = {"machine": about, "figures": figures, "failures": failures}
        arguments.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def terminated(*_: object) -> NoReturn:
    """Leaves by way of everything that cleans up; a second signal must not disturb that (`timeout` sends two)."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="the figures of the README")
    parser.add_argument("--only", type=names, default=FIGURES, metavar="NAME,...", help=", ".join(FIGURES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="every repeat's value")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller floods")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    unknown = set(wanted).difference(FIGURES)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}"
        )
    return wanted


if __name__ == "__main__":
    sys.exit(main())
