"""The gallery: its grid, its filters and the view of one photo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from playwright.async_api import Locator, Page, expect

from browsers.support.texts import text

LOADED_MS: Final = 60_000.0


@dataclass(frozen=True, slots=True)
class Gallery:
    """Finds its parts in a page."""

    page: Page
    language: str

    @property
    def grid(self) -> Locator:
        return self.page.get_by_role("grid", name=self._text("gallery.gridLabel"))

    @property
    def photos(self) -> Locator:
        """The photos that are drawn."""
        return self.grid.get_by_role("gridcell")

    def photo(self, file_name: str) -> Locator:
        """Return the link to one photo."""
        return self.grid.get_by_role("link", name=re.compile(re.escape(file_name)))

    def button(self, key: str, **values: object) -> Locator:
        return self.page.get_by_role("button", name=self._text(key, **values), exact=True)

    async def expect_thumbnails(self, count: int) -> None:
        """Wait until this many photos are drawn, each with its picture."""
        await expect(self.photos).to_have_count(count, timeout=LOADED_MS)
        await self.expect_pictures(count)

    async def expect_pictures(self, count: int) -> None:
        """Wait until this many pictures are loaded."""
        pictures = self.grid.get_by_role("img")
        await expect(pictures).to_have_count(count, timeout=LOADED_MS)
        loaded = "pictures => pictures.every((one) => one.complete && one.naturalWidth > 0)"
        await self.page.wait_for_function(
            f"() => ({loaded})([...document.querySelectorAll('[role=grid] img')])",
            timeout=LOADED_MS,
        )

    async def search(self, words: str) -> None:
        """Type words into the empty field."""
        field = self.page.get_by_role("searchbox", name=self._text("gallery.search"))
        await field.press("ControlOrMeta+a")
        await field.press_sequentially(words)

    async def open(self, file_name: str) -> Locator:
        """Open a photo; return its view."""
        await self.photo(file_name).click()
        view = self.view(file_name)
        await expect(view).to_be_visible(timeout=LOADED_MS)
        return view

    def view(self, file_name: str) -> Locator:
        return self.page.get_by_role("dialog", name=self._text("photo.label", name=file_name))

    async def select(self, *file_names: str) -> None:
        """Mark photos for a common action."""
        for file_name in file_names:
            name = self._text("gallery.selectPhoto", name=file_name)
            mark = self.page.get_by_role("checkbox", name=name, exact=True)
            await mark.click(force=True)  # it is drawn when the pointer is above
            await expect(mark).to_have_attribute("aria-checked", "true")

    def _text(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)
