"""`shipper run`: starts the agent, then everything else; whatever goes wrong, the agent runs.

Nothing is imported here before the agent but `spawn` (and what Python itself has loaded): each millisecond before the
spawn is one that the agent starts late.
"""

from __future__ import annotations

import os

from shipper.supervisor import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.supervisor.outfit import Outfit
    from shipper.supervisor.pump import Pump

USAGE = 64  # sysexits.h


def main(argv: list[str], outfit: Callable[[spawn.Agent], Outfit] | None = None) -> int:
    """Runs the agent of ``argv``, which is what stands after ``run``.

    Returns an exit status when no agent was started; else ends the process itself, with the agent's status.
    ``outfit``: tests give their own settings, journal or worker.
    """
    if argv and argv[0].startswith("-") and argv[0] != "--":
        spawn.complain(f"run has no option {argv[0]}; a command that begins so goes behind --: shipper run -- CMD.")
        return USAGE
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        spawn.complain(
            "there is no command to run: give one, as in shipper run -- python agent.py start. "
            "In an image: an ENTRYPOINT resets the CMD of the image below, so set CMD again after it."
        )
        return USAGE
    agent = spawn.start(command)
    if isinstance(agent, int):
        return agent
    status = _supervise(agent, outfit)
    os._exit(status)


def _supervise(agent: spawn.Agent, outfit: Callable[[spawn.Agent], Outfit] | None) -> int:
    """The status to end with."""
    left = [(agent.stdout, agent.outputs[0]), (agent.stderr, agent.outputs[1])]
    pumps: list[Pump] = []
    try:
        spawn.let_go(agent)
        from shipper import messages
        from shipper.supervisor.loop import Supervisor

        messages.move_to(agent.outputs[1])
        supervisor = Supervisor(agent, left, pumps, outfit)
        supervisor.start()
        status = supervisor.run()
        messages.flush(0.2)
    except Exception as error:  # noqa: BLE001  a bug in here, or no thread and no memory to be had
        spawn.complain(f"a fault ({spawn.describe(error)}): the agent runs on and its output is passed on, no more.")
        from shipper.supervisor import plain

        status = plain.serve(agent, left, pumps)
    return status
