"""The limits that clients ask for are those by which the gateway refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_core.uploads.model import MIB
from sluice_gateway.jobs.options import PhotoOptions
from support.photo_gateway import PhotoGateway, jpeg, photo_gateway, reason_of

PATH = "/queries/upload-limits"
JOBS = "/commands/upload-jobs"


async def test_limits_are_those_of_the_operator(tmp_path: Path) -> None:
    """Each of them is what a new job is checked by."""
    options = PhotoOptions(
        jobs_per_minute=0, max_photo_bytes=9 * MIB, tus_path="/files", tus_above_bytes=7 * MIB
    )
    async with photo_gateway(tmp_path, options=options) as photos:
        limits = (await photos.get(PATH)).json()
        largest, most = limits["maxPhotoBytes"], limits["maxJobPhotos"]
        single = limits["maxSinglePutBytes"]
        assert (largest, limits["tusAboveBytes"]) == (9 * MIB, 7 * MIB)
        refused = await photos.post(JOBS, {"files": [jpeg(size=largest + 1)]})
        assert reason_of(refused) == (422, "BAD_PHOTO_SIZE")
        one, parts, last = (await photos.create(single, single + 1, largest))["items"]
        assert (one["multipart"], parts["presignedUrl"], last["presignedUrl"]) == (None, None, None)
        for count, status in ((most, 201), (most + 1, 422)):
            files = [jpeg(f"{number}.jpg") for number in range(count)]
            assert (await photos.post(JOBS, {"files": files})).status_code == status
        for name in limits["contentTypes"]:
            files = [{"filename": "a", "mimeType": name, "bytes": 1}]
            assert (await photos.post(JOBS, {"files": files})).status_code == 201


@pytest.mark.parametrize("tus_path", ["", "/files"])
async def test_panel_sends_nothing_by_tus_unless_it_is_set(tmp_path: Path, tus_path: str) -> None:
    """Nor where the server does not speak it."""
    above = None if tus_path else 7 * MIB
    options = PhotoOptions(tus_path=tus_path, tus_above_bytes=above)
    async with photo_gateway(tmp_path, options=options) as photos:
        assert (await photos.get(PATH)).json()["tusAboveBytes"] is None


async def test_limits_need_a_token(photos: PhotoGateway) -> None:
    assert reason_of(await photos.http.get(PATH)) == (401, "BAD_TOKEN")


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_one_scope_suffices(photos: PhotoGateway, scope: str) -> None:
    """Who may only create jobs has to know by which limits they are refused."""
    reply = await photos.http.get(PATH, headers={"authorization": f"Bearer ann.{scope}"})
    assert reply.status_code == 200


async def test_unchanged_limits_are_not_sent_again(photos: PhotoGateway) -> None:
    etag = (await photos.get(PATH)).headers["etag"]
    assert (await photos.get(PATH, if_none_match=etag)).status_code == 304
