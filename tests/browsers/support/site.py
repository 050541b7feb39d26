"""`sluice serve` as browsers reach it: through proxies that can cut, slow down and answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from sluice_backends.s3.client import open_client
from support import s3_server
from support.deployments import Embedded, Services
from support.http_faults import HttpFaults
from support.keyed_server import own_keys
from support.processes import ServiceProcess
from support.proxy import FaultProxy
from support.redis_server import free_port
from support.round_robin import round_robin
from support.server import StandaloneServer, standalone
from support.shared_services import end_to_end_deployment

PASSWORD: Final = "correct horse battery"
NO_LIMITS: Final = {
    "SLUICE_GATEWAY__JOBS_PER_MINUTE": "0",
    "SLUICE_GATEWAY__PAIR_GUESSES_PER_MINUTE": "0",
    "SLUICE_GATEWAY__ACCOUNT_GUESSES_PER_MINUTE": "0",
    "SLUICE_GATEWAY__ADDRESS_GUESSES_PER_MINUTE": "0",
}
"""Of new jobs and log-ins. That of progress stays: pages have to keep it."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user who can log in."""

    email: str
    password: str = PASSWORD


@dataclass
class Site:
    """A server, what is between it and browsers, and its API for comparison.

    gateway_faults, object_faults: answers in place of the server, and the requests so far.
    """

    server: StandaloneServer
    gateway: FaultProxy
    objects: FaultProxy | None
    gateway_faults: HttpFaults
    object_faults: HttpFaults
    http: aiohttp.ClientSession
    account: Account = field(
        default_factory=lambda: Account(f"ann-{secrets.token_hex(4)}@example.com")
    )
    token: str = ""

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://{self.gateway.address}"

    @property
    def direct_url(self) -> str:
        """Where its API is, past the proxy."""
        return f"http://{self.server.gateway_address}"

    async def register(self) -> None:
        """Make the account of this site."""
        body = {"email": self.account.email, "password": self.account.password}
        self.token = (await self.call("POST", "/api/auth/register", body))["token"]

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request of the account past the proxy; return the answer. It has to succeed."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        request = self.http.request(method, self.direct_url + path, json=body, headers=headers)
        async with request as answer:
            content = await answer.text()
            assert answer.status < 300, (method, path, answer.status, content)
            return await answer.json() if content else None

    async def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the account, the newest first, each with its photos."""
        page = await self.call("GET", "/queries/upload-jobs?size=100")
        return [
            await self.call("GET", f"/queries/upload-jobs/{job['jobId']}") for job in page["items"]
        ]

    async def photo_statuses(self) -> dict[str, str]:
        """Return the status of each photo of the account's jobs by its file name."""
        return {
            photo["filename"]: photo["status"]
            for job in await self.jobs()
            for photo in job["photos"]
        }

    def cut(self) -> None:
        """End all connections and refuse new ones, as a network that is gone."""
        for proxy in self._proxies():
            proxy.refuse()

    def heal(self) -> None:
        for proxy in self._proxies():
            proxy.heal()

    def _proxies(self) -> list[FaultProxy]:
        return [self.gateway] if self.objects is None else [self.gateway, self.objects]

    def puts(self) -> list[str]:
        """Return the targets of the PUTs so far, in order."""
        sent = [line.split(" ", 1) for line in self.object_faults.requests]
        return [target for method, target in sent if method == "PUT"]

    async def restart(self) -> None:
        """Kill the server and start it again on the same data."""
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def running_site(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    kind: str = Embedded.name,
    filters_gateway: bool = False,
) -> AsyncIterator[Site]:
    """Run a server with a registered account inside the block.

    Args:
        kind: of the backends, as in `support.deployments`.
        filters_gateway: whether `gateway_faults` count; WebSockets do not pass then.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        gateway_faults, object_faults = HttpFaults(), HttpFaults()
        gateway = await enter(
            FaultProxy("127.0.0.1", 0, http=gateway_faults if filters_gateway else None)
        )
        backends = stack.enter_context(end_to_end_deployment(kind, folder))
        url = f"http://{gateway.address}"
        objects: FaultProxy | None = None
        found: dict[str, str] = {**NO_LIMITS, **own_keys(url)}
        if kind == Embedded.name:
            objects = await enter(FaultProxy("127.0.0.1", 0, http=object_faults))
            found["SLUICE_GATEWAY__OBJECTS_URL"] = f"http://{objects.address}"
        if isinstance(backends, Services):
            await allow_pages(backends.bucket, url)
            found["SLUICE_GATEWAY__GROUP"] = f"gateway-{secrets.token_hex(4)}"
        server = backends.server({**found, **(settings or {})})
        # Known beforehand: the server asks itself for its keys, at its public address.
        server.gateway_address = f"127.0.0.1:{free_port()}"
        gateway.upstream = _endpoint(server.gateway_address)
        stack.callback(server.close)
        await asyncio.to_thread(server.start)
        if isinstance(backends, Services):
            await start_processor(stack, backends, folder)
        if objects is not None:
            objects.upstream = _endpoint(server.objects_address)
        http = await enter(aiohttp.ClientSession())
        site = Site(server, gateway, objects, gateway_faults, object_faults, http)
        await site.register()
        yield site


@dataclass(frozen=True, slots=True)
class SharedServer:
    """A server on embedded backends for many tests, each with its own proxies and account."""

    server: StandaloneServer
    gateway_port: int
    objects_port: int

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        """Put proxies before it inside the block, with a new account."""
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            faults = HttpFaults()
            gateway = await enter(
                FaultProxy(*_endpoint(self.server.gateway_address), listen_port=self.gateway_port)
            )
            objects = await enter(
                FaultProxy(
                    *_endpoint(self.server.objects_address),
                    listen_port=self.objects_port,
                    http=faults,
                )
            )
            http = await enter(aiohttp.ClientSession())
            site = Site(self.server, gateway, objects, HttpFaults(), faults, http)
            await site.register()
            yield site


@contextmanager
def shared_server(folder: Path) -> Iterator[SharedServer]:
    """Run one inside the block, whose public addresses are those of proxies to come."""
    gateway_port, objects_port = free_port(), free_port()
    settings = {
        **NO_LIMITS,
        **own_keys(f"http://127.0.0.1:{gateway_port}"),
        "SLUICE_GATEWAY__OBJECTS_URL": f"http://127.0.0.1:{objects_port}",
    }
    with standalone(folder / "data", settings) as server:
        yield SharedServer(server, gateway_port, objects_port)


@asynccontextmanager
async def replicated_site(folder: Path) -> AsyncIterator[tuple[Site, StandaloneServer]]:
    """Run two servers on shared services behind a balancer; yield the site, and the second one."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        balancer = await enter(round_robin())
        gateway = await enter(FaultProxy(*_endpoint(balancer.address)))
        url = f"http://{gateway.address}"
        backends = stack.enter_context(end_to_end_deployment(Services.name, folder))
        assert isinstance(backends, Services)
        await allow_pages(backends.bucket, url)
        keys = {"SLUICE_GATEWAY__KEYS_FILE": str(folder / "keys.json")}
        settings = {**backends.settings, **NO_LIMITS, **own_keys(url), **keys}
        settings["SLUICE_GATEWAY__GROUP"] = f"gateway-{secrets.token_hex(4)}"
        servers = [StandaloneServer(folder / name, settings) for name in ("first", "second")]
        for server in servers:
            server.gateway_address = f"127.0.0.1:{free_port()}"
        balancer.servers = [server.gateway_address for server in servers]
        for server in servers:  # the first one makes the tables and the keys
            stack.callback(server.close)
            await asyncio.to_thread(server.start)
        await start_processor(stack, backends, folder)
        http = await enter(aiohttp.ClientSession())
        site = Site(servers[0], gateway, None, HttpFaults(), HttpFaults(), http)
        await site.register()
        yield site, servers[1]


async def start_processor(stack: AsyncExitStack, backends: Services, folder: Path) -> None:
    """Run a processor until the stack is closed; with Kafka, `sluice serve` has none."""
    # Kafka and its topics are shared: a group of its own, or another test takes the events.
    group = {"SLUICE_PROCESSOR__GROUP": f"processor-{secrets.token_hex(4)}"}
    processor = ServiceProcess("sluice_processor", folder, {**backends.settings, **group})
    stack.callback(processor.close)
    await asyncio.to_thread(processor.start)


async def allow_pages(bucket: str, origin: str) -> None:
    """Let pages of this origin use the bucket, as docs/gateway.md asks for."""
    rule = {
        "AllowedOrigins": [origin],
        "AllowedMethods": ["GET", "PUT", "HEAD"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
    }
    async with open_client(s3_server.s3_account().options()) as client:
        await client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
