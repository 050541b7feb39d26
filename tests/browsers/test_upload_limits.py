"""The operator's limits, which the panel asks the gateway for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import running_site
from browsers.support.visitor import Visitor, visit
from sluice_core.uploads.model import MIB

LARGEST = 9 * MIB
TUS_ABOVE = 7 * MIB
SETTINGS = {
    "SLUICE_GATEWAY__MAX_PHOTO_BYTES": str(LARGEST),
    "SLUICE_GATEWAY__TUS_ABOVE_BYTES": str(TUS_ABOVE),
}


async def expect_limits(visitor: Visitor) -> None:
    """Wait until the page says how large a photo may be: it has the limits then."""
    await expect(visitor.page.get_by_text(re.compile(r"\b9\sMiB\b"))).to_be_visible()


@pytest.mark.timeout(300)
async def test_operators_limits_count_before_anything_is_sent(
    chromium: Opened, photos: PhotoFiles, tmp_path: Path
) -> None:
    """Too large a file is refused by the page alone; others go as their sizes say."""
    too_large = photos.sized(LARGEST + 1, "too-large")
    by_tus = photos.sized(LARGEST, "by-tus")
    in_parts = photos.sized(TUS_ABOVE, "in-parts")
    (small,) = photos.thumbs(1, "small")
    async with running_site(tmp_path, SETTINGS) as site, visit(site, chromium) as visitor:
        requests: list[str] = []
        visitor.page.on("request", lambda sent: requests.append(f"{sent.method} {sent.url}"))
        await visitor.log_in()
        await expect_limits(visitor)
        await visitor.choose([too_large])
        await visitor.panel.expect_count("failed", 1)
        await visitor.panel.show("failed")
        await visitor.panel.expect_reason(too_large.name, "BAD_PHOTO_SIZE")
        assert await site.jobs() == []
        assert not [sent for sent in requests if "/commands/" in sent]
        await visitor.choose([by_tus, in_parts, small])
        await visitor.panel.expect_completed(3)
        jobs = await site.jobs()
        await visitor.observed.assert_silent(visitor.page)
    names = {job["strategy"]: {photo["filename"] for photo in job["photos"]} for job in jobs}
    assert names == {"tus": {by_tus.name}, "s3-presigned": {in_parts.name, small.name}}
    patched = [sent for sent in requests if sent.startswith("PATCH ")]
    assert patched
    assert all(sent.startswith(f"PATCH {site.url}/files/") for sent in patched)
    # One PUT for the small one, and one for the only part of the other.
    assert len(site.puts()) == 2
