"""Signed URLs of the store that the settings choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.url_keys import open_url_keys
from sluice_backends.s3.metrics import S3Metrics
from sluice_common.backends.storage import open_objects
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.errors import Unimplemented
from sluice_core.uploads.model import ObjectRef


async def test_files_have_urls_where_a_listener_serves_them(tmp_path: Path) -> None:
    settings = SluiceSettings(data_dir=tmp_path)
    keys = await open_url_keys(DataDir(tmp_path).url_keys)
    urls = SignedUrls(keys, "http://127.0.0.1:8081/objects")
    ref = ObjectRef(settings.bucket, "key")
    async with open_objects(settings, S3Metrics(), urls) as objects:
        url = await objects.presign_get(ref, 60, "x")
        assert url.startswith(f"http://127.0.0.1:8081/objects/{settings.bucket}/key?op=get&")
    async with open_objects(settings, S3Metrics()) as objects:
        with pytest.raises(Unimplemented, match="PRESIGN_UNSUPPORTED"):
            await objects.presign_get(ref, 60, "x")
