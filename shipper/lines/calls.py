"""Stand-in, to be replaced by FIELDS's module of the same name: nothing is carried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from shipper.lines.events import Events


class Calls:
    """Immutable."""

    __slots__ = ()

    EMPTY: ClassVar[Calls]

    def follow(self, events: Events) -> Calls:
        """Sets fields in the records, in place; the state after them."""
        del events
        return self

    def to_cursor(self) -> dict[str, Any]:
        """JSON-ready, {} for nothing."""
        return {}

    @classmethod
    def from_cursor(cls, values: dict[str, Any]) -> Calls:
        """Raises ValueError, KeyError or TypeError for what `to_cursor` did not write."""
        del values
        return cls.EMPTY


Calls.EMPTY = Calls()
