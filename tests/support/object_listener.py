"""The embedded object listener on a real socket, in this process or in one of its own.

python -m support.object_listener ROOT PORT
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.store import FileObjectStore
from sluice_backends.files.url_keys import UrlKeyFile, open_url_keys
from sluice_core.ports.object_listener import ObjectCreated
from sluice_core.uploads.model import MIN_PART_BYTES, ObjectRef
from sluice_gateway.http.paced_bodies import Pace
from sluice_gateway.http.server import HttpOptions, serving_http
from sluice_gateway.metrics import HttpMetrics
from sluice_gateway.storage.listener import ListenerOptions, object_listener
from support.audit import KeptRefusals
from support.environment import process_environment
from support.raw_http import RawClient

BUCKET = "sluice"
ORIGIN = "http://127.0.0.1:8080"


@dataclass
class Clock:
    """Wall clock of URLs, in Unix seconds."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ObjectListener:
    """A running listener; `created` records its notifications."""

    root: Path
    base_url: str
    store: FileObjectStore
    urls: SignedUrls
    keys: UrlKeyFile
    clock: Clock
    clients: AsyncExitStack
    created: list[ObjectRef] = field(default_factory=list)
    refusals: KeptRefusals = field(default_factory=KeptRefusals)
    failures: list[Exception] = field(default_factory=list)
    """Errors that the next notifications raise."""

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2].partition("/")[0])

    async def connect(self) -> RawClient:
        """Return a new connection, which is closed at the end."""
        return await self.clients.enter_async_context(RawClient.connected(self.port))

    async def object_created(self, ref: ObjectRef, *, happened_at: float) -> None:
        assert happened_at > 0
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(ref)

    def leftovers(self) -> list[Path]:
        """Return what unfinished requests have left in the store."""
        return list((self.root / "objects" / BUCKET / "tmp").iterdir())


@asynccontextmanager
async def serving_app(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application while the block runs, as the gateway does."""
    async with serving_http(listening, app, HttpOptions(drain_seconds=2)):
        yield


@asynccontextmanager
async def running_listener(
    root: Path,
    *,
    fsync: bool = False,
    pace: Pace | None = None,
    origins: Sequence[str] = (ORIGIN,),
    min_part_bytes: int = MIN_PART_BYTES,
    object_created: ObjectCreated | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[ObjectListener]:
    """Run a listener of the store in `root` while the block runs.

    Args:
        wrap: puts a layer around the application.
    """
    clock = Clock()
    keys = await open_url_keys(root / "url-keys.json", clock=clock)
    listening = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/objects"
    urls = SignedUrls(keys, base_url, clock)
    async with FileObjectStore(
        root / "objects", fsync=fsync, urls=urls, min_part_bytes=min_part_bytes
    ) as store:
        await store.check(BUCKET)
        clients = AsyncExitStack()
        listener = ObjectListener(root, base_url, store, urls, keys, clock, clients)
        app = object_listener(
            store,
            urls,
            object_created or listener.object_created,
            ListenerOptions(origins, pace or Pace()),
            HttpMetrics(),
            listener.refusals,
        )
        async with serving_app(wrap(app), listening), clients:
            yield listener


class ListenerProcess:
    """A listener in a process that can be killed; its files and its port stay the same."""

    def __init__(self, root: Path, port: int) -> None:
        self._arguments = [sys.executable, "-m", "support.object_listener", str(root), str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = subprocess.Popen(
            self._arguments,
            env=process_environment({"PYTHONPATH": str(Path(__file__).parent.parent)}),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != b"ready\n":
            self.kill()
            raise AssertionError("the listener did not start; see its standard error")

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


async def _serve(root: Path, port: int) -> None:
    keys = await open_url_keys(root / "url-keys.json")
    urls = SignedUrls(keys, f"http://127.0.0.1:{port}/objects")

    async def object_created(ref: ObjectRef, *, happened_at: float) -> None:
        with (root / "created.txt").open("a", encoding="utf-8") as file:
            file.write(f"{ref.key}\n")

    async with FileObjectStore(root / "objects", fsync=False, urls=urls) as store:
        await store.check(BUCKET)
        app = object_listener(store, urls, object_created, ListenerOptions(), HttpMetrics())
        async with serving_app(app, socket.create_server(("127.0.0.1", port))):
            print("ready", flush=True)  # noqa: T201 - read by the parent
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
