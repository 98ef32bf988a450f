"""How fast a fleet comes back whose intake was away for a minute, against its own steady rate; on a virtual clock.

It depends on no machine: real senders, an event loop whose clock jumps to the next timer, and a made-up intake that
answers after 0.1 s. tests/delivery/test_fleet.py asserts it with fewer wrappers.
"""

from __future__ import annotations

from tests.bench.common import Row
from tests.delivery.fleet import sail


def measure(quick: bool) -> list[Row]:
    wrappers = 1_000 if quick else 10_000
    refuses, moment = sail(wrappers, "refuses"), sail(wrappers, "names the moment", in_step=True)
    what = f"requests in the busiest second after an intake was away for a minute, {wrappers:,} wrappers, of steady"
    return [
        Row(f"{what}: it refused connections", [refuses.ratio], "", 3.0),
        Row(f"{what}: it told all to come back at the same moment", [moment.ratio], "", 3.0),
    ]
