"""When the clients of tests and loads take a PUT by a signed URL for done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from bench.load.chunk_sender import LoadFailedError
from bench.load.gateway_client import gateway
from support.photo_user import PhotoUser, SentPhoto, open_session

CONTENT = b"a photo"


class Store:
    """Answers PUTs with the next of `statuses`; 0 breaks the connection."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        status = self.statuses.pop(0)
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 500)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    app = web.Application()
    app.router.add_put("/object", store.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        store.url = f"http://127.0.0.1:{runner.addresses[0][1]}/object"
        yield store
    finally:
        await runner.cleanup()


async def put(store: Store, *statuses: int, is_whole: bool = True) -> None:
    store.statuses = list(statuses)
    async with open_session() as http:
        user = PhotoUser(http, lambda: [store.url])
        if is_whole:
            item: dict[str, Any] = {"multipart": None, "presignedUrl": store.url, "headers": {}}
            await user.put(SentPhoto("photo_1", "job_1", CONTENT), item)
        else:
            await user._put(store.url, {}, CONTENT)
    assert store.statuses == []


@pytest.mark.parametrize("failure", [0, 503])
async def test_existing_object_is_success_after_a_failed_try(store: Store, failure: int) -> None:
    await put(store, failure, 412)


async def test_existing_object_is_no_success_of_a_first_try(store: Store) -> None:
    """It is that of somebody else: the URL was to make an object that was not there."""
    with pytest.raises(AssertionError, match="412"):
        await put(store, 412)


async def test_existing_object_is_success_of_a_second_call(store: Store) -> None:
    store.statuses = [200, 412]
    async with open_session() as http:
        user, photo = PhotoUser(http, lambda: [store.url]), SentPhoto("photo_1", "job_1", CONTENT)
        item: dict[str, Any] = {"multipart": None, "presignedUrl": store.url, "headers": {}}
        await user.put(photo, item)
        await user.put(photo, item)
    assert store.statuses == []


async def test_part_has_no_condition(store: Store) -> None:
    await put(store, 503, 200, is_whole=False)
    with pytest.raises(AssertionError, match="412"):
        await put(store, 503, 412, is_whole=False)


async def test_load_takes_an_existing_object_but_no_existing_part(store: Store) -> None:
    """The HTTP client repeats a PUT on a broken connection by itself, and does not tell."""
    signed = {"presignedUrl": store.url, "headers": {}}
    async with gateway(store.url) as client:
        store.statuses = [200, 412, 412]
        await client.put(signed, CONTENT)
        await client.put(signed, CONTENT)
        with pytest.raises(LoadFailedError, match="412"):
            await client.put(signed, CONTENT, is_part=True)
