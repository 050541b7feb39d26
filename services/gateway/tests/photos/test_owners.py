"""Jobs and photos of other users do not exist."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_core.uploads.model import MIB
from support.photo_gateway import PhotoGateway, reason_of
from support.statements import recording_statements

JOB_ROUTES = [
    ("POST", "/commands/upload-jobs/{}/cancel", None),
    ("GET", "/queries/upload-jobs/{}", None),
]
PHOTO_ROUTES = [
    ("POST", "/commands/upload/{}/parts", {}),
    ("POST", "/commands/upload/{}/finalize", {}),
    ("POST", "/commands/upload/{}/renew", None),
    ("POST", "/commands/upload/{}/retry", None),
    ("POST", "/commands/upload/{}/cancel", None),
    ("POST", "/commands/photos/{}/reprocess", None),
    ("POST", "/commands/photos/{}/tags", {"tags": ["a"]}),
    ("DELETE", "/commands/photos/{}/tags?tag=a", None),
    ("DELETE", "/commands/photos/{}", None),
    ("GET", "/queries/photos/{}", None),
    ("GET", "/queries/photos/{}/download-url", None),
]
ROUTES = [(*route, "JOB_NOT_FOUND") for route in JOB_ROUTES] + [
    (*route, "PHOTO_NOT_FOUND") for route in PHOTO_ROUTES
]


@pytest.mark.parametrize(("method", "path", "body", "reason"), ROUTES)
async def test_foreign_id_is_not_found(
    photos: PhotoGateway, method: str, path: str, body: Any, reason: str
) -> None:
    """The answer is that for an id which nobody has, and nothing changes."""
    job = await photos.create(9 * MIB)
    photo_id = job["items"][0]["photoId"]
    existing = job["jobId"] if reason == "JOB_NOT_FOUND" else photo_id
    before, events = await photos.photo(photo_id), await photos.events()
    # In the same tenant, and a user of the same name in another one.
    for user in ("bob", "rival"):
        foreign = await photos.call(method, path.format(existing), body, user)
        unknown = await photos.call(method, path.format(existing[:-1] + "_"), body, user)
        assert reason_of(foreign) == reason_of(unknown) == (404, reason)
        assert foreign.json()["detail"] == unknown.json()["detail"]
    assert await photos.photo(photo_id) == before
    assert await photos.events() == events


@pytest.mark.parametrize(("method", "path", "body", "reason"), ROUTES)
async def test_foreign_id_costs_what_an_unknown_one_costs(
    photos: PhotoGateway, method: str, path: str, body: Any, reason: str
) -> None:
    """The same statements, so that no time that a stranger measures tells them apart.

    Nothing is locked, so that a stranger neither waits for the owner's requests nor delays them.
    """
    job = await photos.create(9 * MIB)
    existing = job["jobId"] if reason == "JOB_NOT_FOUND" else job["items"][0]["photoId"]
    costs = []
    for identifier in (existing, existing[:-1] + "_"):
        with recording_statements() as statements:
            assert (await photos.call(method, path.format(identifier), body, "bob")).is_error
        costs.append(statements)
    assert costs[0] == costs[1]
    (statement,) = costs[0]
    assert statement.startswith("SELECT"), "one row is read"
    assert "JOIN" not in statement


@pytest.mark.parametrize(("method", "path", "body", "reason"), ROUTES)
async def test_malformed_id_is_refused(
    photos: PhotoGateway, method: str, path: str, body: Any, reason: str
) -> None:
    wanted = "BAD_JOB_ID" if reason == "JOB_NOT_FOUND" else "BAD_PHOTO_ID"
    for bad in ("a%00b", "x" * 65, "%C3%A4", "a:b", "a%0ab", "{}"):
        assert reason_of(await photos.call(method, path.format(bad), body)) == (422, wanted), bad


@pytest.mark.parametrize(("method", "path", "body", "reason"), ROUTES)
async def test_every_route_needs_a_token(
    photos: PhotoGateway, method: str, path: str, body: Any, reason: str
) -> None:
    response = await photos.http.request(method, path.format("x"), json=body)
    assert reason_of(response) == (401, "BAD_TOKEN"), reason
    if method != "GET":
        response = await photos.call(method, path.format("x"), body, "ann.read")
        assert reason_of(response) == (403, "MISSING_SCOPE")


async def test_lists_hold_own_photos_only(photos: PhotoGateway) -> None:
    await photos.create(10)
    for path in ("/queries/photos", "/queries/upload-jobs"):
        assert len((await photos.get(path)).json()["items"]) == 1
        for user in ("bob", "rival"):
            assert (await photos.get(path, user)).json()["items"] == []
