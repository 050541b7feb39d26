"""Pages of a listing, as a store may cut them."""

from __future__ import annotations

from typing import Any, cast

from sluice_backends.s3.breaker import Breaker
from sluice_backends.s3.calls import S3Calls
from sluice_backends.s3.options import S3Options
from sluice_backends.s3.policy import CallPolicy
from sluice_backends.s3.presigning import Presigner
from sluice_backends.s3.store import S3ObjectStore


class ScriptedClient:
    """Answers listings by the cursor of the request."""

    def __init__(self, pages: dict[str, dict[str, Any]]) -> None:
        self._pages = pages

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
        return self._pages[parameters.get("ContinuationToken", "")]


async def test_empty_page_is_not_the_last_one() -> None:
    client = ScriptedClient(
        {
            "": {"IsTruncated": True, "NextContinuationToken": "opaque", "Contents": []},
            "opaque": {"IsTruncated": False, "Contents": [{"Key": "a", "Size": 1}]},
        }
    )
    options = S3Options()
    calls = S3Calls(cast(Any, client), options, None)
    policy = CallPolicy(options.retry, Breaker(options.breaker, lambda _: None))
    store = S3ObjectStore(calls, policy, cast(Presigner, None), options)
    first = await store.list_objects("bucket", "", 10, "")
    assert (first.objects, first.next_after) == ((), "opaque")
    last = await store.list_objects("bucket", "", 10, first.next_after)
    assert ([each.ref.key for each in last.objects], last.next_after) == (["a"], "")
