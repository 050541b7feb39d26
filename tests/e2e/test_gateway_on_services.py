"""A gateway before separate services: photos of a user by signed URL and by tus."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from support.gateway import ANN
from support.pictures import as_stored, quadrants, saved
from support.processes import ServiceProcess
from support.shared_services import shared_services
from support.tus import BODY_TYPE, RESUMABLE
from support.waiting import until

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92)
SECONDS = 120.0


@pytest.mark.slow  # starts four processes on four services
async def test_photos_of_a_user_pass_all_services(tmp_path: Path) -> None:
    """The gateway issues the tokens that intake and repository accept, and passes them on."""
    with ExitStack() as stack:
        services = stack.enter_context(shared_services(tmp_path))
        settings = {**services.settings, "SLUICE_DATA_DIR": str(tmp_path / "data")}
        gateway = ServiceProcess("sluice_gateway", tmp_path, settings)
        url = f"http://{gateway.address}"
        auth = {
            "SLUICE_AUTH__MODE": "jwt",
            "SLUICE_AUTH__ISSUER": url,
            "SLUICE_AUTH__AUDIENCE": "sluice",
        }
        repository = ServiceProcess("sluice_repository", tmp_path, {**settings, **auth})
        servers = {**settings, **auth, "SLUICE_REPOSITORY_SERVER": repository.address}
        intake = ServiceProcess("sluice_intake", tmp_path, servers)
        processor = ServiceProcess("sluice_processor", tmp_path, settings)
        gateway.add_settings({**servers, "SLUICE_INTAKE_SERVER": intake.address})
        stack.enter_context(repository)  # it makes the tables
        others = (gateway, intake, processor)
        for each in others:
            stack.callback(each.close)
        with ThreadPoolExecutor() as threads:
            list(threads.map(ServiceProcess.start, others))
        try:
            async with aiohttp.ClientSession(url, raise_for_status=True) as http:
                await send_photos(http)
        except Exception:
            sys.stderr.writelines(each.log_tail() for each in (*others, repository))
            raise
        assert [each.stop() for each in (*others, repository)] == [0, 0, 0, 0]


async def send_photos(http: aiohttp.ClientSession) -> None:
    """Send a photo in each way, and wait until both are completed."""
    async with http.post("/api/auth/register", json=ANN) as answer:
        user = await answer.json()
    bearer = {"authorization": f"Bearer {user['token']}"}
    jobs = {}
    for strategy in ("s3-presigned", "tus"):
        file = {"filename": f"{strategy}.jpg", "mimeType": "image/jpeg", "bytes": len(PHOTO)}
        body = {"files": [file], "strategy": strategy}
        async with http.post("/commands/upload-jobs", json=body, headers=bearer) as answer:
            jobs[strategy] = await answer.json()
    (put,), (created,) = jobs["s3-presigned"]["items"], jobs["tus"]["items"]
    async with http.put(put["presignedUrl"], data=PHOTO, headers=put["headers"]):
        pass
    async with http.post(f"/commands/upload/{put['photoId']}/finalize", headers=bearer):
        pass
    headers = {**bearer, **created["headers"]}
    async with http.post(created["presignedUrl"], headers=headers) as answer:
        location = answer.headers["location"]
    headers = {**bearer, **RESUMABLE, "upload-offset": "0", "content-type": BODY_TYPE}
    async with http.patch(location, data=PHOTO, headers=headers) as answer:
        assert answer.headers["upload-offset"] == str(len(PHOTO))

    async def ended() -> bool:
        path = "/queries/photos?status=COMPLETED&sort=filename"
        async with http.get(path, headers=bearer) as answer:
            found = {item["filename"]: item for item in (await answer.json())["items"]}
        names = {"s3-presigned.jpg", "tus.jpg"}
        return set(found) == names and all(len(found[name]["thumbnails"]) == 2 for name in names)

    await until(ended, SECONDS, "both photos are completed")
