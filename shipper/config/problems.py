"""A mistake in the environment, and how a value is made fit to be shown or sent."""

from __future__ import annotations


class Problem:
    """``message`` is the whole sentence: variable, value (never a secret's), what is allowed, what is done instead."""

    __slots__ = ("message", "variable")

    def __init__(self, variable: str, message: str) -> None:
        self.variable = variable
        self.message = message

    def __repr__(self) -> str:
        return f"Problem({self.variable!r}, {self.message!r})"


def clean(text: str, max_chars: int = 255) -> str:
    """One line that any terminal, file and provider takes: printable characters only, without space around."""
    return "".join(filter(str.isprintable, text)).strip()[:max_chars].rstrip()


def quoted(value: str) -> str:
    """A variable's value as a message shows it."""
    text = clean(value)
    return f'"{text}"' if len(text) <= MAX_SHOWN else f'"{text[:MAX_SHOWN]}{CUT}'


MAX_SHOWN = 100
CUT = '..."'
