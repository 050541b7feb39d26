"""The panel with the progress of uploads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from playwright.async_api import Locator, Page, expect

from browsers.support.texts import pattern, text

END_MS: Final = 240_000.0
TABS: Final = ("all", "active", "completed", "failed")


@dataclass(frozen=True, slots=True)
class Panel:
    """Finds its parts in a page."""

    page: Page
    language: str

    @property
    def root(self) -> Locator:
        """The panel; on phones it is a dialog."""
        name = self._text("panel.label")
        floating = self.page.get_by_role("region", name=name, exact=True)
        return floating.or_(self.page.get_by_role("dialog", name=name, exact=True))

    async def open(self) -> None:
        """Open it where it is collapsed, as it is at first on small windows."""
        icon = self.page.get_by_role("button", name=pattern("panel.expand", self.language))
        await expect(self.root.or_(icon)).to_be_visible()
        if await icon.is_visible():
            await icon.click()
        await expect(self.root).to_be_visible()

    def tab(self, name: str) -> Locator:
        """Return one of `TABS`; its name ends with the number of its uploads."""
        named = re.compile(rf"^{re.escape(self._text(f'panel.{name}'))}(\W|\d|$)")
        return self.root.get_by_role("tab", name=named)

    def button(self, key: str) -> Locator:
        return self.root.get_by_role("button", name=self._text(f"panel.{key}"), exact=True)

    def action(self, action: str, file_name: str) -> Locator:
        """Return a button of a row, such as `pause`."""
        name = self._text(f"row.{action}", name=file_name)
        return self.root.get_by_role("button", name=name, exact=True)

    def progress(self, file_name: str) -> Locator:
        """Return the bar of a row."""
        name = self._text("row.progress", name=file_name)
        return self.root.get_by_role("progressbar", name=name, exact=True)

    async def show(self, tab: str) -> None:
        await self.tab(tab).click()
        await expect(self.tab(tab)).to_have_attribute("aria-selected", "true")

    async def count(self, tab: str) -> int:
        """Return the number that a tab shows; 0 without one."""
        digits = re.sub(r"\D", "", await self.tab(tab).inner_text())
        return int(digits or 0)

    async def expect_count(self, tab: str, count: int, *, longest_ms: float = END_MS) -> None:
        """Wait until a tab shows this number."""
        shown = rf"(^|\D){count:,}(\D|$)" if count else r"^\D*0?\D*$"
        await expect(self.tab(tab)).to_have_text(re.compile(shown), timeout=longest_ms)

    async def expect_completed(self, count: int, *, longest_ms: float = END_MS) -> None:
        """Wait until this many are completed and no upload is active."""
        await self.expect_count("completed", count, longest_ms=longest_ms)
        await self.expect_count("active", 0)

    async def expect_hint(self, key: str) -> None:
        """Wait until the panel says what is wrong: `polling`, `offline`, `noNetwork`."""
        await expect(self.root.get_by_text(self._text(f"live.{key}"))).to_be_visible()

    async def expect_reason(self, file_name: str, reason: str) -> None:
        """Wait until the panel shows why this file has failed."""
        row = self.row(file_name)
        await expect(row).to_contain_text(self._text(f"reasons.{reason}"), timeout=END_MS)

    def row(self, file_name: str) -> Locator:
        """Return the row of a file in the list that is shown."""
        named = self.page.get_by_title(file_name, exact=True)
        return self.root.get_by_role("listitem").filter(has=named)

    def summary(self, key: str) -> Locator:
        """Return a line of the summary, such as `uploading`."""
        return self.root.get_by_text(pattern(f"panel.{key}", self.language))

    def _text(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)
