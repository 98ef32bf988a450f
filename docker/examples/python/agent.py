"""A LiveKit agent without a model: each job logs its turns, prints as real ones do, and ends when its call does.

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as for any agent. TURNS: how many turns a call has, one a second; a
worker that is told to end waits for them. The job does not join its room: it has nothing to say.
"""

import asyncio
import logging
import os
import sys

from livekit.agents import AgentServer, JobContext, cli

TURNS = int(os.environ.get("TURNS", "5"))

logger = logging.getLogger("example-agent")
server = AgentServer()


@server.rtc_session()
async def call(ctx: JobContext) -> None:
    async def ended() -> None:
        logger.info("call ended")

    ctx.add_shutdown_callback(ended)
    logger.info("call begins", extra={"caller": "+1 555 0100"})
    print("a plain print of the job")
    print("and one to stderr", file=sys.stderr)
    for turn in range(1, TURNS + 1):
        await asyncio.sleep(1)
        logger.info("turn %d", turn, extra={"latency_ms": 100 + turn})
    logger.info("call ends")
    ctx.shutdown()


if __name__ == "__main__":
    cli.run_app(server)
