"""Presigned URLs: equal to botocore's, refused attributes, credentials that change."""

from __future__ import annotations

import asyncio
import calendar
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.config  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from sluice_backends.s3.addressing import Addressing
from sluice_backends.s3.checksums import encode_crc32c
from sluice_backends.s3.client import endpoint_of
from sluice_backends.s3.credentials import CredentialSource
from sluice_backends.s3.options import S3Options
from sluice_backends.s3.presigning import Presigner
from sluice_backends.s3.store import open_s3_store
from sluice_core.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from sluice_core.objects.presigning import DOWNLOAD_TYPE, attachment
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import ObjectRef

PLAIN = ObjectAttributes()
REF = ObjectRef("photos", "tenant/drive/node-1")

# ------------------------------------------------------------------ botocore as the oracle


class Keys:
    """Stands for a session of botocore with constant credentials."""

    def __init__(self, access_key: str, secret_key: str, token: str | None) -> None:
        self.access_key, self.secret_key, self.token = access_key, secret_key, token

    async def get_credentials(self) -> Keys:
        return self

    async def get_frozen_credentials(self) -> Keys:
        return self


class Account:
    """One endpoint and account, signed by botocore and by us."""

    def __init__(
        self,
        endpoint_url: str | None,
        region: str = "eu-central-1",
        *,
        style: str = "path",
        token: str | None = None,
        **variant: bool,
    ) -> None:
        session = botocore.session.Session()
        # An access key may hold any character; botocore escapes the slash of the scope, too.
        session.set_credentials("AKIA+EXAMPLE/1", "wJalr/XUtn+FEMI=K7MDENG", token)
        self.botocore: Any = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_url,
            config=botocore.config.Config(
                signature_version="s3v4",
                s3={"addressing_style": style, "payload_signing_enabled": False},
                request_checksum_calculation="when_required",
                **variant,
            ),
        )
        keys = Keys("AKIA+EXAMPLE/1", "wJalr/XUtn+FEMI=K7MDENG", token)
        addressing = Addressing(
            endpoint_url or endpoint_of(self.botocore), path_style=style == "path"
        )
        self.now = 0.0
        self.ours = Presigner(addressing, region, CredentialSource(keys), lambda: self.now)

    def expected(self, operation: str, lifetime: int, **parameters: Any) -> str:
        """Return botocore's URL, and set our clock to the moment when it was signed."""
        url: str = self.botocore.generate_presigned_url(
            operation, Params=parameters, ExpiresIn=lifetime
        )
        signed_at = time.strptime(dict(parse_qsl(urlsplit(url).query))["X-Amz-Date"], _DATE)
        self.now = calendar.timegm(signed_at) + 0.75
        return url


_DATE = "%Y%m%dT%H%M%SZ"

ENDPOINTS: Mapping[str, Callable[[], Account]] = {
    "path": partial(Account, "http://minio:9000"),
    "https path": partial(Account, "https://Store.Example.org", "us-east-1", token="t/o+k=en"),
    "default port": partial(Account, "http://store:80"),
    "default port of https": partial(Account, "https://store:443"),
    "https port of http": partial(Account, "http://store:443"),
    "below a path": partial(Account, "https://proxy.example.org:8443/s3/"),
    "ipv4": partial(Account, "http://127.0.0.1:9000", style="virtual"),
    "ipv6": partial(Account, "http://[::1]:9000", style="virtual", token="t"),
    "host": partial(Account, "http://store.example.org:9000", style="virtual"),
    "host below a path": partial(
        Account, "https://store.example.org/s3", style="virtual", token="t=="
    ),
    "aws": partial(Account, None, style="virtual", token="t"),
    "aws oldest": partial(Account, None, "us-east-1", style="virtual"),
    "aws path": partial(Account, None, "us-west-2"),
    "aws fips": partial(Account, None, "us-east-1", style="virtual", use_fips_endpoint=True),
    "aws dual stack": partial(Account, None, style="virtual", use_dualstack_endpoint=True),
    "aws china": partial(Account, None, "cn-north-1", style="virtual"),
    "aws government": partial(Account, None, "us-gov-west-1", style="virtual"),
}


@cache
def account_of(name: str) -> Account:
    """Return the account of this name; a client of botocore takes 10 ms of processor."""
    return ENDPOINTS[name]()


def same_url(ours: str, theirs: str) -> bool:
    """Compare URLs; the order of the parameters is free, the signature covers it sorted."""
    a, b = urlsplit(ours), urlsplit(theirs)
    parameters = [sorted(parse_qsl(url.query, True, True)) for url in (a, b)]
    return (a.scheme, a.netloc, a.path) == (b.scheme, b.netloc, b.path) and (
        parameters[0] == parameters[1]
    )


def assume_possible(account: str, bucket: str) -> None:
    """Skip a bucket with dots at an IP address, whose host botocore makes `a.b.127.0.0.1`."""
    assume("ip" not in account or "." not in bucket)


