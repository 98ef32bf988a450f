"""What every test starts from: an environment without anybody's settings, and Hypothesis without a stopwatch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline: an example here may start processes, and the machine may be busy with others.
settings.register_profile("shipper", deadline=None)
# In CI the same examples each time: a red run means the change, not the dice.
settings.register_profile("ci", parent=settings.get_profile("shipper"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "shipper")

ACTED_ON = ("SHIPPER_", "DATADOG_", "LIVEKIT_", "AWS_", "SENTRY_", "NEW_RELIC_")
NETWORK = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that the program acts on comes from whoever runs the tests, and no journal goes to the machine's own."""
    for name in list(os.environ):
        if name.startswith(ACTED_ON) or name.lower() in NETWORK:
            monkeypatch.delenv(name)
    monkeypatch.setenv("SHIPPER_DIR", str(tmp_path_factory.getbasetemp() / "journal"))


@pytest.fixture(autouse=True)
def locks_given_back() -> Iterator[None]:
    """A journal's writer keeps its run's lock until its process ends; tests play hundreds of such processes in one.

    Left alone they go past descriptor 1,023, and with it whatever uses select().
    """
    yield
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)").endswith("/lock"):
                os.close(int(name))
        except OSError:  # the listing's own descriptor is gone already
            continue
