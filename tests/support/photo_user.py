"""A user of the gateway that repeats what was not answered, with a deadline for each request."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

from sluice_core.photos.model import Owner
from support.pictures import as_stored, exif, quadrants, saved

REQUEST_SECONDS: Final = 30.0
"""Longest wait for one answer: no request may hang, whatever is down."""
PATIENCE_SECONDS: Final = 150.0
"""Longest time until a request that is repeated has its answer."""
_LONGEST_PAUSE_SECONDS: Final = 1.0
_REPEATED: Final = (429, 503, 504)

PICTURE: Final = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the gateway. `body`: its JSON, None without any."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def reason(self) -> str:
        """The reason of a refusal, which has to be a problem document; empty for a success."""
        if self.status < 400:
            return ""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.body["status"] == self.status
        return str(self.body["reason"])


@dataclass(slots=True)
class Tries:
    """How many connections a PUT took: aiohttp repeats a broken one once, and does not tell."""

    connections: int = 0


@dataclass(slots=True)
class SentPhoto:
    """A photo of a job, and what its user did with it."""

    photo_id: str
    job_id: str
    content: bytes
    fate: str = "kept"
    """Or `cancelled`, `deleted`, `abandoned`."""
    tries: Tries = field(default_factory=Tries)
    """Of the PUT of the whole photo."""


def picture(number: int, size: int = 0) -> bytes:
    """Return a JPEG of its own; larger than `size` bytes by what follows its end."""
    return PICTURE + f"photo {number}".encode().ljust(max(0, size - len(PICTURE)), b"\0")


class PhotoUser:
    """Sends photos to any of several gateways.

    Args:
        gateways: returns their base URLs; a repeat goes to the next one.
    """

    def __init__(self, http: aiohttp.ClientSession, gateways: Callable[[], Sequence[str]]) -> None:
        self._http = http
        self._gateways = gateways
        self._turn = 0
        self.token = ""
        self.refresh_token = ""
        self.owner = Owner("", "")
        self.credentials: dict[str, str] = {}
        self.repeats = 0
        """Requests that had no answer, or a temporary refusal."""

    @property
    def base(self) -> str:
        """The gateway of the next request."""
        gateways = self._gateways()
        return gateways[self._turn % len(gateways)]

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    async def register(self) -> None:
        name = f"{secrets.token_hex(6)}@example.com"
        self.credentials = {"email": name, "password": "correct horse"}
        session = await self.ask("POST", "/api/auth/register", self.credentials)
        self.token, self.refresh_token = session["token"], session["refreshToken"]
        # Who registers has a tenant of their own.
        self.owner = Owner(session["user"]["tenant"], session["user"]["userId"])

    async def log_in(self) -> None:
        """Replace the access token: a run may last longer than one."""
        self.token = ""
        self.token = (await self.ask("POST", "/api/auth/login", self.credentials))["token"]

    async def once(
        self, method: str, path: str, body: Any = None, *, key: str = "", base: str = ""
    ) -> Answer:
        """Send a request once. Raise `aiohttp.ClientError` without an answer.

        An answer that does not come in `REQUEST_SECONDS` fails the test.
        """
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if key:
            headers["idempotency-key"] = key
        url = (base or self.base) + path
        begun = time.monotonic()
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                self._http.request(method, url, json=body, headers=headers) as answer,
            ):
                content = await answer.read()
                is_json = "json" in answer.headers.get("Content-Type", "")
                found = json.loads(content) if content and is_json else None
                return Answer(answer.status, answer.headers, found)
        except TimeoutError:
            raise AssertionError(
                f"{method} {path} hangs: no answer in {time.monotonic() - begun:.0f} s"
            ) from None

    async def answer(self, method: str, path: str, body: Any = None, *, key: str = "") -> Answer:
        """Repeat a request until it is answered for good."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            pause = 0.05
            try:
                answer = await self.once(method, path, body, key=key)
            except (aiohttp.ClientError, ConnectionError) as error:
                what: object = error
            else:
                is_temporary = answer.status in _REPEATED
                if answer.reason == "TOKEN_EXPIRED":
                    await self.log_in()
                elif not is_temporary and answer.reason != "REQUEST_IN_PROGRESS":
                    return answer
                what, pause = answer, float(answer.headers.get("Retry-After", pause))
            assert time.monotonic() < deadline, f"{method} {path} has no answer: {what}"
            self.repeats += 1
            self._turn += 1
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))

    async def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        """Repeat a request until it is answered; return the body of its success."""
        answer = await self.answer(method, path, body, key=key)
        assert answer.status < 300, answer
        return answer.body

    # -- photos

    async def create(self, contents: Sequence[bytes]) -> tuple[list[SentPhoto], list[Any]]:
        """Create a job; return its photos, and how to send each."""
        files = [
            {"filename": f"{number}.jpg", "mimeType": "image/jpeg", "bytes": len(content)}
            for number, content in enumerate(contents)
        ]
        job = await self.ask(
            "POST", "/commands/upload-jobs", {"files": files}, key=secrets.token_hex(8)
        )
        photos = [
            SentPhoto(item["photoId"], job["jobId"], content)
            for item, content in zip(job["items"], contents, strict=True)
        ]
        return photos, job["items"]

    async def put(self, photo: SentPhoto, item: Any) -> None:
        """Send all bytes of a photo."""
        if item["multipart"] is None:
            await self._put(item["presignedUrl"], item["headers"], photo.content, photo.tries)
            return
        path = f"/commands/upload/{photo.photo_id}/parts"
        parts = await self.ask("POST", path)
        size = parts["partSize"]
        for part in parts["parts"]:
            begin = (part["partNumber"] - 1) * size
            headers = part.get("headers") or {}
            content = photo.content[begin : begin + size]
            await self._put(part["presignedUrl"], headers, content)

    async def _put(
        self, url: str, headers: Mapping[str, str], content: bytes, tries: Tries | None = None
    ) -> None:
        """Repeat a PUT until it is answered.

        Args:
            tries: of a whole object, so far; None for a part.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            what: object
            try:
                async with (
                    asyncio.timeout(REQUEST_SECONDS),
                    self._http.put(
                        url, data=io.BytesIO(content), headers=headers, trace_request_ctx=tries
                    ) as answer,
                ):
                    what = (answer.status, await answer.text())
                    # 412: the store has the object, of a PUT whose answer was lost.
                    is_repeat = tries is not None and tries.connections > 1
                    if answer.status == 200 or (answer.status == 412 and is_repeat):
                        return
                    assert answer.status >= 500, what
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                what = error
            assert time.monotonic() < deadline, f"the PUT has no answer: {what}"
            self.repeats += 1
            await asyncio.sleep(0.1)

    async def finalize(self, photo: SentPhoto) -> None:
        await self.ask(
            "POST", f"/commands/upload/{photo.photo_id}/finalize", key=secrets.token_hex(8)
        )

    async def cancel(self, photo: SentPhoto) -> None:
        """Cancel a photo, unless it is COMPLETED by then."""
        answer = await self.answer("POST", f"/commands/upload/{photo.photo_id}/cancel")
        if answer.status == 200:
            photo.fate = "cancelled"
        else:
            assert answer.body["metadata"] == {"status": "COMPLETED"}, answer

    async def delete(self, photo: SentPhoto) -> None:
        photo.fate = "deleted"
        answer = await self.answer("DELETE", f"/commands/photos/{photo.photo_id}")
        # A repeat after a lost answer does not find it any more.
        assert answer.status == 204 or (answer.status, answer.reason) == (404, "PHOTO_NOT_FOUND")

    async def job(self, job_id: str) -> Any:
        return await self.ask("GET", f"/queries/upload-jobs/{job_id}")

    async def statuses(self, job_id: str) -> dict[str, str]:
        """Return the status of each photo of a job."""
        photos = (await self.job(job_id))["photos"]
        return {photo["photoId"]: photo["status"] for photo in photos}


async def _count_try(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if isinstance(context.trace_request_ctx, Tries):
        context.trace_request_ctx.connections += 1


def open_session() -> aiohttp.ClientSession:
    """Return a session in which each request has its own connection."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(_count_try)
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(connector=connector, trace_configs=[trace])


@asynccontextmanager
async def photo_user(gateways: Callable[[], Sequence[str]]) -> AsyncIterator[PhotoUser]:
    """Open a registered user. Each request has its own connection, as processes come and go."""
    async with open_session() as http:
        user = PhotoUser(http, gateways)
        await user.register()
        yield user
