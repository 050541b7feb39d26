"""Browsers of the distribution, driven by Playwright."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, Playwright, async_playwright

from support.missing import missing
from tools.backends.browsers import need_browser
from tools.backends.errors import ServiceError

FONTS: Final = Path(__file__).with_name("fonts.conf")
"""Leaves one family of fonts, so that pages look the same on every machine."""
START_MS: Final = 60_000.0
ACTION_MS: Final = 15_000.0
DESKTOP: Final = (1280, 800)
_DARK: Final = {False: 0, True: 1}


class Engine(StrEnum):
    """Engines that Playwright drives; the third one is in `browsers.support.webkit`."""

    CHROMIUM = "chromium"
    FIREFOX = "firefox"


@dataclass(frozen=True, slots=True)
class View:
    """How a page is shown.

    size: width and height of the viewport in CSS pixels.
    is_dark: the colours that the system asks for.
    """

    size: tuple[int, int] = DESKTOP
    is_dark: bool = True
    language: str = "en-GB"
    is_touch: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A running browser."""

    engine: Engine
    browser: Browser
    downloads: Path
    """Where it saves files; deleted with it."""

    async def context(self, view: View | None = None, **options: Any) -> BrowserContext:
        """Open a profile of its own."""
        shown = view or View()
        width, height = shown.size
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if shown.is_dark else "light",
            locale=shown.language,
            timezone_id="UTC",
            has_touch=shown.is_touch,
            **options,
        )
        context.set_default_timeout(ACTION_MS)
        return context


def browser_program(name: str) -> str:
    """Return a program of `tools.backends.browsers`, installed where that is allowed.

    Without it the test skips; it fails in CI.
    """
    try:
        return need_browser(name, install=True)
    except ServiceError as error:
        missing(f"{error}, or run `make peers PEERS=browsers` as root")


def browser_environment(**more: str) -> dict[str, str]:
    """Return the environment of a browser."""
    browser_program("fonts")
    return {**os.environ, "FONTCONFIG_FILE": str(FONTS), **more}


@asynccontextmanager
async def open_browser(
    engine: Engine, *arguments: str, is_dark: bool = True
) -> AsyncIterator[Opened]:
    """Run a browser inside the block.

    Args:
        is_dark: as of `View`. Firefox takes it for the whole browser.
    """
    program = browser_program(engine.value)
    with tempfile.TemporaryDirectory(prefix="downloads-") as folder:
        downloads = Path(folder)
        async with async_playwright() as playwright:
            launched = await _launch(playwright, engine, program, arguments, is_dark, downloads)
            try:
                yield Opened(engine, launched, downloads)
            finally:
                await launched.close()


class SharedBrowser:
    """A browser that tests share; started again for the next test after it has crashed."""

    def __init__(self, engine: Engine, stack: AsyncExitStack) -> None:
        self._engine = engine
        self._stack = stack
        self._opened: Opened | None = None

    async def opened(self) -> Opened:
        """Return the running browser."""
        if self._opened is None or not self._opened.browser.is_connected():
            await self._stack.aclose()
            self._opened = await self._stack.enter_async_context(open_browser(self._engine))
        return self._opened


@asynccontextmanager
async def shared_browser(engine: Engine) -> AsyncIterator[SharedBrowser]:
    """Keep a browser from its first use until the end of the block."""
    async with AsyncExitStack() as stack:
        yield SharedBrowser(engine, stack)


async def _launch(
    playwright: Playwright,
    engine: Engine,
    program: str,
    arguments: tuple[str, ...],
    is_dark: bool,
    downloads: Path,
) -> Browser:
    environment: Mapping[str, Any] = browser_environment()
    if engine is Engine.CHROMIUM:
        # Its sandbox cannot be set up by root.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        return await playwright.chromium.launch(
            executable_path=program,
            args=[*sandbox, "--disable-lcd-text", "--font-render-hinting=none", *arguments],
            env=dict(environment),
            downloads_path=downloads,
            timeout=START_MS,
        )
    return await playwright.firefox.launch(
        channel="moz-firefox",  # WebDriver BiDi: a released Firefox lacks Playwright's own protocol
        executable_path=program,
        args=list(arguments),
        env=dict(environment),
        downloads_path=downloads,
        firefox_user_prefs={"ui.systemUsesDarkTheme": _DARK[is_dark]},
        timeout=START_MS,
    )
