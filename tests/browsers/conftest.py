"""Fixtures of the tests in browsers: browsers, sites, photos on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from browsers.support.engines import Engine, Opened, open_browser
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


@pytest.fixture
async def chromium() -> AsyncIterator[Opened]:
    async with open_browser(Engine.CHROMIUM) as opened:
        yield opened


@pytest.fixture(params=list(Engine))
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """Provide each browser that Playwright drives."""
    async with open_browser(request.param) as running:
        yield running


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """Run a server on the embedded backends that the tests of this process share."""
    with shared_server(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
async def site(shared: SharedServer) -> AsyncIterator[Site]:
    """Provide that server behind proxies of the test, with an account of its own."""
    async with shared.site() as running:
        yield running


@pytest.fixture
async def own_site(tmp_path: Path) -> AsyncIterator[Site]:
    """Provide a server of the test alone, which may end it."""
    async with running_site(tmp_path) as running:
        yield running


@pytest.fixture
async def filtered(tmp_path: Path) -> AsyncIterator[Site]:
    """Provide a site whose proxy answers some requests itself; WebSockets do not pass."""
    async with running_site(tmp_path, filters_gateway=True) as running:
        yield running
