"""Pages by axe, and by keyboard alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import FloatRect, Page, expect

from browsers.support.engines import Opened, View
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.missing import missing

AXE: Final = (
    Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
)
WCAG: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGE: Final = [*WCAG, "best-practice"]
"""A page besides has landmarks and one main heading, which a dialog above it hides."""
MOST_TABS: Final = 60
THEMES: Final = pytest.mark.parametrize("is_dark", [True, False], ids=["dark", "light"])
VIEWS: Final = pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])


def axe_source() -> str:
    """Return the script of axe, which `make web-install` installs."""
    if not AXE.exists():
        missing("there is no axe-core: run `make web-install`")
    return AXE.read_text(encoding="utf-8")


async def findings(page: Page, tags: Sequence[str] = PAGE) -> list[str]:
    """Return what axe finds on the page as it is: rule, impact and elements of each."""
    # By the debugger, which the policy of the page does not concern.
    await page.evaluate(axe_source())
    options = {"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]}
    found: dict[str, Any] = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@THEMES
@VIEWS
async def test_axe_finds_nothing(
    chromium: Opened, site: Site, photos: PhotoFiles, is_dark: bool, size: tuple[int, int]
) -> None:
    """On each page, with and without content; in both themes, which differ in contrast."""
    files = photos.thumbs(8, "axe")
    broken = photos.written("axe_broken.jpg", photos.small[:-500])
    refused = photos.written("axe_notes.txt", b"no photo")
    found: dict[str, list[str]] = {}
    async with visit(site, chromium, View(size, is_dark)) as visitor:
        page = visitor.page
        await visitor.open()
        await visitor.expect_logged_out()
        found["log-in"] = await findings(page)
        await visitor.log_in()
        found["empty upload page"] = await findings(page)
        await visitor.go_to("gallery")
        await expect(page.get_by_text(visitor.text("gallery.emptyTitle"))).to_be_visible()
        found["empty gallery"] = await findings(page)
        await visitor.go_to("upload")
        await visitor.choose([*files, broken, refused])
        await visitor.panel.open()
        await visitor.panel.expect_completed(len(files))
        await visitor.panel.expect_count("failed", 2)
        for tab in ("all", "active", "completed", "failed"):
            await visitor.panel.show(tab)
            found[f"panel, {tab}"] = await findings(page)
        await visitor.panel.button("collapse").click()
        found["collapsed panel"] = await findings(page)
        await visitor.go_to("gallery")
        await expect(visitor.gallery.photos.first).to_be_visible()
        found["gallery"] = await findings(page)
        await visitor.gallery.open("axe_0001.jpg")
        found["photo"] = await findings(page, WCAG)
        await page.goto(f"{site.url}/no-such-page")
        await expect(page.get_by_text(visitor.text("notFound.title"))).to_be_visible()
        found["missing page"] = await findings(page)
    problems = [f"{where}: {line}" for where, lines in found.items() for line in lines]
    assert problems == [], "\n".join(problems)


async def focus_by_tab(visitor: Visitor, name: str) -> None:
    """Press Tab until an element with this name has the focus, and shows that it has."""
    is_there = """name => {
      const focused = document.activeElement;
      const own = focused?.getAttribute("aria-label") ?? focused?.textContent ?? "";
      return focused?.matches("a, button, [role=tab]") && own.trim().startsWith(name);
    }"""
    for _ in range(MOST_TABS):
        await visitor.page.keyboard.press("Tab")
        if await visitor.page.evaluate(is_there, name):
            break
    else:
        raise AssertionError(f"Tab does not reach {name!r}")
    outline = "() => { const s = getComputedStyle(document.activeElement);"
    outline += " return s.outlineStyle !== 'none' || s.boxShadow !== 'none'; }"
    assert await visitor.page.evaluate(outline), f"{name!r} does not show its focus"


async def test_upload_by_keyboard_alone(opened: Opened, site: Site, photos: PhotoFiles) -> None:
    """Log in, choose files, look at a tab of the panel, clear it: no pointer is used."""
    (file,) = photos.thumbs(1, "keyboard")
    async with visit(site, opened) as visitor:
        page = visitor.page
        await visitor.open()
        email = page.get_by_label(visitor.text("auth.email"))
        await email.focus()
        await page.keyboard.type(site.account.email)
        await page.keyboard.press("Tab")
        await expect(page.get_by_label(visitor.text("auth.password"), exact=True)).to_be_focused()
        await page.keyboard.type(site.account.password)
        await page.keyboard.press("Enter")
        await visitor.wait_until_in()
        await focus_by_tab(visitor, visitor.text("drop.chooseFiles"))
        async with page.expect_file_chooser() as chosen:
            await page.keyboard.press("Enter")
        await (await chosen.value).set_files(str(file))
        await visitor.panel.expect_completed(1)
        await focus_by_tab(visitor, visitor.text("panel.all"))
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
        selected = visitor.panel.tab("completed")
        await expect(selected).to_have_attribute("aria-selected", "true")
        await focus_by_tab(visitor, visitor.text("row.clear", name=file.name))
        await page.keyboard.press("Enter")
        await expect(visitor.panel.root).to_have_count(0)  # it is there for uploads alone
        await visitor.observed.assert_silent(page)


async def test_panel_moves_by_keyboard_and_stays(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """Arrow keys move it within the window; a reload keeps the place, Home puts it back."""
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.choose(photos.thumbs(1, "moved"))
        await visitor.panel.expect_completed(1)
        corner = await box(visitor)
        handle = visitor.panel.button("move")
        await handle.focus()
        for _ in range(5):
            await handle.press("ArrowLeft")
            await handle.press("ArrowUp")
        moved = await box(visitor)
        assert moved["x"] < corner["x"]
        assert moved["y"] < corner["y"]
        for _ in range(200):
            await handle.press("ArrowLeft")
        assert (await box(visitor))["x"] >= 0
        await handle.press("Home")
        assert await box(visitor) == corner


async def box(visitor: Visitor) -> FloatRect:
    """Return where the panel is."""
    found = await visitor.panel.root.bounding_box()
    assert found is not None
    return found