accounts = st.sampled_from(sorted(ENDPOINTS))
odd = st.text(
    st.one_of(
        st.sampled_from(" +~%&=?#:;@,'\"()*!$[]{}|\\^`<>-._\x7f\n\t"),
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"),
    ),
    min_size=1,
    max_size=12,
).filter(lambda segment: segment not in (".", ".."))
keys = st.lists(odd, min_size=1, max_size=3).map("/".join)
buckets = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{1,20}[a-z0-9]", fullmatch=True),
    st.sampled_from(["a.b", "a..b", "a.-b", "Capital", "under_score", "1.2.3.4", "a" * 63, "ab"]),
).filter(lambda bucket: not bucket.endswith("--x-s3"))  # S3 Express signs with sessions
sizes = st.integers(0, 5 << 40)
lifetimes = st.integers(1, 7 * 24 * 3600)
checksums = st.none() | st.integers(0, 2**32 - 1)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
attributes = st.builds(
    ObjectAttributes,
    st.sampled_from(["", "image/jpeg", "text/plain; charset=utf-8", "application/x.y+json"]),
    st.sampled_from(["", "STANDARD", "GLACIER_IR"]),
    st.sampled_from(["", "AES256", "aws:kms", "aws:kms:alias/a-b", "aws:kms:dsse"]),
    st.dictionaries(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), printable, max_size=4),
)


@pytest.mark.no_cover
@settings(max_examples=150, deadline=None)
@given(accounts, buckets, keys, sizes, lifetimes, attributes, checksums, st.booleans())
@example("aws fips", "photos", "a", 1, 1, ObjectAttributes(), None, True)
@example("aws dual stack", "photos", "a", 1, 1, ObjectAttributes(), None, False)
@example(
    "host", "a.b", "ü +~/%41=&.jpg", 0, 1, ObjectAttributes("", metadata={"e": ""}), None, True
)
@example("path", "photos", "~", 1, 1, ObjectAttributes("", metadata={"s": " a   b "}), 0, True)
def test_put_url_equals_botocores(
    account: str,
    bucket: str,
    key: str,
    size: int,
    lifetime: int,
    attributes: ObjectAttributes,
    crc: int | None,
    once: bool,
) -> None:
    assume_possible(account, bucket)
    one = account_of(account)
    parameters: dict[str, Any] = {
        "Bucket": bucket,
        "Key": key,
        "ContentLength": size,
        "ContentType": attributes.content_type,
    }
    if attributes.metadata:
        parameters["Metadata"] = dict(attributes.metadata)
    if attributes.storage_class:
        parameters["StorageClass"] = attributes.storage_class
    if attributes.encryption:
        kind, _, kms_key = attributes.encryption.partition("kms:")
        is_keyed = bool(kms_key) and kms_key != "dsse"
        parameters["ServerSideEncryption"] = f"{kind}kms" if is_keyed else attributes.encryption
        if is_keyed:
            parameters["SSEKMSKeyId"] = kms_key
    if crc is not None:
        parameters["ChecksumCRC32C"] = encode_crc32c(crc)
    if once:
        parameters["IfNoneMatch"] = "*"
    theirs = one.expected("put_object", lifetime, **parameters)
    signed = asyncio.run(
        one.ours.put(ObjectRef(bucket, key), lifetime, size, attributes, crc, once=once)
    )
    assert same_url(signed.url, theirs)
    # Exactly the signed headers are announced, but for those that every client sets itself.
    names = dict(parse_qsl(urlsplit(signed.url).query))["X-Amz-SignedHeaders"].split(";")
    assert {*signed.headers, "content-length", "host"} == set(names)


@settings(max_examples=80, deadline=None)
@given(accounts, keys, odd, st.integers(1, 10_000), sizes, lifetimes, checksums)
@example("aws", "a+b", "~id==", 1, 0, 1, None)
def test_part_url_equals_botocores(
    account: str,
    key: str,
    multipart_id: str,
    number: int,
    size: int,
    lifetime: int,
    crc: int | None,
) -> None:
    one = account_of(account)
    checksum = {} if crc is None else {"ChecksumCRC32C": encode_crc32c(crc)}
    theirs = one.expected(
        "upload_part",
        lifetime,
        Bucket="photos",
        Key=key,
        UploadId=multipart_id,
        PartNumber=number,
        ContentLength=size,
        **checksum,
    )
    signed = asyncio.run(
        one.ours.part(ObjectRef("photos", key), multipart_id, number, lifetime, size, crc)
    )
    assert same_url(signed.url, theirs)
    assert list(signed.headers) == ([] if crc is None else ["x-amz-checksum-crc32c"])


