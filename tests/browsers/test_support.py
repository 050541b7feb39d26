"""The helpers of these tests: a browser that has crashed, messages that are accepted."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, cast

import pytest
from playwright.async_api import Page

from browsers.support.engines import Engine, shared_browser
from browsers.support.observed import Observed

REFUSAL = (
    "error: Failed to load resource: the server responded with a status of 409 (Conflict) "
    "http://127.0.0.1:8080/commands/upload/{photo}/finalize"
)


class SilentPage:
    """The part of a page that `Observed` asks."""

    async def evaluate(self, _: str) -> list[str]:
        return []


def silent_page() -> Page:
    return cast("Page", SilentPage())


async def test_crashed_browser_is_started_again() -> None:
    """A crash must fail one test and not those after it."""
    async with shared_browser(Engine.CHROMIUM) as shared:
        first = (await shared.opened()).browser
        assert (await shared.opened()).browser is first
        gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        first.once("disconnected", lambda browser: gone.set_result(browser))
        session = await first.new_browser_cdp_session()
        processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        (pid,) = (each["id"] for each in processes if each["type"] == "browser")
        os.kill(pid, signal.SIGKILL)
        await gone
        opened = await shared.opened()
        assert opened.browser is not first
        context = await opened.context()
        assert await (await context.new_page()).evaluate("1 + 1") == 2


async def test_one_refusal_a_photo_is_accepted_after_an_outage() -> None:
    page, observed = silent_page(), Observed()
    async with observed.outage(page):
        pass
    observed.console += [REFUSAL.format(photo="a"), REFUSAL.format(photo="b")]
    await observed.assert_silent(page)
    observed.console.append(REFUSAL.format(photo="a"))
    with pytest.raises(AssertionError):
        await observed.assert_silent(page)


async def test_refusal_without_an_outage_is_a_complaint() -> None:
    page, observed = silent_page(), Observed()
    observed.console.append(REFUSAL.format(photo="a"))
    with pytest.raises(AssertionError):
        await observed.assert_silent(page)
