"""How a page begins: what it asks for, and what it says when a part of it does not arrive."""

from __future__ import annotations

from playwright.async_api import Request, Route, expect

from browsers.support.engines import Opened, View
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import visit

EARLY = ("POST /api/auth/refresh", "GET /api/auth/me")


async def abort(route: Route) -> None:
    await route.abort()


async def fail(route: Route) -> None:
    await route.fulfill(status=500, body="")


async def test_page_without_components_says_so(chromium: Opened, site: Site) -> None:
    """In the language of the browser; a reload helps once the file is there."""
    async with visit(site, chromium, View(language="de-DE")) as visitor:
        await visitor.page.route("**/assets/start.js", abort)
        await visitor.open()
        await expect(visitor.page.get_by_role("alert")).to_contain_text("nicht vollständig geladen")
        await expect(visitor.page.get_by_role("main")).not_to_have_attribute("aria-busy", "true")
        await visitor.page.unroute("**/assets/start.js")
        await visitor.page.get_by_role("link", name=visitor.text("common.reload")).click()
        await visitor.expect_logged_out()


async def test_page_without_its_first_module_says_so(chromium: Opened, site: Site) -> None:
    async with visit(site, chromium) as visitor:
        await visitor.page.route("**/assets/index.js", abort)
        await visitor.open()
        await expect(visitor.page.get_by_role("alert")).to_contain_text("could not be loaded")


async def test_page_without_scripts_has_a_text_alone(chromium: Opened, site: Site) -> None:
    """Nothing turns or is busy that will never be done."""
    async with visit(site, chromium, java_script_enabled=False) as visitor:
        await visitor.open()
        # By selectors: to Playwright's other locators, what is in a noscript has no text.
        await expect(visitor.page.locator(".no-script p").first).to_be_visible()
        await expect(visitor.page.locator(".shell-spinner")).to_be_hidden()
        await expect(visitor.page.locator("main[aria-busy]")).to_be_hidden()


async def test_reload_asks_once_who_is_logged_in(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """The early answer is that of the components; without it, they ask on request."""
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        sent: list[str] = []

        def note(request: Request) -> None:
            sent.append(f"{request.method} {request.url.removeprefix(site.url)}")

        visitor.page.on("request", note)
        await visitor.page.reload()
        await visitor.wait_until_in()
        # What the components ask for by themselves is sent before uploads that people begin.
        await visitor.choose(photos.thumbs(1, "started"))
        await visitor.panel.expect_completed(1)
        assert {each: sent.count(each) for each in EARLY} == dict.fromkeys(EARLY, 1)
        await visitor.observed.assert_silent(visitor.page)

        await visitor.page.route("**/api/auth/me", fail)
        await visitor.page.reload()
        retry = visitor.page.get_by_role("button", name=visitor.text("common.retry"))
        await expect(retry).to_be_visible()
        await visitor.page.unroute("**/api/auth/me")
        await retry.click()
        await visitor.wait_until_in()


async def test_list_that_did_not_arrive_is_loaded_on_request(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """The uploads go on without it, and the page with them is not reloaded."""
    async with visit(site, chromium) as visitor:
        await visitor.page.route("**/assets/lists.js*", abort)
        await visitor.log_in()
        await visitor.choose(photos.thumbs(2, "unlisted"))
        await visitor.panel.expect_completed(2)
        alerts = visitor.page.get_by_role("alert").filter(has_text=visitor.text("lists.failed"))
        await expect(alerts.first).to_be_visible()
        retry = alerts.first.get_by_role("button", name=visitor.text("common.retry"))
        async with visitor.page.expect_event(
            "requestfailed", lambda request: "lists.js" in request.url
        ):
            await retry.click()
        await expect(alerts.first).to_be_visible()
        await visitor.page.unroute("**/assets/lists.js*")
        await retry.click()
        await expect(visitor.panel.root.get_by_text("unlisted_0001.jpg")).to_be_visible()
        await expect(alerts).to_have_count(0)
