"""Requests with an `Idempotency-Key`: a repeat gets the answer of the first one."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import Aborted, AlreadyExists, InvalidArgument
from sluice_core.photos.ids import new_operation_id
from sluice_core.photos.model import Owner
from sluice_core.ports.idempotency import (
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    ClaimState,
    IdempotencyCatalogue,
    RequestClaim,
)
from sluice_gateway.jobs.options import PhotoOptions

HEADER: Final = "Idempotency-Key"
_FIRST_POLL_SECONDS: Final = 0.02
_LONGEST_POLL_SECONDS: Final = 0.5

Command = Callable[[str], Awaitable[BaseModel]]
"""Executes a request under an operation id, which all executions of one key share."""


class RepeatableRequests:
    """Executes requests, those with a key once.

    Only successes are kept: after a refusal the client may correct what it refused for, such as
    the rate, and repeat with the same key. A request that dies half-way is executed again under
    the same operation id, so every command has to be repeatable under its operation id.
    """

    def __init__(
        self,
        catalogue: IdempotencyCatalogue,
        options: PhotoOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._catalogue = catalogue
        self._options = options
        self._clock = clock
        self._sleep = sleep

    async def answer(
        self, owner: Owner, request: Request, command: Command, status: int = 200
    ) -> Response:
        """Return the answer of the command, or the one that it had.

        Raise `InvalidArgument` BAD_IDEMPOTENCY_KEY, `AlreadyExists` IDEMPOTENCY_CONFLICT for a key
        of another request, `Aborted` REQUEST_IN_PROGRESS, and what the command raises.
        """
        key = _key_of(request)
        if key is None:
            return _response(status, await _content(command, new_operation_id()))
        fingerprint = await _fingerprint(request)
        claim = await self._claim(owner, key, fingerprint)
        if claim.state is ClaimState.ANSWERED:
            return _response(status, claim.answer, is_repeat=True)
        try:
            content = await _content(command, claim.operation_id)
            # Of two executions the first one's answer stands.
            content = await self._catalogue.finish_request(owner, key, claim.operation_id, content)
        except BaseException:
            release = self._catalogue.release_request(owner, key, claim.operation_id)
            await finish_despite_cancel(release)
            raise
        return _response(status, content)

    async def _claim(self, owner: Owner, key: str, fingerprint: bytes) -> RequestClaim:
        """Return a claim that is CLAIMED or ANSWERED; wait for a request in progress."""
        give_up_at = self._clock() + self._options.repeat_wait_seconds
        pause = _FIRST_POLL_SECONDS
        while True:
            claim = await self._catalogue.claim_request(
                owner,
                key,
                fingerprint,
                lease_seconds=self._options.claim_seconds,
                lifetime_seconds=self._options.answer_lifetime_seconds,
            )
            if claim.state is ClaimState.CONFLICT:
                raise AlreadyExists(
                    "IDEMPOTENCY_CONFLICT",
                    "The Idempotency-Key belongs to another request; send a new key for a new"
                    " request, and the same body for a repeat.",
                )
            if claim.state is not ClaimState.IN_PROGRESS:
                return claim
            if self._clock() >= give_up_at:
                raise Aborted(
                    "REQUEST_IN_PROGRESS",
                    "The first request with this Idempotency-Key is in progress; repeat it.",
                    retry_after_seconds=1.0,
                )
            await self._sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)


def _key_of(request: Request) -> str | None:
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    key = keys[0]
    is_short = 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARACTERS
    if len(keys) > 1 or not (is_short and key.isascii() and key.isprintable()):
        raise InvalidArgument(
            "BAD_IDEMPOTENCY_KEY",
            f"An {HEADER} has 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} printable ASCII characters;"
            " send one, for example a UUID.",
            field=HEADER,
        )
    return key


async def _fingerprint(request: Request) -> bytes:
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(await request.body())
    return digest.digest()


async def _content(command: Command, operation_id: str) -> bytes:
    view = await command(operation_id)
    return view.model_dump_json(by_alias=True).encode()


def _response(status: int, content: bytes, *, is_repeat: bool = False) -> Response:
    headers = {"idempotent-replayed": "true"} if is_repeat else None
    return Response(content, status, headers, "application/json")
