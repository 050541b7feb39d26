"""Origins that may open a WebSocket."""

from __future__ import annotations

import pytest

from sluice_gateway.live.origins import Origins

ORIGINS = Origins(["https://photos.example", "http://127.0.0.1:8080", "http://[::1]:8080"])


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        ([], True),
        (["https://photos.example"], True),
        (["http://127.0.0.1:8080"], True),
        (["http://[::1]:8080"], True),
        (["http://photos.example"], False),
        (["https://photos.example:444"], False),
        (["https://photos.example.evil"], False),
        (["https://PHOTOS.example"], False),
        (["https://photos.example/"], False),
        (["null"], False),
        ([""], False),
        (["https://photos.example", "https://photos.example"], False),
        (["https://photos.example, https://evil.example"], False),
    ],
)
def test_origin_is_compared_as_a_whole(sent: list[str], allowed: bool) -> None:
    assert ORIGINS.allow(sent) is allowed


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "photos.example", "https://photos.example/", "https://Photos.example", ""),
        *("https://photos.example:443", "http://127.0.0.1:80", "ws://photos.example"),
    ],
)
def test_what_no_browser_sends_is_no_setting(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        Origins([origin])
