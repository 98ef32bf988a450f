"""``python -m tests.chaos [--seconds 600] [--seed N]``: a story of faults on a running wrapper with four sinks.

Ends with the ledger of each sink, and with 0 when it comes out even. The same seed tells the same story; what falls
between two writes of a process is another each time.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.play import Outcome, Play
from tests.chaos.story import tell
from tests.e2e.wrapped import ALL

BOUND = "16MiB"  # of the journal: an outage and a burst reach it
DISK = "24m"  # of the journal's own file system, where one can be mounted


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.split("\n")[0].partition(": ")[2])
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the story (default 600)")
    parser.add_argument("--seed", type=int, help="the story to tell (default: a new one)")
    parser.add_argument("--rate", type=float, default=400.0, help="lines a second, about (default 400)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, {platform.python_version()}"
    print(f"seed {seed}, {options.seconds:g} s, {options.rate:g} lines a second; {machine}", flush=True)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipper-chaos-")))
        disk = _disk(stack, place / "disk")
        acts = tell(seed, options.seconds, ALL, disk=disk)
        play = Play(seed, options.rate, place, place / "disk" / "journal", BOUND, lambda text: print(text, flush=True))
        outcome = play.play(acts, options.seconds)
    show(outcome)
    return 1 if outcome.faults else 0


def _disk(stack: ExitStack, at: Path) -> bool:
    """A file system of the journal's own, so that it can be full; whether there is one."""
    at.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        print("not root: the disk is never full in this story")
        return False
    options = f"size={DISK},mode=0700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "shipper-chaos", str(at)], check=False)
    if mounted.returncode:
        print("nothing can be mounted here: the disk is never full in this story")
        return False
    stack.callback(subprocess.run, ["umount", "--lazy", str(at)], check=False)
    return True


def show(outcome: Outcome) -> None:
    """The ledger, as a table."""
    print(f"\n{outcome.acts} acts, {outcome.runs} runs\nthe intake")
    print(f"{'':<12}{'captured':>12}{'came':>12}{'announced':>12}{'refused':>12}{'unexplained':>12}{'repeats':>12}")
    for name, account in outcome.accounts.items():
        numbers = dataclasses.astuple(account)
        print(f"{name:<12}" + "".join(f"{number:>12,}" for number in numbers))
    for who, told_by_sink in (("shipper status", outcome.status), ("closing events", outcome.closing)):
        print(f"{who}")
        print(f"{'':<12}{'captured':>12}{'delivered':>12}{'dropped':>12}{'filtered':>12}{'pending':>12}")
        for name, told in told_by_sink.items():
            print(f"{name:<12}" + "".join(f"{number:>12,}" for number in dataclasses.astuple(told)))
    print(f"looks at `shipper status` on the way: {outcome.looks}; not complete when the bound took it: {outcome.gone}")
    print(f"closing events that were refused as the story has it: {outcome.refused}")
    print(f"longest write of the agent: {outcome.longest * 1000:,.0f} ms, bare {outcome.longest_bare * 1000:,.0f} ms")
    print(f"memory at its peak: supervisor {outcome.memory['supervisor']} MB, worker {outcome.memory['worker']} MB")
    for fault in outcome.faults:
        print(f"WRONG: {fault}")
    print(
        "it does not come out even"
        if outcome.faults
        else "captured = delivered + dropped + filtered = came + announced, for every sink"
    )


if __name__ == "__main__":
    sys.exit(main())
