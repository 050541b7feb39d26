"""A process that serves live updates as a service does: under uvloop, until a signal.

python -m support.live_process; publishes a change for each line of its input.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from starlette.applications import Starlette

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_common.process.lifecycle import run_service
from sluice_core.live.updates import Update
from sluice_gateway.http.server import HttpOptions, serving_http
from sluice_gateway.live.hub import LiveHub, audience_of
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.origins import Origins
from sluice_gateway.live.routes import live_routes
from sluice_gateway.live.sessions import Sessions
from support.live_gateway import JobTable, NamedUsers, user
from support.live_updates import photo_update


async def _main(stop: asyncio.Event) -> None:
    jobs, updates = JobTable(), MemoryLiveUpdates()
    jobs.add("job-1", "ann", photo_update("p1"))
    options = LiveOptions(write_seconds=300.0)
    hub = LiveHub(updates, jobs, NamedUsers(), Origins([]), Sessions(options), options)
    app = Starlette(routes=live_routes(hub))
    http = HttpOptions(drain_seconds=1, session_seconds=1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(_publish_lines(updates))
            _print(listener.getsockname()[1])
            async with serving_http(listener, app, http, None, hub.sessions.stop):
                await stop.wait()
            publishing.cancel()


async def _publish_lines(updates: MemoryLiveUpdates) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    version = 1
    while await reader.readline():
        version += 1
        update = Update("job-1", "p1", "UPLOADING", version, 1_000_000, version)
        await updates.publish(audience_of(user("ann")), [update])
        for _ in range(5):
            await asyncio.sleep(0)  # sessions send each change, not only the last one
    _print("published")


def _print(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_service(_main))
