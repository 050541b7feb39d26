"""Accounts that may only read and list a bucket, on each S3 server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import aiohttp
import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from pydantic import SecretStr

from sluice_backends.s3.client import open_client
from support.s3_account import S3Account
from support.s3_server import READER

_READING = ["s3:GetObject", "s3:ListBucket"]


async def reader_keys(account: S3Account, bucket: str) -> Mapping[str, SecretStr]:
    """Return the keys of a read-only account of this bucket, as fields of `S3Options`.

    SeaweedFS is configured with one at start; MinIO issues temporary keys with a policy (STS);
    versitygw creates a user to whom the bucket policy grants read access.
    """
    match account.kind:
        case "seaweedfs":
            keys = _keys(*READER)
        case "minio":
            keys = await _temporary_minio_keys(account, bucket)
        case "versitygw":
            await _make_user(account)
            await _grant_reading(account, bucket)
            keys = _keys(*READER)
        case kind:
            pytest.fail(f"read-only accounts are not implemented for {kind}; add them here")
    return {name: SecretStr(text) for name, text in keys.items()}


def _keys(access_key: str, secret_key: str) -> dict[str, str]:
    return {"access_key": access_key, "secret_key": secret_key}


def _statement(bucket: str, **more: Any) -> str:
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    allowed = {"Effect": "Allow", "Action": _READING, "Resource": resources, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


async def _temporary_minio_keys(account: S3Account, bucket: str) -> dict[str, str]:
    async with get_session().create_client(
        "sts",
        region_name="us-east-1",
        endpoint_url=account.endpoint_url,
        aws_access_key_id=account.access_key,
        aws_secret_access_key=account.secret_key,
    ) as client:
        # MinIO ignores both names; the client requires them.
        answer = await client.assume_role(
            RoleArn="arn:aws:iam::000000000000:role/reader",
            RoleSessionName="reader",
            Policy=_statement(bucket),
        )
    issued = answer["Credentials"]
    return _keys(issued["AccessKeyId"], issued["SecretAccessKey"]) | {
        "session_token": issued["SessionToken"]
    }


async def _make_user(account: S3Account) -> None:
    """Create the user by versitygw's own API; an existing one is accepted."""
    user = ElementTree.Element("Account")
    for name, text in zip(("Access", "Secret", "Role"), (*READER, "user"), strict=True):
        ElementTree.SubElement(user, name).text = text
    url = f"{account.endpoint_url}/create-user"
    request = AWSRequest(method="PATCH", url=url, data=ElementTree.tostring(user))
    request.headers["x-amz-content-sha256"] = SigV4Auth(None, "", "").payload(request)
    SigV4Auth(Credentials(account.access_key, account.secret_key), "s3", "us-east-1").add_auth(
        request
    )
    async with (
        aiohttp.ClientSession() as session,
        session.patch(url, data=request.body, headers=dict(request.headers)) as answer,
    ):
        assert answer.status in (201, 409), await answer.text()


async def _grant_reading(account: S3Account, bucket: str) -> None:
    options = account.options()
    async with open_client(options) as client:
        await client.put_bucket_policy(
            Bucket=bucket, Policy=_statement(bucket, Principal={"AWS": [READER[0]]})
        )
