"""The sandbox, in a thread of the tests' own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shipper.sandbox.server import running_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shipper.sandbox.server import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"
