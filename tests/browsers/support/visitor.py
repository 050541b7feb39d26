"""A person at a page: where things are, by role and accessible name, and what they do with them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.async_api import BrowserContext, Locator, Page, expect

from browsers.support.engines import Opened, View
from browsers.support.gallery import Gallery
from browsers.support.observed import Observed, observe
from browsers.support.panel import Panel
from browsers.support.site import Account, Site
from browsers.support.texts import pattern, text

PAGE_MS: Final = 30_000.0
# Without the picker of Chromium alone, pages use the input that Playwright can fill in.
_NO_PICKER: Final = "delete window.showOpenFilePicker; delete window.showDirectoryPicker;"


@dataclass
class Visitor:
    """A tab of a profile."""

    site: Site
    context: BrowserContext
    page: Page
    observed: Observed
    language: str = "en"

    @property
    def panel(self) -> Panel:
        return Panel(self.page, self.language)

    @property
    def gallery(self) -> Gallery:
        return Gallery(self.page, self.language)

    def text(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.site.url + path)

    async def fill_in_credentials(self, account: Account) -> None:
        """Type them and press the button. By keys: React does not see what Firefox inserts."""
        await self.page.get_by_label(self.text("auth.email")).press_sequentially(account.email)
        password = self.page.get_by_label(self.text("auth.password"), exact=True)
        await password.press_sequentially(account.password)
        await self.page.get_by_role(
            "button", name=self.text("auth.submitLogIn"), exact=True
        ).click()

    async def log_in(self, account: Account | None = None, path: str = "/") -> None:
        """Log in with email and password, and wait for the page behind it."""
        who = account or self.site.account
        await self.open(path)
        await self.fill_in_credentials(who)
        await self.wait_until_in()

    async def wait_until_in(self) -> None:
        """Wait for the navigation that only somebody logged in sees."""
        await expect(self._account()).to_be_visible(timeout=PAGE_MS)

    async def log_out(self) -> None:
        await self._account().click()
        await self.page.get_by_role("menuitem", name=self.text("auth.logOut")).click()

    async def expect_logged_out(self) -> None:
        """Wait for the form of the log-in page."""
        await expect(self.page.get_by_label(self.text("auth.email"))).to_be_visible(timeout=PAGE_MS)

    async def go_to(self, key: str) -> None:
        """Follow a link of the navigation: `upload` or `gallery`."""
        navigation = self.page.get_by_role("navigation", name=self.text("nav.label"))
        await navigation.get_by_role("link", name=self.text(f"nav.{key}")).click()

    async def choose(self, files: Sequence[Path], button: str = "drop.chooseFiles") -> None:
        """Choose files as with the dialog of the system."""
        async with self.page.expect_file_chooser() as chosen:
            await self.page.get_by_role("button", name=self.text(button), exact=True).click()
        await (await chosen.value).set_files([str(file) for file in files], timeout=120_000)

    async def drop(self, files: Sequence[Path]) -> None:
        """Drop files from the desktop on the page. Chromium only."""
        session = await self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await session.send(
                "Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 400, "data": data}
            )
        await session.detach()

    async def set_concurrency(self, uploads: int) -> None:
        """Set the number of uploads at once."""
        await self.page.get_by_role("button", name=self.text("uploadPage.settings")).click()
        slider = self.page.get_by_role("slider", name=self.text("uploadPage.concurrency"))
        await slider.fill(str(uploads))
        await slider.press("Escape")

    def toast(self, words: str | re.Pattern[str]) -> Locator:
        region = self.page.get_by_role("region", name=self.text("toasts.region"))
        return region.get_by_text(words)

    def _account(self) -> Locator:
        """The button of the menu of the account, which only somebody logged in sees."""
        return self.page.get_by_role("button", name=pattern("auth.accountMenu", self.language))


def _ignore(_: object) -> None:
    """Leave an event to those who wait for it."""


@asynccontextmanager
async def visit(
    site: Site,
    opened: Opened,
    view: View | None = None,
    *,
    with_picker: bool = False,
    **options: Any,
) -> AsyncIterator[Visitor]:
    """Open a profile of its own with an empty page; nobody is logged in.

    Args:
        with_picker: leaves the pages `showOpenFilePicker`.
    """
    context = await opened.context(view, **options)
    try:
        observed = await observe(context)
        if not with_picker:
            await context.add_init_script(_NO_PICKER)
        language = (view or View()).language.split("-")[0]
        # Intercepted from now on: a dialog that opens at once would be the system's own.
        context.on("page", lambda page: page.on("filechooser", _ignore))
        yield Visitor(site, context, await context.new_page(), observed, language)
    finally:
        await context.close()
