"""What goes wrong, when and for how long: drawn from a seed before anything starts, so that it can be told again."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from tests.chaos.gate import MODES

WORKER = ("kill worker", "crash worker", "stop worker")
FREEZE = "freeze container"
WRAPPER = ("kill wrapper", "restart wrapper", FREEZE)
FREEZE_SECONDS = (
    600.0  # of one in each story, longer than any of our time-outs; a sixth of one that is too short for it
)
FREEZE_MARGIN = 30.0  # before it, in which nothing else befalls the wrapper: a restart takes its time
REFUSE_SECONDS = 150.0  # a story that is shorter has no refused secret: the sink looks again only after a minute


class Act(NamedTuple):
    """``at``, ``seconds``: from the story's begin, how long. ``target``: a sink, or "" for what concerns them all.
    ``order``: the sandbox's fault."""

    at: float
    what: str
    target: str
    seconds: float
    order: dict[str, Any]

    def shown(self) -> str:
        order = " ".join(f"{name}={value}" for name, value in self.order.items())
        return " ".join(f"{self.at:7.1f} s  {self.what} {self.target} {self.seconds:.1f} s {order}".split(" "))


def tell(seed: int, seconds: float, sinks: tuple[str, ...], *, disk: bool = False) -> list[Act]:
    """Acts in the order of their begin; each is over before ``seconds``. ``disk``: the journal's may be filled."""
    rng = random.Random(seed)
    acts: list[Act] = []
    free = dict.fromkeys((*sinks, ""), 0.0)  # when a target's last act is over; one at a time
    freeze = _long_freeze(random.Random(f"{seed} freeze"), seconds)
    calm = (freeze.at - min(FREEZE_MARGIN, seconds / 60), freeze.at + freeze.seconds + 0.5)
    now = 0.5
    while now < seconds - 1.0:
        target = rng.choice([*sinks, *sinks, ""])
        length = min(rng.choice((0.3, 1.0, 2.0, 5.0, 15.0)) * rng.uniform(0.5, 1.5), seconds / 6)
        disturbs = not target and now < calm[1] and now + length > calm[0]
        if free[target] <= now and now + length < seconds and not disturbs:
            what, order = _of_all(rng, disk) if not target else _of_sink(rng, target, seconds)
            acts.append(Act(now, what, target, length, order))
            free[target] = now + length + 0.2
        now += rng.expovariate(2.0)
    return sorted([*acts, freeze], key=lambda act: act.at)


def _long_freeze(rng: random.Random, seconds: float) -> Act:
    return Act(rng.uniform(0.3, 0.6) * seconds, FREEZE, "", min(FREEZE_SECONDS, seconds / 6), {})


def _of_all(rng: random.Random, disk: bool) -> tuple[str, dict[str, Any]]:
    kinds = [*WORKER, *WORKER, *WRAPPER, "all away", "all cut", *(["fill disk"] * 2 if disk else [])]
    return rng.choice(kinds), {}


def _of_sink(rng: random.Random, sink: str, seconds: float) -> tuple[str, dict[str, Any]]:
    if rng.random() < 0.4:
        return rng.choice(MODES), {}
    orders: list[dict[str, Any]] = [
        {"status": 500}, {"status": 503}, {"status": 503, "retry_after": rng.randint(1, 3)},
        {"status": 429}, {"status": 429, "retry_after": rng.randint(1, 3)},
        {"delay": round(rng.uniform(0.1, 2.0), 1)}, {"down": True},
        {"status": 400, "count": rng.randint(1, 12)}, {"status": 413, "count": 1},
    ]  # fmt: skip
    if seconds >= REFUSE_SECONDS:
        orders.append({"status": 403})
    if sink == "sentry":
        orders.append({"status": 429, "rate_limits": f"{rng.randint(1, 3)}:log_item:organization"})
    if sink == "cloudwatch":
        orders.append({"reject": {"too_old": rng.randint(0, 3), "too_new": rng.randint(0, 3)}, "count": 2})
    return "fault", rng.choice(orders)
