"""These tests mount file systems; where that cannot be, they skip and say why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shipper.sandbox.server import running_in_thread
from tests.disk.sick import why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shipper.sandbox.server import Sandbox

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def reason() -> str:
    return why_not()


@pytest.fixture(autouse=True)
def only_where_it_can_be(reason: str) -> None:
    if reason:
        pytest.skip(reason)


@pytest.fixture
def sandbox(only_where_it_can_be: None) -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox
