"""Fixtures of the tests in browsers: browsers, sites, photos on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from browsers.support.engines import Engine, Opened, SharedBrowser, shared_browser
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import SharedServer, Site, running_site, shared_server
from tools.backends.browsers import described

expect.set_options(timeout=20_000)  # milliseconds; a busy machine takes longer than the default


def pytest_report_header() -> str:
    """Return the versions of the browsers."""
    return f"browsers: {described()}"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoFiles:
    """Return the maker of photos on disk."""
    return PhotoFiles.made_in(tmp_path_factory.mktemp("photos"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder on one event loop, which the shared browsers belong to."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.parent == folder and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_chromium() -> AsyncIterator[SharedBrowser]:
    """Keep a browser that tests share; each visit has a profile of its own."""
    async with shared_browser(Engine.CHROMIUM) as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(Engine))
async def shared_engine(request: pytest.FixtureRequest) -> AsyncIterator[SharedBrowser]:
    """Keep each browser that Playwright drives, shared like the one above."""
    async with shared_browser(request.param) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(shared_chromium: SharedBrowser) -> Opened:
    """Provide the shared Chromium: a crash in one test must not fail all later ones."""
    return await shared_chromium.opened()


@pytest_asyncio.fixture(loop_scope="session")
async def opened(shared_engine: SharedBrowser) -> Opened:
    """Provide each shared browser, as above."""
    return await shared_engine.opened()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """Run a server on the embedded backends that the tests of this process share."""
    with shared_server(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def site(shared: SharedServer) -> AsyncIterator[Site]:
    """Provide that server behind proxies of the test, with an account of its own."""
    async with shared.site() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def own_site(tmp_path: Path) -> AsyncIterator[Site]:
    """Provide a server of the test alone, which may end it."""
    async with running_site(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def filtered(tmp_path: Path) -> AsyncIterator[Site]:
    """Provide a site whose proxy answers some requests itself; WebSockets do not pass."""
    async with running_site(tmp_path, filters_gateway=True) as running:
        yield running