@settings(max_examples=80, deadline=None)
@given(accounts, buckets, keys, odd, lifetimes)
def test_get_url_equals_botocores(
    account: str, bucket: str, key: str, filename: str, lifetime: int
) -> None:
    assume_possible(account, bucket)
    one = account_of(account)
    theirs = one.expected(
        "get_object",
        lifetime,
        Bucket=bucket,
        Key=key,
        ResponseContentDisposition=attachment(filename),
        ResponseContentType=DOWNLOAD_TYPE,
    )
    assert same_url(asyncio.run(one.ours.get(ObjectRef(bucket, key), lifetime, filename)), theirs)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (ObjectAttributes("image/jpeg\r\nx-amz-acl: public-read"), "BAD_CONTENT_TYPE"),
        (ObjectAttributes(metadata={"a": "b\nx-amz-acl:public-read"}), "BAD_METADATA"),
        (ObjectAttributes(metadata={"a": "grün"}), "BAD_METADATA"),
        (ObjectAttributes(metadata={"a:b\nc": "d"}), "BAD_METADATA"),
        (ObjectAttributes(metadata={"Upper": "d"}), "BAD_METADATA"),
        (ObjectAttributes(metadata={"": "d"}), "BAD_METADATA"),
        (ObjectAttributes(storage_class="cheap"), "BAD_STORAGE_CLASS"),
        (ObjectAttributes(encryption="rot13"), "BAD_ENCRYPTION"),
    ],
)
async def test_attributes_that_are_no_headers_are_refused(
    attributes: ObjectAttributes, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        await account_of("path").ours.put(REF, 60, 1, attributes, None, once=True)


async def test_ambiguous_names_are_refused() -> None:
    options = S3Options("http://store", access_key=SecretStr("a"), secret_key=SecretStr("b"))
    async with open_s3_store(options) as store:
        for key in ("", "a//b", "../a", "a/.", "\ud800", "ü" * 513):
            ref = ObjectRef("photos", key)
            for call in (
                store.presign_get(ref, 60, "x"),
                store.presign_put(ref, 60, 1, PLAIN),
                store.presign_part(ref, "id", 1, 60, 1),
            ):
                with pytest.raises(InvalidArgument, match="BAD_KEY"):
                    await call
        for bucket in ("", "a/b", "a?b", "ü"):
            with pytest.raises(InvalidArgument, match="BAD_BUCKET"):
                await store.presign_get(ObjectRef(bucket, "key"), 60, "x")
        for number in (0, 10_001, -1):
            with pytest.raises(InvalidArgument, match="BAD_PART_NUMBER"):
                await store.presign_part(REF, "id", number, 60, 1)
        for multipart_id in ("", "..", "a//b"):
            with pytest.raises(NotFound, match="MULTIPART_NOT_FOUND"):
                await store.presign_part(REF, multipart_id, 1, 60, 1)


# ------------------------------------------------------------------ credentials and time


class ChangingKeys(Keys):
    """Credentials that a role replaces, or fails to."""

    failure: Exception | None = None

    async def get_frozen_credentials(self) -> Keys:
        if self.failure is not None:
            raise self.failure
        return self


async def test_new_credentials_and_days_need_new_signing_keys() -> None:
    keys, now = ChangingKeys("first", "secret", None), 1_700_000_000.0
    signer = Presigner(
        Addressing("http://store", path_style=True), "r", CredentialSource(keys), lambda: now
    )
    urls = [await signer.get(REF, 60, "x")]
    now += 24 * 3600
    urls.append(await signer.get(REF, 60, "x"))
    keys.secret_key = "another"
    urls.append(await signer.get(REF, 60, "x"))
    keys.token = "session"
    urls.append(await signer.get(REF, 60, "x"))
    fresh = Presigner(
        Addressing("http://store", path_style=True), "r", CredentialSource(keys), lambda: now
    )
    assert await fresh.get(REF, 60, "x") == urls[-1]
    assert len({url.rpartition("=")[2] for url in urls}) == 4
    assert "X-Amz-Security-Token=session" in urls[-1]


async def test_missing_credentials_are_a_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with open_s3_store(S3Options("http://store")) as store:
        with pytest.raises(PermissionDenied, match="STORE_DENIED"):
            await store.presign_get(REF, 60, "x")


async def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    async with open_s3_store(S3Options("http://store")) as store:
        url = await store.presign_get(REF, 60, "x")
    assert "X-Amz-Credential=from-environment%2F" in url
    assert "X-Amz-Security-Token=session" in url


async def test_failed_refresh_is_unavailable() -> None:
    keys = ChangingKeys("key", "secret", None)
    keys.failure = TimeoutError()
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await CredentialSource(keys).current("photos")


def test_credentials_have_no_secrets_in_their_repr() -> None:
    found = asyncio.run(CredentialSource(Keys("key", "very-secret", "tokenized")).current("b"))
    assert "very-secret" not in repr(found)
    assert "tokenized" not in repr(found)
