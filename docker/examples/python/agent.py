"""A LiveKit agent without a model: a job says hello, counts, and ends when its call does or the worker drains.

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as for any agent. TURNS: how many times a job counts, once a second.
"""

import asyncio
import logging
import os

from livekit.agents import JobContext, WorkerOptions, cli

logger = logging.getLogger("example-agent")


async def entrypoint(ctx: JobContext) -> None:
    logger.info("call begins", extra={"caller": "+1 555 0100"})
    print("a plain print of the job", flush=True)
    for turn in range(1, int(os.environ.get("TURNS", "5")) + 1):
        await asyncio.sleep(1)
        logger.info("turn %d", turn, extra={"latency_ms": 100 + turn})
    logger.info("call ends")
    ctx.shutdown()


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
