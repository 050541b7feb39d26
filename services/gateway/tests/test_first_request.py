"""The application that is built when its first request comes."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.http.first_request import FirstRequest


class Building:
    """A build that waits until it is released; counts builds and requests."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.builds = self.requests = 0

    def __call__(self) -> ASGIApp:
        self.builds += 1
        self.begun.set()
        assert self.may_end.wait(30)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self.requests += 1

        return app


async def _nothing() -> Message:
    raise AssertionError("the application asks for nothing")


async def _no_answer(_: Message) -> None:
    raise AssertionError("the application answers nothing")


async def _ask(app: FirstRequest) -> None:
    await app({"type": "http"}, _nothing, _no_answer)


async def test_nothing_is_built_without_a_request_and_one_for_many() -> None:
    building = Building()
    app = FirstRequest(building)
    assert building.builds == 0
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(_ask(app))
        await asyncio.to_thread(building.begun.wait, 30)
        building.may_end.set()
    assert (building.builds, building.requests) == (1, 3)


async def test_build_outlives_the_client_that_hung_up() -> None:
    building = Building()
    app = FirstRequest(building)
    first = asyncio.create_task(_ask(app))
    await asyncio.to_thread(building.begun.wait, 30)
    first.cancel()
    second = asyncio.create_task(_ask(app))
    building.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (building.builds, building.requests) == (1, 1)


async def test_failed_build_is_tried_again() -> None:
    builds = 0

    def build() -> ASGIApp:
        nonlocal builds
        builds += 1
        raise RuntimeError("no application")

    app = FirstRequest(build)
    for expected in (1, 2):
        with pytest.raises(RuntimeError, match="no application"):
            await _ask(app)
        assert builds == expected
