"""Object notifications in the formats of the stores."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

from sluice_core.uploads.model import ObjectRef

TIME = "2026-11-22T10:11:12.345Z"


def s3_record(ref: ObjectRef, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """Return one record in S3's format."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": TIME,
        "eventName": name,
        "userIdentity": {"principalId": "AWS:A1"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"x-amz-request-id": "R1", "x-amz-id-2": "I2"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "sluice",
            "bucket": {
                "name": ref.bucket,
                "ownerIdentity": {"principalId": "A2"},
                "arn": f"arn:aws:s3:::{ref.bucket}",
            },
            "object": {
                "key": quote_plus(ref.key, safe="/"),
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }


def aws_message(*refs: ObjectRef, name: str = "ObjectCreated:Put") -> str:
    """Return a notification of S3 to SQS."""
    return json.dumps({"Records": [s3_record(ref, name) for ref in refs]})


def minio_message(ref: ObjectRef, name: str = "s3:ObjectCreated:Put") -> str:
    """Return a notification of MinIO to Kafka.

    MinIO escapes slashes too, and omits the version without versioning.
    """
    record = s3_record(ref, name)
    record["eventSource"] = "minio:s3"
    record["source"] = {"host": "192.0.2.1", "port": "", "userAgent": "MinIO"}
    described = record["s3"]["object"]
    described["key"] = quote_plus(ref.key)
    described["userMetadata"] = {"content-type": "image/jpeg"}
    del described["versionId"]
    return json.dumps({"EventName": name, "Key": f"{ref.bucket}/{ref.key}", "Records": [record]})


def bridge_message(ref: ObjectRef, detail_type: str = "Object Created") -> str:
    """Return a notification of S3 through EventBridge to SQS."""
    return json.dumps(
        {
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": detail_type,
            "source": "aws.s3",
            "account": "111122223333",
            "time": "2026-11-22T10:11:12Z",
            "region": "ca-central-1",
            "resources": [f"arn:aws:s3:::{ref.bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": ref.bucket},
                "object": {
                    "key": ref.key,
                    "size": 5,
                    "etag": "b1946ac92492d2347c6235b4d2611184",
                    "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                    "sequencer": "617f08299329d189",
                },
                "request-id": "N4N7GDK58NMKJ12R",
                "requester": "123456789012",
                "source-ip-address": "192.0.2.1",
                "reason": "PutObject",
            },
        }
    )


def trial_message(bucket: str = "sluice") -> str:
    """Return the test message that S3 sends when a bucket is connected to a queue."""
    return json.dumps(
        {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": "2026-11-22T10:00:00.000Z",
            "Bucket": bucket,
            "RequestId": "5582815E1AEA5ADF",
            "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
        }
    )
