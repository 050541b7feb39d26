"""Requests of tus on real sockets: what is answered and what is refused."""

from __future__ import annotations

from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from sluice_gateway.options import GatewayOptions
from sluice_gateway.tus.options import TusOptions
from support.gateway import Gateway, Reply, TusBackend, running_gateway
from support.intake import Intake
from support.tus import BODY_TYPE, TusClient, checksum_of, encoded

PANEL = "https://photos.example.com"


def refused(reply: Reply) -> tuple[int, str]:
    assert reply.headers["tus-resumable"] == "1.0.0"
    return reply.status, reply.reason


async def test_options_name_what_the_server_can_do(gateway: Gateway) -> None:
    """Without a token, and without Tus-Resumable."""
    for path in ("/files", "/files/", "/files/x"):
        reply = await gateway.call("OPTIONS", path)
        assert reply.status == 204
        assert reply.headers["tus-version"] == "1.0.0"
        assert reply.headers["tus-extension"] == (
            "creation,creation-with-upload,checksum,expiration,termination,concatenation"
        )
        assert reply.headers["tus-max-size"] == str(64 * 1024 * 1024)
        assert reply.headers["tus-checksum-algorithm"] == "sha1,sha256,md5"


async def test_created_upload_is_described(tus: TusClient) -> None:
    metadata = {"filename": "caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", "filetype": "image/jpeg"}
    path = await tus.created(5, metadata)
    reply = await tus.head(path)
    assert reply.status == 200
    assert reply.headers["tus-resumable"] == "1.0.0"
    assert reply.headers["upload-length"] == "5"
    assert reply.headers["upload-offset"] == "0"
    assert reply.headers["upload-metadata"] == encoded(metadata)
    assert reply.headers["cache-control"] == "no-store"
    assert parsedate_to_datetime(reply.headers["upload-expires"]).tzinfo is not None


async def test_upload_has_name_type_and_metadata(tus: TusClient, intake: Intake) -> None:
    metadata = {"filename": "a.jpg", "filetype": "image/png", "drive": "d", "jobId": "job_1"}
    path = await tus.created(5, metadata)
    status = await intake.of("Bearer ann").status(path.removeprefix("/files/"))
    assert status.drive == "d"
    assert status.path.startswith("job_1/")
    assert status.path.endswith("/a.jpg")
    assert dict(status.metadata) == metadata
    snapshot = await intake.ledger.get(status.upload_id)
    assert snapshot.new.content_type == "image/png"


async def test_bytes_are_appended(tus: TusClient, intake: Intake) -> None:
    path = await tus.created(5)
    first = await tus.patch(path, 0, b"he")
    assert (first.status, first.headers["upload-offset"]) == (204, "2")
    assert "upload-expires" in first.headers
    second = await tus.patch(path, 2, b"llo")
    assert (second.status, second.headers["upload-offset"]) == (204, "5")
    assert "upload-expires" not in second.headers
    status = await intake.of("Bearer ann").status(path.removeprefix("/files/"))
    assert (status.total_chunks, status.received_bytes) == (2, 5)
    assert await tus.offset(path) == 5


async def test_creation_takes_the_first_bytes(tus: TusClient) -> None:
    reply = await tus.create(5, body=b"hel")
    assert (reply.status, reply.headers["upload-offset"]) == (201, "3")
    assert await tus.offset(reply.headers["location"]) == 3


async def test_empty_upload_is_complete_at_once(tus: TusClient) -> None:
    reply = await tus.create(0)
    assert reply.status == 201
    assert "upload-expires" not in reply.headers
    assert await tus.offset(reply.headers["location"]) == 0


async def test_creation_without_key_makes_another_upload(tus: TusClient) -> None:
    assert await tus.created(5, {"filename": "a"}) != await tus.created(5, {"filename": "a"})


