"""The panel of `sluice serve`: the page, and what its policy allows it to reach."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from support.server import standalone


def test_page_may_reach_the_object_listener(tmp_path: Path) -> None:
    """Without a setting: both listen on ports of their own, which the policy has to name."""
    with standalone(tmp_path / "data") as server:
        request = urllib.request.Request(
            f"http://{server.gateway_address}/photos", headers={"accept": "text/html"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            policy = answer.headers["content-security-policy"]
            page = answer.read()
        objects = f"http://{server.objects_address}"
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert b'<div id="root">' in page
    assert rules["connect-src"] == f"'self' {objects}"
    assert objects in rules["img-src"].split()
