"""Which run a command shows, and what it says when there is none: the same for ``shipper logs`` and ``status``."""

from __future__ import annotations

import argparse
import os

from shipper.journal import notes, runs
from shipper.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Parser(argparse.ArgumentParser):
    """Whatever is wrong with the options becomes a sentence and status 64."""

    def error(self, message: str) -> None:  # type: ignore[override]
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("-"):
            from difflib import get_close_matches

            option = unknown.split()[0].partition("=")[0]
            near = get_close_matches(option, list(self._option_string_actions), n=1)
            message = f"there is no option {option}" + (f", did you mean {near[0]}?" if near else "")
        say(f"{message}; `{self.prog} --help` shows what there is")
        raise SystemExit(64)


def candidates(directories: Sequence[str]) -> list[str]:
    """Every directory that may hold runs: those of the settings, and those of other users."""
    found = list(directories)
    for directory in directories:
        parent, name = os.path.split(directory)
        if name.startswith("shipper-"):
            try:
                found += [os.path.join(parent, other) for other in sorted(os.listdir(parent)) if _is_ours(other)]
            except OSError:
                continue
    return list(dict.fromkeys(found))


def _is_ours(name: str) -> bool:
    return name.startswith("shipper-") and name[8:].isdigit()


def newest_run(directories: Sequence[str]) -> str | None:
    """The newest whose wrapper lives, else the newest that holds anything."""
    found = [run for directory in directories for run in runs.list_runs(directory) if _holds_anything(run)]
    found.sort(key=os.path.basename, reverse=True)
    return next((run for run in found if _lives(run)), found[0] if found else None)


def _lives(run: str) -> bool:
    """By the note, where there is one: the other lock is also held by who delivers what a dead run left."""
    lives = notes.wrapper_lives(run)
    return runs.is_live(run) if lives is None else lives


def _holds_anything(run: str) -> bool:
    try:
        return runs.read_facts(run) is not None
    except OSError:  # another user's
        return False


def nothing_to_show(directories: Sequence[str]) -> str:
    """Why `newest_run` found none, as a sentence."""
    places = [place for directory in directories for place in (directory, *runs.list_runs(directory))]
    locked = [place for place in places if os.path.isdir(place) and not os.access(place, os.R_OK)]
    if locked:
        return (
            f"the journal in {locked[0]} may be read by its owner alone: "
            "run this as the agent's user or as root (docker exec -u 0 …)"
        )
    return f"there is no journal in {', '.join(directories)}: has `shipper run` been started here (with SHIPPER_DIR)?"
