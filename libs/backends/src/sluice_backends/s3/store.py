"""Object store on S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from sluice_backends.certificates import check_tls_files
from sluice_backends.s3.addressing import Addressing
from sluice_backends.s3.attributes import to_parameters
from sluice_backends.s3.breaker import Breaker, BreakerState
from sluice_backends.s3.calls import S3Calls
from sluice_backends.s3.capabilities import (
    Capabilities,
    MultipartChecksum,
    multipart_checksum,
    probe,
)
from sluice_backends.s3.checksums import composite_checksum, decode_crc32c, encode_crc32c
from sluice_backends.s3.client import endpoint_of, new_session, open_client
from sluice_backends.s3.conversions import (
    Response,
    expected_object,
    to_etag,
    to_listed_part,
    to_multipart,
    to_object,
    to_tag,
)
from sluice_backends.s3.credentials import CredentialSource
from sluice_backends.s3.errors import checksum_mismatch, invalid_part, store_unavailable
from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import S3Options
from sluice_backends.s3.policy import CallPolicy, guarded
from sluice_backends.s3.presigning import Presigner
from sluice_core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    SluiceError,
    Unimplemented,
)
from sluice_core.objects.body import closing
from sluice_core.objects.keys import check_key
from sluice_core.objects.parts import check_part_number, object_not_found
from sluice_core.ports.object_store import (
    Body,
    ListedObject,
    ObjectAttributes,
    ObjectInfo,
    ObjectPage,
    ObjectStore,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.model import ObjectRef

_PAGE = 1000


@asynccontextmanager
async def open_s3_store(
    options: S3Options, metrics: S3Metrics | None = None
) -> AsyncIterator[ObjectStore]:
    """Open an S3 store with retry and a circuit breaker that counts each attempt.

    No request is sent before the first call; use `check` at start. Raises `ConfigurationError` for
    an invalid endpoint, and for authorities that cannot be loaded.
    """
    check_tls_files("SLUICE_S3__CA_BUNDLE", ca=options.ca_bundle)
    async with AsyncExitStack() as stack:
        session = new_session(options)
        client = await stack.enter_async_context(open_client(options, session))
        presigner = Presigner(
            Addressing(
                options.public_endpoint_url or endpoint_of(client),
                path_style=options.addressing_style == "path",
            ),
            options.region,
            CredentialSource(session),
        )

        def on_state(state: BreakerState) -> None:
            if metrics is not None:
                metrics.breaker_state.set(state)

        policy = CallPolicy(options.retry, Breaker(options.breaker, on_state))
        calls = S3Calls(client, options, metrics)
        yield S3ObjectStore(calls, policy, presigner, options)


# Size: one method for each call of the port.
class S3ObjectStore:
    """An `ObjectStore` on S3. Every call except presigning follows the `CallPolicy`.

    Besides the errors of the port: `InvalidArgument` BAD_KEY for a key that stores normalize
    differently, BAD_RANGE, BAD_PART_NUMBER; `ResourceExhausted` STORE_READS; `FailedPrecondition`
    STORE_REFUSED for any other rejection by the store.
    """

    def __init__(
        self, calls: S3Calls, policy: CallPolicy, presigner: Presigner, options: S3Options
    ) -> None:
        self._calls = calls
        self._policy = policy
        self._presigner = presigner
        self._options = options
        self._capabilities: Capabilities | None = None
        self._probing = asyncio.Lock()

    @guarded()
    async def check(self, bucket: str) -> None:
        # Not HeadBucket: a HEAD response has no body that separates clock skew from a denial.
        await self._calls.run(
            "list_objects_v2", Bucket=bucket, Prefix=self._options.probe_prefix, MaxKeys=1
        )
        await self._find_capabilities(bucket)

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        async def send(body: Body) -> ObjectInfo:
            where, parameters = to_object(ref), to_parameters(attributes)
            can = await self._find_capabilities(ref.bucket)
            response = await self._send("put_object", body, can, **where, **parameters)
            crc = body.crc32c if can.keeps_crc32c else None
            return ObjectInfo(ref, body.size, to_etag(response), crc)

        return await self._policy.call_with_body(body, send)

    @guarded()
    async def open_multipart(
        self, ref: ObjectRef, attributes: ObjectAttributes, *, by_clients: bool = False
    ) -> str:
        parameters: dict[str, Any] = {**to_object(ref), **to_parameters(attributes)}
        can = await self._find_capabilities(ref.bucket)
        parameters |= multipart_checksum(can.client_multipart if by_clients else can.multipart)
        response = await self._calls.run("create_multipart_upload", **parameters)
        if not (multipart_id := response.get("UploadId")):
            raise store_unavailable("sent no confirmation")
        return str(multipart_id)

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        async def send(body: Body) -> PartTag:
            check_part_number(number)
            where = to_multipart(ref, multipart_id)
            can = await self._find_capabilities(ref.bucket)
            response = await self._send("upload_part", body, can, PartNumber=number, **where)
            return PartTag(number, to_etag(response), body.size, body.crc32c)

        return await self._policy.call_with_body(body, send)

    @guarded()
    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        where = to_multipart(ref, multipart_id)
        newest: dict[int, Response] = {}
        after = 0
        while True:
            page = await self._calls.run(
                "list_parts", PartNumberMarker=after, MaxParts=_PAGE, **where
            )
            parts = page.get("Parts", ())
            for part in parts:
                # SeaweedFS keeps and lists a replaced part beside its successor.
                after = int(part["PartNumber"])
                known = newest.get(after)
                if known is None or part["LastModified"] >= known["LastModified"]:
                    newest[after] = part
            if not page.get("IsTruncated") or not parts:
                return [to_tag(part) for _, part in sorted(newest.items())]

    @guarded()
    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        to_object(ref)
        marker: dict[str, Any] = {}
        multipart_ids: list[str] = []
        while True:
            try:
                page = await self._calls.run(
                    "list_multipart_uploads",
                    Bucket=ref.bucket,
                    Prefix=ref.key,
                    MaxUploads=_PAGE,
                    **marker,
                )
            except Unimplemented:
                return multipart_ids
            uploads = page.get("Uploads", ())
            multipart_ids += [upload["UploadId"] for upload in uploads if upload["Key"] == ref.key]
            # A longer key with this prefix sorts after it, so no further match follows.
            if not page.get("IsTruncated") or not uploads or uploads[-1]["Key"] != ref.key:
                return multipart_ids
            marker = {"KeyMarker": ref.key, "UploadIdMarker": uploads[-1]["UploadId"]}

    # Assembling 10,000 parts may take minutes in a healthy store.
    @guarded(may_be_slow=True)
    async def complete_multipart(
        self,
        ref: ObjectRef,
        multipart_id: str,
        parts: Sequence[PartTag],
        *,
        by_clients: bool = False,
    ) -> ObjectInfo:
        where = to_multipart(ref, multipart_id)
        if not parts or any(a.number >= b.number for a, b in pairwise(parts)):
            raise invalid_part()
        can = await self._find_capabilities(ref.bucket)
        kind = can.client_multipart if by_clients else can.multipart
        with_crc32c = kind is not MultipartChecksum.NONE
        listed = [to_listed_part(tag, with_crc32c=with_crc32c) for tag in parts]
        crc = expected_object(ref, "", parts).crc32c
        claims: dict[str, Any] = {}
        if kind is MultipartChecksum.FULL_OBJECT and crc is not None:
            # The store then rejects any other object, so a wrong one is never visible.
            claims = {"ChecksumType": "FULL_OBJECT", "ChecksumCRC32C": encode_crc32c(crc)}
        response = await self._calls.run(
            "complete_multipart_upload",
            stall_seconds=self._options.complete_timeout_seconds,
            MultipartUpload={"Parts": listed},
            **claims,
            **where,
        )
        if not response.get("ETag"):
            # S3 sends the status 200 before it does the work, and may then end without a body.
            raise store_unavailable("sent no confirmation")
        return await self._verify_completed(ref, parts, response)

    @guarded()
    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        try:
            where = to_multipart(ref, multipart_id)
            await self._calls.run("abort_multipart_upload", **where)
        except NotFound as gone:
            if gone.reason != "MULTIPART_NOT_FOUND":
                raise

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        return self._policy.read(lambda: self._read(ref, offset, length))

    @guarded()
    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return await self._head(ref)

    @guarded()
    async def list_objects(self, bucket: str, prefix: str, limit: int, after: str) -> ObjectPage:
        parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": limit}
        if after:
            parameters["ContinuationToken"] = after
        page = await self._calls.run("list_objects_v2", **parameters)
        listed = tuple(
            ListedObject(ObjectRef(bucket, each["Key"]), int(each["Size"]))
            for each in page.get("Contents", ())
        )
        # A store may answer with a page without objects before the last one.
        return ObjectPage(listed, page.get("NextContinuationToken", ""))

    @guarded()
    async def delete(self, ref: ObjectRef) -> None:
        try:
            await self._calls.run("delete_object", **to_object(ref))
        except NotFound as gone:
            if gone.reason != "OBJECT_NOT_FOUND":
                raise

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        check_key(ref.key)
        return await self._presigner.get(ref, lifetime_seconds, filename)

    async def presign_put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        check_key(ref.key)
        # Signing sends no request, so an unknown store is taken for one that knows the condition.
        once = self._capabilities is None or self._capabilities.keeps_objects
        return await self._presigner.put(ref, lifetime_seconds, size, attributes, crc32c, once=once)

    async def presign_part(
        self,
        ref: ObjectRef,
        multipart_id: str,
        number: int,
        lifetime_seconds: int,
        size: int,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        check_part_number(number)
        to_multipart(ref, multipart_id)
        if self._capabilities is not None and not self._capabilities.takes_client_crc32c:
            crc32c = None
        return await self._presigner.part(ref, multipart_id, number, lifetime_seconds, size, crc32c)

    async def _find_capabilities(self, bucket: str) -> Capabilities:
        """Return the capabilities of the store; the first call probes them in this bucket."""
        async with self._probing:
            if self._capabilities is None:
                self._capabilities = await probe(self._calls, bucket, self._options.probe_prefix)
        return self._capabilities

    async def _read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        if offset < 0 or length < 0:
            raise InvalidArgument("BAD_RANGE", "Offset and length of a range are not negative.")
        if length == 0:
            if await self._head(ref) is None:
                raise object_not_found()
            return
        range_ = f"bytes={offset}-{offset + length - 1}"
        try:
            async with closing(self._calls.receive(Range=range_, **to_object(ref))) as blocks:
                async for block in blocks:
                    yield block
        except OutOfRange:
            return  # the range starts beyond the end

    async def _head(self, ref: ObjectRef) -> ObjectInfo | None:
        try:
            response = await self._calls.run(
                "head_object", ChecksumMode="ENABLED", **to_object(ref)
            )
        except NotFound:
            return None
        except (PermissionDenied, FailedPrecondition) as refused:
            raise await self._refusal_cause(ref) from refused
        stored = decode_crc32c(response.get("ChecksumCRC32C"))
        crc = stored.crc32c if stored is not None and stored.parts is None else None
        return ObjectInfo(
            ref,
            int(response["ContentLength"]),
            to_etag(response),
            crc,
            str(response.get("ContentType", "")),
            # Stores differ in the case of header names.
            {name.lower(): value for name, value in response.get("Metadata", {}).items()},
        )

    async def _refusal_cause(self, ref: ObjectRef) -> SluiceError:
        """Return the cause of a rejected HEAD, whose response has no body, by means of a GET."""
        try:
            async with closing(self._calls.receive(Range="bytes=0-0", **to_object(ref))) as blocks:
                await anext(blocks, None)
        except (NotFound, OutOfRange):
            pass
        except SluiceError as reason:
            return reason
        return store_unavailable("rejected a HEAD, but not the following GET")

    async def _send(
        self, operation: str, body: Body, can: Capabilities, **parameters: Any
    ) -> Response:
        return await self._calls.send(
            operation,
            body,
            with_crc32c=can.takes_crc32c,
            verify=not can.checks_crc32c,
            **parameters,
        )

    async def _verify_completed(
        self, ref: ObjectRef, parts: Sequence[PartTag], response: Response
    ) -> ObjectInfo:
        """Return the completed object. Raises `DataLoss` CHECKSUM_MISMATCH if its parts differ."""
        expected = expected_object(ref, to_etag(response), parts)
        stored = decode_crc32c(response.get("ChecksumCRC32C"))
        if stored is None:
            info = await self._head(ref)
            if info is None:
                raise store_unavailable("does not show the object that it completed")
            if info.size != expected.size or not _agree(info.crc32c, expected.crc32c):
                raise checksum_mismatch()
            return info
        if stored.parts is None:
            if not _agree(stored.crc32c, expected.crc32c):
                raise checksum_mismatch()
            return replace(expected, crc32c=stored.crc32c)
        crcs = [tag.crc32c for tag in parts if tag.crc32c is not None]
        # A matching composite proves that the object consists of exactly these parts.
        if len(crcs) == len(parts) and stored != composite_checksum(crcs):
            raise checksum_mismatch()
        return expected


def _agree(stored: int | None, expected: int | None) -> bool:
    return stored is None or expected is None or stored == expected