async def test_idempotency_key_repeats_a_creation(tus: TusClient) -> None:
    key: dict[str, Any] = {"idempotency_key": "k1"}
    path = await tus.created(5, {"filename": "a"}, **key)
    assert (await tus.patch(path, 0, b"he")).status == 204
    again = await tus.create(5, {"filename": "a"}, **key)
    assert (again.status, again.headers["location"]) == (201, path)
    assert again.headers["upload-offset"] == "2"
    other = await tus.create(6, {"filename": "a"}, **key)
    assert refused(other) == (409, "REQUEST_ID_CONFLICT")
    assert await TusClient(tus.gateway, "bob").created(5, {"filename": "a"}, **key) != path


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1", ""])
async def test_other_versions_are_refused(tus: TusClient, version: str | None) -> None:
    path = await tus.created(5)
    for method, target in (("POST", "/files"), ("PATCH", path), ("DELETE", path)):
        reply = await tus.send(method, target, headers={"tus-resumable": version})
        assert refused(reply) == (412, "TUS_VERSION_UNSUPPORTED")
        assert reply.headers["tus-version"] == "1.0.0"
    assert (await tus.send("HEAD", path, headers={"tus-resumable": version})).status == 412
    assert await tus.offset(path) == 0, "nothing was done"


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 400, "BAD_TUS_HEADER"),
        ({"upload_length": "-1"}, 400, "BAD_TUS_HEADER"),
        ({"upload_length": "5x"}, 400, "BAD_TUS_HEADER"),
        ({"upload_defer_length": "1"}, 501, "DEFERRED_LENGTH_UNSUPPORTED"),
        ({"upload_length": str(64 * 1024 * 1024 + 1)}, 413, "UPLOAD_TOO_LARGE"),
        ({"upload_length": "5", "upload_metadata": "a *"}, 400, "BAD_TUS_HEADER"),
        (
            {"upload_length": "5", "upload_metadata": encoded({"filename": "a/b"})},
            422,
            "BAD_FILENAME",
        ),
        ({"upload_length": "5", "upload_metadata": encoded({"drive": "/"})}, 422, "BAD_DRIVE_NAME"),
        ({"upload_length": "5", "upload_metadata": encoded({"path": "../a"})}, 422, "BAD_PATH"),
        (
            {"upload_length": "5", "upload_metadata": encoded({"filetype": "x"})},
            422,
            "BAD_CONTENT_TYPE",
        ),
        ({"upload_length": "5", "upload_concat": "final"}, 400, "BAD_TUS_HEADER"),
        ({"upload_length": "5", "idempotency_key": ""}, 400, "BAD_TUS_HEADER"),
        ({"upload_length": "5", "idempotency_key": "k" * 129}, 422, "BAD_REQUEST_ID"),
    ],
)
async def test_bad_creations_are_refused(
    tus: TusClient, headers: dict[str, Any], status: int, reason: str
) -> None:
    assert refused(await tus.create(**headers)) == (status, reason)


async def test_bodies_of_other_types_are_refused(tus: TusClient) -> None:
    path = await tus.created(5)
    for other in ("application/octet-stream", f"{BODY_TYPE};x=1", ""):
        reply = await tus.patch(path, 0, b"hello", content_type=other)
        assert refused(reply) == (415, "UNSUPPORTED_MEDIA_TYPE")
    reply = await tus.patch(path, 0, b"hello", content_encoding="gzip")
    assert refused(reply) == (415, "UNSUPPORTED_MEDIA_TYPE")
    reply = await tus.create(5, body=b"hello", content_type="text/plain")
    assert refused(reply) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await tus.offset(path) == 0


async def test_wrong_offsets_are_refused(tus: TusClient) -> None:
    path = await tus.created(5)
    assert (await tus.patch(path, 0, b"he")).status == 204
    for offset in (0, 1, 3, 5, 10**18):
        reply = await tus.patch(path, offset, b"llo")
        assert refused(reply) == (409, "UPLOAD_OFFSET_MISMATCH")
        assert reply.json()["metadata"] == {"offset": "2"}
    assert await tus.offset(path) == 2


async def test_bytes_beyond_the_length_are_refused(tus: TusClient) -> None:
    async def unsized() -> Any:
        yield b"hello"
        yield b"!"

    path = await tus.created(5)
    for body in (b"hello!", unsized()):
        reply = await tus.patch(path, 0, body)
        assert refused(reply) == (413, "UPLOAD_LENGTH_EXCEEDED")
    assert (await tus.patch(path, await tus.offset(path), b"hello")).status == 204
    assert refused(await tus.patch(path, 5, b"!")) == (413, "UPLOAD_LENGTH_EXCEEDED")
    assert (await tus.patch(path, 5, b"")).status == 204, "a repetition of the last step"


