"""The sandbox, in a thread of the tests' own process, and gates to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shipper.sandbox.server import running_in_thread
from tests.chaos.gate import Gates
from tests.e2e.wrapped import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shipper.sandbox.server import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def gates(sandbox: Sandbox) -> Iterator[Gates]:
    """One a sink, open."""
    with Gates(sandbox.port) as gates:
        for sink in ALL:
            gates.add(sink)
        yield gates


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"
