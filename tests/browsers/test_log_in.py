"""Log-in by link and by password, renewal of tokens, log-out in all tabs."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import expect

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Account, Site, running_site
from browsers.support.visitor import Visitor, visit
from support.waiting import until

LINK = re.compile(r"http://\S+/#login=\S+")
TOKEN_SECONDS = 60


def printed_link(site: Site) -> str:
    """Return the one-time link that the server has printed."""
    found = LINK.search(site.server.log.read_text(encoding="utf-8"))
    assert found is not None, "the server has printed no link"
    return found[0]


async def test_printed_link_logs_in_once(opened: Opened, own_site: Site) -> None:
    """The link leaves the address of the page; a second use is refused with a reason."""
    link = printed_link(own_site)
    async with visit(own_site, opened) as visitor:
        await visitor.page.goto(link)
        await visitor.wait_until_in()
        assert "login=" not in visitor.page.url
        await visitor.observed.assert_silent(visitor.page)
    async with visit(own_site, opened) as stranger:
        await stranger.page.goto(link)
        await stranger.expect_logged_out()
        await expect(
            stranger.page.get_by_text(stranger.text("auth.linkEndedTitle"))
        ).to_be_visible()


async def test_wrong_password_is_refused(opened: Opened, site: Site) -> None:
    async with visit(site, opened) as visitor:
        await visitor.open()
        account = site.account
        await visitor.fill_in_credentials(Account(account.email, "wrong horse battery"))
        reason = visitor.page.get_by_text(visitor.text("auth.wrong"))
        await expect(reason).to_be_visible()
        visitor.observed.forget()
        await visitor.log_in(Account(account.email))
        await visitor.observed.assert_silent(visitor.page)


async def test_log_in_survives_a_reload(opened: Opened, site: Site) -> None:
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        await visitor.page.reload()
        await visitor.wait_until_in()
        await visitor.observed.assert_silent(visitor.page)


async def test_log_out_reaches_other_tabs(opened: Opened, site: Site) -> None:
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        second = Visitor(site, visitor.context, await visitor.context.new_page(), visitor.observed)
        await second.open()
        await second.wait_until_in()
        await visitor.log_out()
        await visitor.expect_logged_out()
        await second.expect_logged_out()
        await second.page.reload()
        await second.expect_logged_out()


async def test_ended_tokens_are_renewed(
    chromium: Opened, photos: PhotoFiles, tmp_path: Path
) -> None:
    """The page's clock is past the end of its token: two tabs renew it, once each at most."""
    settings = {"SLUICE_GATEWAY__ACCESS_TOKEN_SECONDS": str(TOKEN_SECONDS)}
    async with (
        running_site(tmp_path, settings, filters_gateway=True) as site,
        visit(site, chromium) as visitor,
    ):
        await visitor.page.clock.install()
        await visitor.log_in()

        def renewals() -> int:
            requests = site.gateway_faults.requests
            return sum(request == "POST /api/auth/refresh" for request in requests)

        before = renewals()
        await visitor.page.clock.fast_forward((TOKEN_SECONDS + 5) * 1000)
        await visitor.choose(photos.thumbs(3, "renewed"))
        await until(lambda: renewals() > before, what="the token is renewed")
        await visitor.panel.expect_completed(3)
        await visitor.observed.assert_silent(visitor.page)