async def test_body_of_unknown_length_is_taken(tus: TusClient) -> None:
    async def unsized() -> Any:
        for letter in (b"h", b"e", b"llo"):
            yield letter

    path = await tus.created(5)
    assert (await tus.patch(path, 0, unsized())).headers["upload-offset"] == "5"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unknown", "UPLOAD_NOT_FOUND"),
        ("ledger-" + "0" * 32, "UPLOAD_LOST"),
        ("%C3%A9", "UPLOAD_NOT_FOUND"),
        ("%FF", "UPLOAD_NOT_FOUND"),
        ("%00", "UPLOAD_NOT_FOUND"),
        ("a" * 129, "UPLOAD_NOT_FOUND"),
    ],
)
async def test_unknown_uploads_are_not_found(tus: TusClient, name: str, reason: str) -> None:
    path = f"/files/{name}"
    assert (await tus.head(path)).status == 404
    assert refused(await tus.patch(path, 0, b"x")) == (404, reason)
    assert refused(await tus.send("DELETE", path)) == (404, reason)


async def test_foreign_uploads_are_not_found(tus: TusClient, gateway: Gateway) -> None:
    path = await tus.created(5)
    bob = TusClient(gateway, "bob")
    assert (await bob.head(path)).status == 404
    assert refused(await bob.patch(path, 0, b"hello")) == (404, "UPLOAD_NOT_FOUND")
    assert refused(await bob.send("DELETE", path)) == (404, "UPLOAD_NOT_FOUND")
    assert await tus.offset(path) == 0


async def test_uploads_of_other_clients_are_not_found(tus: TusClient, intake: Intake) -> None:
    """Their chunks have other rules: any order, a declared size."""
    ann = intake.of("Bearer ann")
    opened = await ann.initiate(chunk_size=1024, expected_size=4096)
    assert (await tus.head(f"/files/{opened.upload_id}")).status == 404


async def test_upload_with_a_gap_is_gone(tus: TusClient, intake: Intake) -> None:
    path = await tus.created(5)
    await intake.of("Bearer ann").send(path.removeprefix("/files/"), 1, b"llo")
    assert (await tus.head(path)).status == 410


async def test_terminated_upload_is_gone(tus: TusClient, intake: Intake) -> None:
    path = await tus.created(5, body=None)
    assert (await tus.patch(path, 0, b"he")).status == 204
    assert (await tus.send("DELETE", path)).status == 204
    assert (await tus.head(path)).status == 410
    assert refused(await tus.patch(path, 2, b"llo")) == (410, "UPLOAD_GONE")
    assert refused(await tus.send("DELETE", path)) == (410, "UPLOAD_GONE")


async def test_completing_upload_is_not_terminated(tus: TusClient) -> None:
    path = await tus.created(5)
    await tus.patch(path, 0, b"hello")
    assert refused(await tus.send("DELETE", path)) == (409, "UPLOAD_COMPLETING")


async def test_method_may_be_overridden(tus: TusClient) -> None:
    path = await tus.created(5)
    headers = {"upload-offset": "0", "content-type": BODY_TYPE, "x-http-method-override": "PATCH"}
    reply = await tus.send("POST", path, data=b"he", headers=headers)
    assert (reply.status, reply.headers["upload-offset"]) == (204, "2")
    deleted = await tus.send("POST", path, headers={"x-http-method-override": "DELETE"})
    assert deleted.status == 204


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/files", "OPTIONS, POST"),
        ("PUT", "/files/x", "DELETE, HEAD, OPTIONS, PATCH"),
        ("POST", "/files/x", "DELETE, HEAD, OPTIONS, PATCH"),
    ],
)
async def test_other_methods_are_refused(
    tus: TusClient, method: str, path: str, allow: str
) -> None:
    reply = await tus.send(method, path)
    assert refused(reply) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
async def test_checksum_guards_a_body(tus: TusClient, intake: Intake, algorithm: str) -> None:
    body = b"a" * 3_000_000
    path = await tus.created(len(body))
    wrong = await tus.patch(path, 0, body, upload_checksum=checksum_of(body[1:], algorithm))
    assert refused(wrong) == (460, "UPLOAD_CHECKSUM_MISMATCH")
    assert await tus.offset(path) == 0, "the body counts as a whole or not at all"
    right = await tus.patch(path, 0, body, upload_checksum=checksum_of(body, algorithm))
    assert (right.status, right.headers["upload-offset"]) == (204, str(len(body)))


async def test_refused_first_bytes_leave_no_upload(tus: TusClient, intake: Intake) -> None:
    reply = await tus.create(5, body=b"hello", upload_checksum=checksum_of(b"other"))
    assert refused(reply) == (460, "UPLOAD_CHECKSUM_MISMATCH")
    page = await intake.ledger.list_uploads("Bearer ann", frozenset(), 10, "")
    assert [upload.status for upload in page.uploads] == ["ABORTED"]


