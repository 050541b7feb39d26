"""Creation of upload jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from starlette.datastructures import Headers

from sluice_core.errors import Unavailable, Unimplemented
from sluice_core.objects.marks import marked_trace
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.quotas import Quota
from sluice_core.uploads.model import MIB
from sluice_gateway.auth.homes import HOME_DRIVE
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.tus.headers import upload_length, upload_metadata
from support.photo_gateway import (
    BUCKET,
    TENANT,
    PhotoGateway,
    jpeg,
    photo_gateway,
    reason_of,
)

PATH = "/commands/upload-jobs"
QUOTAS = [Quota(max_bytes=100), Quota(max_nodes=2)]


async def test_job_is_created_with_signed_urls(photos: PhotoGateway) -> None:
    body = {
        "files": [
            jpeg("IMG_001.jpg", 2457811),
            {"filename": "IMG_002.png", "mimeType": "image/png", "bytes": 5 * MIB + 1},
        ],
        "strategy": "S3_PRESIGNED",
    }
    response = await photos.post(PATH, body)
    assert response.status_code == 201
    answer = response.json()
    single, multipart = answer["items"]
    assert single["method"] == "PUT"
    assert single["presignedUrl"].startswith("http://objects.test/objects/")
    assert single["multipart"] is None
    assert single["expiresAt"].endswith("Z")
    assert multipart["presignedUrl"] is None
    assert multipart["multipart"] == {
        "uploadId": f"{multipart['photoId']}-1",
        "partSize": 8 * MIB,
    }
    photo = await photos.photo(single["photoId"])
    assert photo.job_id == answer["jobId"]
    # The rule of the store's access policy: everything of a user below one prefix.
    assert photo.object.key == f"test/{TENANT}/photos/{photo.node_id}"
    assert await photos.events() == ["UploadJobCreated", "PhotoQueued", "PhotoQueued"]
    (update,) = await photos.latest(answer["jobId"])
    assert update.status == "QUEUED"
    assert photos.metrics.jobs.created._value.get() == 1


@pytest.mark.parametrize("size", [10, 6 * MIB], ids=["put", "multipart"])
async def test_unsigned_job_is_not_created(photos: PhotoGateway, size: int) -> None:
    """A store that cannot sign is known before the job is there, for which nobody has a URL."""
    unsigned = Unimplemented("PRESIGN_UNSUPPORTED", "This store signs no URLs.")
    photos.objects.presign_put = AsyncMock(side_effect=unsigned)  # type: ignore[method-assign]
    refused = await photos.post(PATH, {"files": [jpeg(size=size)]})
    assert reason_of(refused) == (501, "PRESIGN_UNSUPPORTED")
    assert (await photos.get("/queries/upload-jobs")).json()["items"] == []
    assert await photos.events() == []


async def test_signed_put_takes_exactly_the_photo(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    assert await photos.put(item, b"x" * 11) == 403
    assert await photos.put({**item, "headers": {"content-type": "text/html"}}, b"x" * 10) == 403
    assert await photos.put(item, b"x" * 10) == 200
    photo = await photos.photo(item["photoId"])
    info = await photos.objects.head(photo.object)
    assert info is not None
    assert (info.size, info.content_type) == (10, "image/jpeg")
    assert photos.environment.created == [photo.object]


async def test_five_mebibytes_are_one_put(photos: PhotoGateway) -> None:
    single, multipart = (await photos.create(5 * MIB, 5 * MIB + 1))["items"]
    assert (single["multipart"], multipart["presignedUrl"]) == (None, None)


async def test_equal_names_become_unique(photos: PhotoGateway) -> None:
    body = {"files": [jpeg("a.jpg"), jpeg("A.jpg"), jpeg("a.jpg")]}
    items = (await photos.post(PATH, body)).json()["items"]
    assert [item["filename"] for item in items] == ["a.jpg", "A (2).jpg", "a (3).jpg"]


async def test_job_is_created_without_the_store(photos: PhotoGateway) -> None:
    """Signing sends no request, so that uploads begin while the circuit breaker is open."""
    down = Unavailable("STORE_CIRCUIT_OPEN", "The store does not answer; try again later.")
    for name in ("head", "open_multipart", "list_parts", "abort_multipart", "check"):
        setattr(photos.objects, name, Mock(side_effect=down))
    assert len((await photos.create(10, 9 * MIB))["items"]) == 2


async def test_thousand_files_are_the_most(photos: PhotoGateway) -> None:
    files = [jpeg(f"{number}.jpg") for number in range(1000)]
    response = await photos.post(PATH, {"files": files})
    assert response.status_code == 201
    assert len(response.json()["items"]) == 1000
    files.append(jpeg("one more.jpg"))
    assert reason_of(await photos.post(PATH, {"files": files})) == (422, "INVALID_REQUEST")
    many = [jpeg(f"{number}.jpg") for number in range(10_001)]
    assert reason_of(await photos.post(PATH, {"files": many})) == (422, "INVALID_REQUEST")


def _file(**changes: Any) -> dict[str, Any]:
    return {**jpeg(), **changes}


@pytest.mark.parametrize(
    ("file", "reason", "field"),
    [
        (_file(filename="../../etc/passwd"), "BAD_FILENAME", "files.0.filename"),
        (_file(filename="a\x00.jpg"), "BAD_FILENAME", "files.0.filename"),
        (_file(filename="a\n.jpg"), "BAD_FILENAME", "files.0.filename"),
        (_file(filename="\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"), "BAD_FILENAME", "files.0.filename"),
        (_file(filename="\\\\host\\a.jpg"), "BAD_FILENAME", "files.0.filename"),
        (_file(filename=".."), "BAD_FILENAME", "files.0.filename"),
        (_file(filename=""), "BAD_FILENAME", "files.0.filename"),
        (_file(filename="ä" * 128), "BAD_FILENAME", "files.0.filename"),
        (_file(mimeType="text/html"), "UNSUPPORTED_CONTENT_TYPE", "files.0.mimeType"),
        (_file(mimeType="image/svg+xml"), "UNSUPPORTED_CONTENT_TYPE", "files.0.mimeType"),
        (_file(mimeType="image/jpeg\r\nx: y"), "UNSUPPORTED_CONTENT_TYPE", "files.0.mimeType"),
        (_file(mimeType=""), "UNSUPPORTED_CONTENT_TYPE", "files.0.mimeType"),
        (_file(bytes=0), "BAD_PHOTO_SIZE", "files.0.bytes"),
        (_file(bytes=-1), "BAD_PHOTO_SIZE", "files.0.bytes"),
        (_file(bytes=200 * MIB + 1), "BAD_PHOTO_SIZE", "files.0.bytes"),
        (_file(bytes=2**63), "BAD_PHOTO_SIZE", "files.0.bytes"),
        (_file(bytes=10**400), "BAD_PHOTO_SIZE", "files.0.bytes"),
        (_file(bytes=1.5), "INVALID_REQUEST", "files.0.bytes"),
        (_file(bytes="10"), "INVALID_REQUEST", "files.0.bytes"),
        (_file(bytes=True), "INVALID_REQUEST", "files.0.bytes"),
        (_file(bytes=None), "INVALID_REQUEST", "files.0.bytes"),
        (_file(filename=7), "INVALID_REQUEST", "files.0.filename"),
        (_file(size=10), "INVALID_REQUEST", "files.0.size"),
        ({"filename": "a.jpg"}, "INVALID_REQUEST", "files.0.mimeType"),
        ("a.jpg", "INVALID_REQUEST", "files.0"),
    ],
    ids=str,
)
async def test_bad_file_is_refused(
    photos: PhotoGateway, file: Any, reason: str, field: str
) -> None:
    """Named by its field, with nothing created, and the next good request succeeds."""
    response = await photos.post(PATH, {"files": [file]})
    assert reason_of(response) == (422, reason)
    assert response.json()["errors"][0]["field"] == field
    assert await photos.events() == []
    await photos.create(10)


@pytest.mark.parametrize(
    "body", [{}, {"files": []}, {"files": None}, {"files": {}}, [], "x", None, {"files": [[]]}]
)
async def test_body_of_another_shape_is_refused(photos: PhotoGateway, body: Any) -> None:
    response = await photos.http.post(
        PATH, json=body, headers={"authorization": "Bearer ann", "content-type": "application/json"}
    )
    assert reason_of(response) == (422, "INVALID_REQUEST")


@pytest.mark.parametrize("strategy", ["ftp", "", "tus", "TUS"])
async def test_unknown_strategy_is_refused(photos: PhotoGateway, strategy: str) -> None:
    response = await photos.post(PATH, {"files": [jpeg()], "strategy": strategy})
    assert reason_of(response) == (422, "BAD_STRATEGY")


async def test_tus_jobs_name_where_uploads_begin(tmp_path: Path) -> None:
    options = PhotoOptions(jobs_per_minute=0, tus_path="/files")
    async with photo_gateway(tmp_path, options) as photos:
        response = await photos.post(PATH, {"files": [jpeg()], "strategy": "tus"})
        (item,) = response.json()["items"]
        assert (item["method"], item["presignedUrl"]) == ("POST", "/files")
        headers = Headers(item["headers"])
        assert headers["tus-resumable"] == "1.0.0"
        assert upload_length(headers) == jpeg()["bytes"]
        assert upload_metadata(headers)["photoId"] == item["photoId"]


async def test_token_without_the_scope_is_refused(photos: PhotoGateway) -> None:
    response = await photos.post(PATH, {"files": [jpeg()]}, "ann.read")
    assert reason_of(response) == (403, "MISSING_SCOPE")
    response = await photos.http.post(PATH, json={"files": [jpeg()]})
    assert reason_of(response) == (401, "BAD_TOKEN")


async def test_read_only_drive_takes_no_job(photos: PhotoGateway) -> None:
    policy = DrivePolicy(read_only=True)
    await photos.catalogue.create_drive(TENANT, HOME_DRIVE, BUCKET, "test/", policy)
    response = await photos.post(PATH, {"files": [jpeg()]})
    assert reason_of(response) == (403, "DRIVE_READ_ONLY")


async def test_jobs_above_the_rate_are_refused(tmp_path: Path) -> None:
    async with photo_gateway(tmp_path, PhotoOptions(jobs_per_minute=2)) as photos:
        for _ in range(2):
            response = await photos.post(PATH, {"files": [jpeg()]})
            assert response.headers["ratelimit-policy"] == '"jobs";q=2;w=60'
        # A request that is not valid takes nothing from the limit.
        assert (await photos.post(PATH, {"files": []})).status_code == 422
        response = await photos.post(PATH, {"files": [jpeg()]})
        assert reason_of(response) == (429, "RATE_LIMITED")
        delay = int(response.headers["retry-after"])
        assert 1 <= delay <= 30
        assert response.headers["ratelimit"] == f'"jobs";r=0;t={delay}'
        assert response.headers["ratelimit-policy"] == '"jobs";q=2;w=60'
        # Another user's limit is their own.
        assert (await photos.post(PATH, {"files": [jpeg()]}, "bob")).status_code == 201


async def test_back_pressure_defers_new_jobs_only(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    photos.environment.retry_after_seconds = 7.0
    response = await photos.post(PATH, {"files": [jpeg()]})
    assert reason_of(response) == (503, "BACK_PRESSURE")
    assert response.headers["retry-after"] == "7"
    assert photos.metrics.jobs.deferred._value.get() == 1
    renewed = await photos.post(f"/commands/upload/{item['photoId']}/renew")
    assert renewed.status_code == 200
    assert await photos.put(renewed.json(), b"x" * 10) == 200


async def test_job_beyond_the_quota_is_refused(photos: PhotoGateway) -> None:
    """The store would take the photos nevertheless, so this is the moment to say it."""
    # Makes the drive.
    await photos.post(f"/commands/upload-jobs/{(await photos.create(10))['jobId']}/cancel")
    await photos.catalogue.set_quota(TENANT, HOME_DRIVE, Quota(max_bytes=100))
    refused = await photos.post(PATH, {"files": [jpeg("a.jpg", 60), jpeg("b.jpg", 41)]})
    assert reason_of(refused) == (507, "QUOTA_EXCEEDED")
    assert refused.json()["metadata"]["requested"] == "101"
    accepted = await photos.post(PATH, {"files": [jpeg("a.jpg", 60), jpeg("b.jpg", 40)]})
    assert accepted.status_code == 201
    await photos.post(f"/commands/upload-jobs/{accepted.json()['jobId']}/cancel")
    await photos.catalogue.set_quota(TENANT, "", Quota(max_nodes=1))
    refused = await photos.post(PATH, {"files": [jpeg("a.jpg", 1), jpeg("b.jpg", 1)]})
    assert refused.json()["metadata"]["scope"] == "tenant"


@pytest.mark.parametrize("drive", ["", HOME_DRIVE], ids=["tenant", "drive"])
@pytest.mark.parametrize("quota", QUOTAS, ids=["bytes", "nodes"])
async def test_open_jobs_hold_their_room(photos: PhotoGateway, drive: str, quota: Quota) -> None:
    """Jobs that fit one by one do not fit together; each gives its room back when it ends."""
    await photos.post(f"/commands/upload-jobs/{(await photos.create(10))['jobId']}/cancel")
    await photos.catalogue.set_quota(TENANT, drive, quota)
    body = {"files": [jpeg("a.jpg", 30), jpeg("b.jpg", 30)]}
    first = await photos.post(PATH, body)
    assert first.status_code == 201, first.text
    assert reason_of(await photos.post(PATH, body)) == (507, "QUOTA_EXCEEDED")
    await photos.post(f"/commands/upload-jobs/{first.json()['jobId']}/cancel")
    second = await photos.post(PATH, body)
    assert second.status_code == 201, second.text
    # What has arrived is usage, and not counted twice.
    sent, _ = (item["photoId"] for item in second.json()["items"])
    await photos.arrive(sent, is_processed=True)
    await photos.catalogue.change_photos([PhotoChange(sent, PhotoStatus.PROCESSING)])
    assert reason_of(await photos.post(PATH, {"files": [jpeg("c.jpg", 41)]})) == (
        507,
        "QUOTA_EXCEEDED",
    )
    if quota.max_bytes:
        assert (await photos.post(PATH, {"files": [jpeg("c.jpg", 40)]})).status_code == 201


async def test_signed_put_carries_the_trace_of_the_job(photos: PhotoGateway) -> None:
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    response = await photos.post(PATH, {"files": [jpeg("a.jpg", 10)]}, traceparent=trace)
    (item,) = response.json()["items"]
    assert response.headers["x-trace-id"] == "ab" * 16
    assert await photos.put(item, bytes(10)) == 200
    photo = await photos.photo(item["photoId"])
    info = await photos.objects.head(photo.object)
    assert info is not None
    assert marked_trace(info.metadata).startswith(f"00-{'ab' * 16}-")
