"""S3 by HTTPS with a private authority, and certificates that are refused in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sluice_backends.s3.options import RetryOptions
from sluice_backends.s3.store import open_s3_store
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import MIB, MIN_PART_BYTES, ObjectRef
from support.certificates import REFUSED, Authority, Issued, TlsPaths, write_tls
from support.s3_account import S3Account
from support.tls_terminator import terminating_tls

ATTRIBUTES = ObjectAttributes("application/octet-stream")
ONCE = RetryOptions(attempts=1)


@contextmanager
def https(
    account: S3Account, folder: Path, authority: Authority, issued: Issued
) -> Iterator[dict[str, Any]]:
    """Yield the options of a client that reaches the server by TLS and trusts the authority."""
    paths: TlsPaths = write_tls(folder, authority, issued)
    port = urlsplit(account.endpoint_url).port
    assert port is not None
    with terminating_tls(paths, port) as secure_port:
        yield {
            "endpoint_url": f"https://127.0.0.1:{secure_port}",
            "ca_bundle": str(paths.ca),
            "retry": ONCE,
        }


async def test_objects_travel_by_https(
    account: S3Account, bucket: str, ref: ObjectRef, tmp_path: Path
) -> None:
    authority = Authority()
    content = b"a" * MIN_PART_BYTES + b"b" * MIB
    with https(account, tmp_path, authority, authority.issue()) as changes:
        async with open_s3_store(account.options(**changes)) as store:
            await store.check(bucket)
            multipart_id = await store.open_multipart(ref, ATTRIBUTES)
            parts = [
                await store.put_part(ref, multipart_id, number, BytesBody(piece))
                for number, piece in enumerate(
                    (content[:MIN_PART_BYTES], content[MIN_PART_BYTES:]), start=1
                )
            ]
            await store.complete_multipart(ref, multipart_id, parts)
            blocks = [block async for block in store.read(ref, 0, len(content))]
            assert b"".join(blocks) == content
            assert (await store.presign_get(ref, 60, "a")).startswith(changes["endpoint_url"])


@pytest.mark.parametrize("kind", REFUSED)
async def test_certificate_is_refused_in_one_line(
    account: S3Account, bucket: str, tmp_path: Path, kind: str
) -> None:
    authority, refused = Authority(), REFUSED[kind]
    with https(account, tmp_path, authority, refused.issue(authority)) as changes:
        async with open_s3_store(account.options(**changes)) as store:
            with pytest.raises(Unavailable) as caught:
                await store.check(bucket)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert f"its certificate {refused.problem}; " in caught.value.operator_message
    assert "\n" not in caught.value.operator_message
    # A client learns nothing of the infrastructure.
    assert "certificate" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), ("nonsense", "is not PEM")]
)
async def test_unusable_authority_is_a_configuration_error(
    account: S3Account, tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"SLUICE_S3__CA_BUNDLE: a TLS file {problem}"):
        async with open_s3_store(account.options(ca_bundle=str(path))):
            pytest.fail("opened")