async def test_unusable_checksums_are_refused(tus: TusClient, options: TusOptions) -> None:
    async def unsized() -> Any:
        yield b"hello"

    path = await tus.created(options.max_size)
    checksum = checksum_of(b"hello")
    reply = await tus.patch(path, 0, unsized(), upload_checksum=checksum)
    assert refused(reply) == (411, "LENGTH_REQUIRED")
    reply = await tus.patch(path, 0, b"hello", upload_checksum="crc32 AAAA")
    assert refused(reply) == (400, "CHECKSUM_ALGORITHM_UNSUPPORTED")
    assert await tus.offset(path) == 0


async def test_requests_need_a_token(tmp_path: Path, backend: TusBackend) -> None:
    def with_keys(options: GatewayOptions) -> GatewayOptions:
        return replace(options, is_keyless=False, loopback_names_only=False, origins=(PANEL,))

    own = replace(backend, authentication=None)
    async with running_gateway(tmp_path, tus=own, change=with_keys) as gateway:
        reply = await TusClient(gateway).create(5)
        assert refused(reply) == (401, "NO_CREDENTIALS")
        reply = await TusClient(gateway, "forged").create(5)
        assert refused(reply) == (401, "BAD_TOKEN")


async def test_pages_of_configured_origins_may_upload(tmp_path: Path, backend: TusBackend) -> None:
    """What tus-js-client sends is allowed, and what it reads is exposed."""

    def with_origin(options: GatewayOptions) -> GatewayOptions:
        return replace(options, is_keyless=False, loopback_names_only=False, origins=(PANEL,))

    async with running_gateway(tmp_path, tus=backend, change=with_origin) as gateway:
        asked = {"origin": PANEL, "access-control-request-method": "PATCH"}
        preflight = (await gateway.call("OPTIONS", "/files/x", headers=asked)).headers
        assert "PATCH" in preflight["access-control-allow-methods"]
        allowed = preflight["access-control-allow-headers"].split(", ")
        assert {
            "authorization", "content-type", "tus-resumable", "upload-length", "upload-metadata",
            "upload-offset", "upload-concat", "upload-checksum", "x-http-method-override",
            "x-request-id",
        } <= set(allowed)  # fmt: skip
        reply = await TusClient(gateway, "ann").create(5, origin=PANEL)
        assert reply.headers["access-control-allow-origin"] == PANEL
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"Location", "Upload-Offset", "Upload-Length", "Tus-Resumable"} <= set(exposed)
        foreign = await TusClient(gateway, "ann").create(5, origin="https://evil.example")
        assert "access-control-allow-origin" not in foreign.headers


async def test_upload_needs_partial_uploads_to_be_final(tus: TusClient) -> None:
    whole = await tus.created(5)
    reply = await tus.create(upload_concat=f"final;{whole}")
    assert refused(reply) == (400, "UPLOAD_NOT_PARTIAL")
    partial = await tus.created(5, upload_concat="partial")
    assert (await tus.head(partial)).headers["upload-concat"] == "partial"
    reply = await tus.create(upload_concat=f"final;{partial}")
    assert refused(reply) == (409, "PARTIAL_UPLOAD_INCOMPLETE")
    assert (await tus.patch(partial, 0, b"hello")).status == 204
    status = await tus.head(partial)
    assert "upload-expires" in status.headers, "it waits for its final upload"


async def test_lost_intake_is_unavailable(tmp_path: Path, backend: TusBackend) -> None:
    away = replace(backend, intake="127.0.0.1:1")
    async with running_gateway(tmp_path, tus=away) as gateway:
        reply = await TusClient(gateway, "ann").create(5)
        assert refused(reply) == (503, "INTAKE_UNAVAILABLE")
        assert "127.0.0.1" not in reply.content.decode()


async def test_services_without_keys_take_no_users(tmp_path: Path, intake: Intake) -> None:
    """They would take the uploads of every user for those of the local one."""
    options = TusOptions(complete_seconds=0.0, local_only=True)
    backend = TusBackend(intake.address, "127.0.0.1:1", options)
    async with running_gateway(tmp_path, tus=backend) as gateway:
        session = await gateway.register()
        refused = await TusClient(gateway, session["token"]).create(5)
        assert (refused.status, refused.reason) == (501, "TUS_NEEDS_KEYS")
