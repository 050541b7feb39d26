"""Screenshots against committed baselines, with a tolerance."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops
from playwright.async_api import Locator, Page

BASELINES: Final = Path(__file__).resolve().parents[1] / "screenshots"
FOUND: Final = Path(__file__).resolve().parents[3] / "var" / "screenshots"
"""Of screenshots that differ, and of what differs in them."""
CHANNEL_TOLERANCE: Final = 32
"""Of 255: anti-aliasing differs between releases of a browser."""
SHARE_TOLERANCE: Final = 0.005
"""Share of pixels that may differ by more."""
MOST_SHOTS: Final = 10
"""Of a page that does not stand still; then the last one is compared."""
_DRAWN: Final = """async () => {
  await document.fonts.ready;
  await Promise.all([...document.images].map((one) => one.decode().catch(() => null)));
}"""
REWRITE: Final = "SLUICE_TEST_SCREENSHOTS"


async def assert_looks_like(page: Page, name: str, masked: Sequence[Locator] = ()) -> None:
    """Compare the page with its baseline; with SLUICE_TEST_SCREENSHOTS=rewrite, write that.

    Args:
        masked: elements that differ each time, such as a speed; they are painted over.
    """
    baseline = BASELINES / f"{name}.png"
    if os.environ.get(REWRITE) == "rewrite":
        BASELINES.mkdir(exist_ok=True)
        baseline.write_bytes(_compressed(await _still(page, masked)))
        return
    if not baseline.exists():
        raise AssertionError(f"there is no baseline {name}: run `make screenshots` and look at it")
    expected = baseline.read_bytes()
    if difference_of(expected, await _shot(page, masked)) is None:
        return
    content = await _still(page, masked)
    difference = difference_of(expected, content)
    if difference is not None:
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{name}.png").write_bytes(content)
        raise AssertionError(f"{name}: {difference}; see {FOUND / name}.png")


async def _still(page: Page, masked: Sequence[Locator]) -> bytes:
    """Return the page once two pictures in a row are alike: what arrives late moves the rest."""
    last = await _shot(page, masked)
    for _ in range(MOST_SHOTS):
        before, last = last, await _shot(page, masked)
        if difference_of(before, last) is None:
            break
    return last


async def _shot(page: Page, masked: Sequence[Locator]) -> bytes:
    await page.evaluate(_DRAWN)
    return await page.screenshot(
        animations="disabled", caret="hide", scale="css", mask=list(masked), mask_color="#808080"
    )


def difference_of(before: bytes, after: bytes) -> str | None:
    """Return in which way two pictures differ too much; None if they do not."""
    first, second = (Image.open(io.BytesIO(each)).convert("RGB") for each in (before, after))
    if first.size != second.size:
        return f"the size is {second.size} instead of {first.size}"
    channels = ImageChops.difference(first, second).split()
    largest = ImageChops.lighter(ImageChops.lighter(channels[0], channels[1]), channels[2])
    counts = largest.histogram()[CHANNEL_TOLERANCE + 1 :]
    share = sum(counts) / (first.width * first.height)
    if share <= SHARE_TOLERANCE:
        return None
    box = largest.point(lambda value: 255 if value > CHANNEL_TOLERANCE else 0).getbbox()
    return f"{share:.2%} of the pixels differ, within {box}"


def _compressed(content: bytes) -> bytes:
    """Return the picture without its alpha channel, in as few bytes as PNG can."""
    output = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(output, "PNG", optimize=True)
    return output.getvalue()
