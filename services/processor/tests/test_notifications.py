"""Parsing of store notifications in all formats, and the resulting work items."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.uploads.model import ObjectRef
from sluice_processor.nodes.keys import place_of
from sluice_processor.sources.store_notifications import (
    MAX_RECORDS,
    BadNotification,
    Notice,
    NoticeKind,
    parse_notification,
)
from sluice_processor.sources.work import SkipReason, sort_notices
from support.store_notifications import (
    aws_message,
    bridge_message,
    minio_message,
    s3_record,
    trial_message,
)

NODE = "019ab1c2-0000-7000-8000-000000000001"
REF = ObjectRef("photos-bucket", f"pre fix/acme/photos/{NODE}")
AT = 1795342272.345  # 2026-11-22T10:11:12.345Z
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (aws_message(REF), AT),
        (minio_message(REF), AT),
        (aws_message(REF, name="s3:ObjectCreated:CompleteMultipartUpload"), AT),
        (bridge_message(REF), AT - 0.345),
    ],
    ids=["S3", "MinIO", "with a prefix", "EventBridge"],
)
def test_created_object_is_parsed_in_every_format(body: str, at: float) -> None:
    (notice,) = parse_notification(body)
    assert (notice.kind, notice.ref) == (NoticeKind.CREATED, REF)
    assert notice.happened_at == pytest.approx(at, abs=1e-3)


@given(key=KEYS)
def test_key_survives_encoding_of_every_store(key: str) -> None:
    ref = ObjectRef("bucket", key)
    for message in (aws_message(ref), minio_message(ref), bridge_message(ref)):
        assert [notice.ref for notice in parse_notification(message)] == [ref]


def test_a_plus_is_a_space_in_records_and_a_plus_in_eventbridge() -> None:
    record = s3_record(REF)
    record["s3"]["object"]["key"] = "a+b%2Bc/%C3%A4"
    (notice,) = parse_notification(json.dumps({"Records": [record]}))
    assert notice.ref == ObjectRef(REF.bucket, "a b+c/ä")
    (bridged,) = parse_notification(bridge_message(ObjectRef("b", "a+b%2Bc")))
    assert bridged.ref == ObjectRef("b", "a+b%2Bc")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (aws_message(REF, name="ObjectRemoved:Delete"), NoticeKind.REMOVED),
        (aws_message(REF, name="ObjectRemoved:DeleteMarkerCreated"), NoticeKind.REMOVED),
        (aws_message(REF, name="LifecycleExpiration:Delete"), NoticeKind.REMOVED),
        (minio_message(REF, "s3:ObjectRemoved:Delete"), NoticeKind.REMOVED),
        (bridge_message(REF, "Object Deleted"), NoticeKind.REMOVED),
        (aws_message(REF, name="ObjectTagging:Put"), NoticeKind.OTHER),
        (minio_message(REF, "s3:ObjectAccessed:Get"), NoticeKind.OTHER),
        (minio_message(REF, "s3:SomethingNew:Tomorrow"), NoticeKind.OTHER),
        (bridge_message(REF, "Object Restore Completed"), NoticeKind.OTHER),
        (trial_message(), NoticeKind.TEST),
    ],
)
def test_other_events_are_skipped(body: str, kind: NoticeKind) -> None:
    assert [notice.kind for notice in parse_notification(body)] == [kind]
    found = sort_notices(parse_notification(body))
    expected = SkipReason.OTHER_EVENT if kind is NoticeKind.OTHER else SkipReason(kind.value)
    assert (found.works, found.skipped) == ((), (expected,))


def without(*path: str) -> str:
    record: dict[str, Any] = s3_record(REF)
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps({"Records": [record]})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '"text"',
        "[" * 100_000,
        '{"Records": {}}',
        '{"Records": [1]}',
        '{"Event": "s3:Other"}',
        '{"source": "aws.s3", "detail-type": "Object Created"}',
        '{"source": "aws.ec2", "detail-type": "Object Created", "detail": {}}',
        json.dumps({"Records": [{"eventName": "ObjectCreated:Put"}] * (MAX_RECORDS + 1)}),
        without("s3"),
        without("s3", "bucket"),
        without("s3", "bucket", "name"),
        without("s3", "object", "key"),
        aws_message(REF).replace("/acme/", "/%FF/"),
        aws_message(REF).replace(f'"{REF.bucket}"', "7"),
    ],
)
def test_invalid_notification_is_refused_without_quoting_it(body: str) -> None:
    with pytest.raises(BadNotification) as refused:
        parse_notification(body)
    assert refused.value.reason == "NOT_A_NOTIFICATION"
    assert REF.key not in str(refused.value)


@given(body=st.binary(max_size=200) | st.text(max_size=200))
def test_random_bytes_raise_only_bad_notification(body: bytes | str) -> None:
    try:
        parse_notification(body)
    except BadNotification:
        return


@pytest.mark.parametrize("time", [None, "", "yesterday", "2026-11-22T10:11:12", 7])
def test_invalid_time_keeps_the_object(time: object) -> None:
    record = s3_record(REF)
    record["eventTime"] = time
    (notice,) = parse_notification(json.dumps({"Records": [record]}))
    assert notice == Notice(NoticeKind.CREATED, REF, None)


def test_message_may_name_many_objects_and_repeat_one() -> None:
    refs = [ObjectRef("b", f"acme/photos/n-{number}") for number in range(3)]
    thumbnail = ObjectRef("b", "thumbnails/n-0/0123456789abcdef/256.webp")
    elsewhere = ObjectRef("b", "backups.tar")
    found = sort_notices(
        parse_notification(aws_message(refs[0], refs[1], thumbnail, refs[0], elsewhere, refs[2]))
    )
    assert [work.place.ref for work in found.works if work.place] == refs
    assert [work.node_id for work in found.works] == ["n-0", "n-1", "n-2"]
    assert found.skipped == (SkipReason.THUMBNAIL, SkipReason.SAME_OBJECT, SkipReason.OTHER_KEY)


def test_the_same_key_in_two_buckets_is_two_objects() -> None:
    refs = [ObjectRef(bucket, REF.key) for bucket in ("one", "two")]
    assert len(sort_notices(parse_notification(aws_message(*refs))).works) == 2


@pytest.mark.parametrize(
    ("key", "passed"),
    [
        (f"pre/thumbnails/{NODE}/0123456789abcdef/256.webp", SkipReason.THUMBNAIL),
        (f"thumbnails/{NODE}/0123456789abcdef/1024.jpg", SkipReason.THUMBNAIL),
        (f"no-slash-thumbnails/{NODE}/0123456789abcdef/1024.jpg", SkipReason.THUMBNAIL),
        ("sluice-probe/0d5c9cfb21aa", SkipReason.OTHER_KEY),
        (f"photos/{NODE}", SkipReason.OTHER_KEY),
        (f"/photos/{NODE}", SkipReason.OTHER_KEY),
        ("acme/photos/", SkipReason.OTHER_KEY),
        ("acme/photos/a picture.jpg", SkipReason.OTHER_KEY),
        (f"acme/.hidden/{NODE}", SkipReason.OTHER_KEY),
        ("x", SkipReason.OTHER_KEY),
    ],
)
def test_keys_of_no_node_are_skipped(key: str, passed: SkipReason) -> None:
    found = sort_notices([Notice(NoticeKind.CREATED, ObjectRef("b", key))])
    assert (found.works, found.skipped) == ((), (passed,))


def test_a_drive_or_tenant_may_be_called_thumbnails() -> None:
    for key in (f"thumbnails/photos/{NODE}", f"thumbnails/acme/photos/{NODE}"):
        (work,) = sort_notices([Notice(NoticeKind.CREATED, ObjectRef("b", key))]).works
        assert work.node_id == NODE


def test_key_without_text_has_no_place() -> None:
    assert place_of(ObjectRef("b", f"\ud800/photos/{NODE}")) is None
