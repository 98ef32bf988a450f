"""An agent on the real livekit-agents: a call that goes on until LiveKit ends it, and prints as real ones do.

The job does not join its room: it has nothing to say there.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from livekit.agents import AgentServer, JobContext, cli

logger = logging.getLogger("call")

# However busy the machine is, it takes the job: livekit-agents declines above 70 % of the CPU.
server = AgentServer(load_fnc=lambda: 0.0)


async def call(ctx: JobContext) -> None:
    turns = 0

    async def talk() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.1)
            turns += 1
            logger.info("turn %d", turns, extra={"latency_ms": 100 + turns})
            if turns % 5 == 0:
                # With one write, as `print` does not when unbuffered: nobody else's line gets in between.
                sys.stdout.write(f"turn {turns}: a plain print 😀\n")
                sys.stderr.write(f"turn {turns}: and one to stderr\n")

    async def ended(reason: str) -> None:
        talking.cancel()
        logger.info("call ended after turn %d", turns, extra={"reason": reason})

    ctx.add_shutdown_callback(ended)
    talking = asyncio.create_task(talk())


if __name__ == "__main__":
    server.rtc_session(call)
    cli.run_app(server)
