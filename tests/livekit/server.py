"""A small server that speaks LiveKit's protocol to a worker: registers it, gives it one job, ends that when told to.

Runs in an image that has livekit-agents, whose own packages it uses. What a LiveKit server is for, rooms and media, it
has none of: the job does not join its room. USR1 ends the job, as when everybody has left the room. Each message of the
worker about the job is a line on stdout, such as `available`, `running`, `success`.

The messages are those of livekit_agent.proto, as livekit-agents 1.8.9 sends and awaits them (worker.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine

import jwt
from aiohttp import WSMsgType, web
from livekit.protocol import agent, models

SECRET = os.environ["LIVEKIT_API_SECRET"]
KEY = os.environ["LIVEKIT_API_KEY"]
PORT = 7880
OFFER_AGAIN_SECONDS = 1.0  # a worker that is busy declines; the job is then offered again

STATUSES = {
    agent.JobStatus.JS_RUNNING: "running",
    agent.JobStatus.JS_SUCCESS: "success",
    agent.JobStatus.JS_FAILED: "failed",
}


def say(text: str) -> None:
    print(text, flush=True)


def job() -> agent.Job:
    room = models.Room(sid="RM_of_the_test", name="room-of-the-test")
    return agent.Job(id="AJ_of_the_test", type=agent.JobType.JT_ROOM, room=room)


def token() -> str:
    """What the job would join its room with."""
    grants = {"roomJoin": True, "room": job().room.name}
    return str(jwt.encode({"iss": KEY, "sub": "agent-of-the-test", "video": grants}, SECRET, algorithm="HS256"))


async def worker(request: web.Request) -> web.WebSocketResponse:
    """One worker, from its connection to its end."""
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    try:
        claims = jwt.decode(presented, SECRET, algorithms=["HS256"], issuer=KEY)
    except jwt.InvalidTokenError:
        claims = {}
    if scheme != "Bearer" or not claims.get("video", {}).get("agent"):
        raise web.HTTPUnauthorized
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)

    async def send(message: agent.ServerMessage) -> None:
        await socket.send_bytes(message.SerializeToString())

    async def offer(after: float = 0.0) -> None:
        await asyncio.sleep(after)
        await send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job())))

    async def hang_up() -> None:
        await send(agent.ServerMessage(termination=agent.JobTermination(job_id=job().id)))

    under_way: set[asyncio.Task[None]] = set()

    def begin(what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: begin(hang_up()))
    async for received in socket:
        assert received.type == WSMsgType.BINARY, received
        message = agent.WorkerMessage.FromString(received.data)
        which = message.WhichOneof("message")
        if which == "register":
            information = models.ServerInfo(protocol=16, region="here")
            answer = agent.RegisterWorkerResponse(worker_id="AW_of_the_test", server_info=information)
            await send(agent.ServerMessage(register=answer))
            begin(offer())
        elif which == "availability":
            say("available" if message.availability.available else "declined")
            if message.availability.available:
                await send(agent.ServerMessage(assignment=agent.JobAssignment(job=job(), token=token())))
            else:
                begin(offer(OFFER_AGAIN_SECONDS))
        elif which == "update_job":
            say(STATUSES.get(message.update_job.status, "of no known status"))
    say("gone")
    return socket


def main() -> None:
    app = web.Application()
    app.router.add_get("/agent", worker)
    web.run_app(app, port=PORT, print=lambda _: say("listening"))


if __name__ == "__main__":
    main()
