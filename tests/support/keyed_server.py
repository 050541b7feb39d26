"""`sluice serve` that demands tokens, which its own gateway issues, and users of its API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from support.gateway import ANN
from support.redis_server import free_port
from support.server import StandaloneServer, standalone

NO_RATES: Final = {
    "SLUICE_GATEWAY__JOBS_PER_MINUTE": "0",
    "SLUICE_GATEWAY__PROGRESS_PER_SECOND": "0",
    "SLUICE_GATEWAY__PAIR_GUESSES_PER_MINUTE": "0",
    "SLUICE_GATEWAY__ACCOUNT_GUESSES_PER_MINUTE": "0",
    "SLUICE_GATEWAY__ADDRESS_GUESSES_PER_MINUTE": "0",
}

_ATTEMPTS: Final = 5


def own_keys(url: str) -> Mapping[str, str]:
    """Return the settings of services that accept the tokens of the gateway at this URL only."""
    return {
        "SLUICE_GATEWAY__PUBLIC_URL": url,
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__ISSUER": url,
        "SLUICE_AUTH__AUDIENCE": "sluice",
    }


@contextmanager
def keyed_server(folder: Path) -> Iterator[StandaloneServer]:
    """Run a server inside the block, without limits of rates."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"SLUICE_GATEWAY_ADDRESS": address, **NO_RATES, **own_keys(f"http://{address}")}
    with standalone(folder / "data", settings) as server:
        yield server


@dataclass
class ApiUser:
    """A user with a session, whose requests go to `base`."""

    http: aiohttp.ClientSession
    base: str
    token: str = ""

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Where STOMP is spoken."""
        return f"{self.base.replace('http', 'ws', 1)}/ws"

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that has to succeed; return the answer.

        A request whose connection ends is sent again: the server may be stopping.
        """
        for _ in range(_ATTEMPTS - 1):
            with suppress(aiohttp.ClientConnectionError):
                return await self._call(method, path, body)
        return await self._call(method, path, body)

    async def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        request = self.http.request(method, self.base + path, json=body, headers=headers)
        async with request as answer:
            content = await answer.read()
            assert answer.status < 300, (answer.status, content)
            return json.loads(content) if content else None

    async def create_job(self, count: int, size: int = 10) -> Any:
        """Create a job of photos of this size; return the answer."""
        files = [
            {"filename": f"{number}.jpg", "mimeType": "image/jpeg", "bytes": size}
            for number in range(count)
        ]
        return await self.call("POST", "/commands/upload-jobs", {"files": files})

    async def cancel(self, photo_id: str) -> None:
        await self.call("POST", f"/commands/upload/{photo_id}/cancel")


@asynccontextmanager
async def api_user(base: str, credentials: Mapping[str, str] = ANN) -> AsyncIterator[ApiUser]:
    """Register a user; each request has a connection of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        user = ApiUser(http, base)
        session = await user.call("POST", "/api/auth/register", credentials)
        user.token = session["token"]
        yield user
