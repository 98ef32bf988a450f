"""What is left of the supervisor when it cannot work: one thread that passes on, forwards and reaps. No journal.

It may be up to 20 ms late with what it does, and a blocked stdout holds up all of it.
"""

from __future__ import annotations

import _signal
import os
import time

from shipper.supervisor import signals
from shipper.supervisor.spawn import ALL_SIGNALS, give_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shipper.supervisor.pump import Pump
    from shipper.supervisor.spawn import Agent

LOOK_SECONDS = 0.02
LINGER_SECONDS = 2.0


def serve(agent: Agent, outputs: list[tuple[int, int]], pumps: list[Pump]) -> int:
    """The agent's status, once it has ended. ``outputs``: (its pipe, our descriptor) of those that none of ``pumps``
    has."""
    left = list(outputs)
    for source, _ in left:
        os.set_blocking(source, False)  # this end is ours alone
    until: float | None = None
    while agent.wait_status is None or (_unfinished(left, pumps) and (until is None or time.monotonic() < until)):
        _forward(agent, _signal.sigtimedwait(ALL_SIGNALS, LOOK_SECONDS))
        _reap(agent)
        if agent.wait_status is not None:
            give_back(agent)
        left = [output for output in left if _pass_on(*output)]
        if agent.wait_status is not None and until is None:
            until = time.monotonic() + LINGER_SECONDS
    code = os.waitstatus_to_exitcode(agent.wait_status)
    return 128 - code if code < 0 else code


def _unfinished(outputs: list[tuple[int, int]], pumps: list[Pump]) -> bool:
    return bool(outputs) or not all(pump.ended for pump in pumps)


def _forward(agent: Agent, info: _signal.struct_siginfo | None) -> None:
    if info is None or agent.wait_status is not None:
        return
    own_pid = os.getpid()
    leader = os.getsid(0) == own_pid
    route = signals.route(info.si_signo, info.si_code, info.si_pid, own_pid, agent.terminal, leader)
    if route == signals.FORWARD:
        try:
            os.kill(agent.pid, info.si_signo)
        except OSError:  # of a user whom we may not signal
            pass


def _reap(agent: Agent) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid == agent.pid:
            agent.wait_status = status


def _pass_on(source: int, target: int) -> bool:
    """False at the end."""
    while True:
        try:
            chunk = os.read(source, 65536)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        while chunk:
            try:
                chunk = chunk[os.write(target, chunk) :]
            except BlockingIOError:  # whoever started us has made it non-blocking
                time.sleep(LOOK_SECONDS)
            except OSError:  # nobody reads it
                break
