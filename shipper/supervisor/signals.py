"""Who gets a signal that we received. Pure.

Each signal is forwarded exactly once, and to the agent's pid, never to a group: LiveKit's fork server dies of a group's
TERM and drops the call, and a second TERM makes a worker quit at once.
"""

from __future__ import annotations

import _signal

STOPPERS = frozenset((_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT))
"""After one of these a line waits shorter, and orphans are told what the agent was told."""

ENDERS = STOPPERS | {_signal.SIGHUP}
"""What shortens our own end once the agent has ended."""

# Sent by the kernel to a process for its own doings: what we use up or write to is not the agent's affair.
_OWN_AFFAIRS = frozenset((_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGXCPU))

FORWARD = "forward"
SHARED = "shared"  # the kernel gave it to the agent too
NOTHING = "nothing"


def route(signo: int, code: int, sender: int, own_pid: int, terminal: bool, leader: bool) -> str:
    """FORWARD, SHARED or NOTHING for a signal with ``code`` (si_code) from ``sender`` (0: not of our pid namespace).

    ``terminal``: the agent's stdin is one, so it is in our process group, to which the kernel sends Ctrl-C and the
    like. ``leader``: we are the session's, whom alone the kernel tells of a hang-up.
    """
    if signo == _signal.SIGCHLD:
        return NOTHING
    if code <= 0:
        # Our own: SIGPIPE after a write to a closed stderr looks like sent by kill(2) from ourselves.
        return NOTHING if sender == own_pid else FORWARD
    if signo in _OWN_AFFAIRS:
        return NOTHING
    if terminal and not (leader and signo == _signal.SIGHUP):
        return SHARED
    return FORWARD
