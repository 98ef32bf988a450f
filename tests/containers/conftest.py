"""Whether the container tests run at all; the package as an image, and the sandbox where containers reach it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shipper.sandbox.server import running_in_thread
from tests.containers import engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shipper.sandbox.server import Sandbox

HERE = Path(__file__).parent
WHY_NOT = "set CONTAINERS=1 (and have a Docker engine) to run it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called with the items of every directory."""
    for item in items:
        if HERE in item.path.parents and os.environ.get("CONTAINERS") != "1":
            item.add_marker(pytest.mark.skip(reason=WHY_NOT))


@pytest.fixture(scope="session", autouse=True)
def removed_at_the_end() -> Iterator[None]:
    yield
    if os.environ.get("CONTAINERS") == "1":
        engine.remove_all()


@pytest.fixture(scope="session")
def package() -> str:
    """The tag of the image that docker/Dockerfile makes of the working tree."""
    return engine.build_package()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Listens where containers of the default network reach this machine: `sandbox.url` is for them and for us."""
    with running_in_thread(engine.gateway()) as sandbox:
        yield sandbox
