"""Events and permissions of the committed templates, made by API on moto's server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from sluice_core.uploads.model import ObjectRef
from sluice_processor.sources.store_notifications import NoticeKind, parse_notification
from support.aws_template import ACCOUNT, REGION, STAGES, Template, load_template
from support.sqs_server import SqsServer

BUCKET = "sluice-photos"
NODE = "0198f0a0-0000-7000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of moto, in which everybody may do everything until `enforce`."""

    server: SqsServer

    def client(self, service: str, **credentials: str) -> Any:
        keys = credentials or {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.server.endpoint_url, **keys
        )

    def enforce(self) -> None:
        """Check permissions from now on."""
        request = urllib.request.Request(
            f"{self.server.endpoint_url}/moto-api/reset-auth",
            data=b"0",
            # As a form, which is urllib's default, moto would not see the number.
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture
def account() -> Iterator[Account]:
    """A server of its own: `enforce` holds for all clients of a server."""
    server = SqsServer()
    server.start()
    yield Account(server)
    server.stop()


def add_queue(account: Account, template: Template, prefix: str, arns: dict[str, str]) -> str:
    """Create a queue with the attributes of the template; return its URL and add its ARN."""
    logical, queue = template.only("AWS::SQS::Queue", prefix)
    attributes = {
        "MessageRetentionPeriod": str(queue["MessageRetentionPeriod"]),
        "SqsManagedSseEnabled": str(queue["SqsManagedSseEnabled"]).lower(),
    }
    if "RedrivePolicy" in queue:
        policy = template.resolve(queue["RedrivePolicy"], arns)
        attributes["RedrivePolicy"] = json.dumps(policy)
    sqs = account.client("sqs")
    url = sqs.create_queue(QueueName=prefix, Attributes=attributes)["QueueUrl"]
    facts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arns[f"{logical}.Arn"] = facts["Attributes"]["QueueArn"]
    return str(url)


def set_up(account: Account, template: Template) -> tuple[str, dict[str, str]]:
    """Create bucket, queues and rule; return the URL of the queue and the names of all."""
    logical, bucket = template.only("AWS::S3::Bucket")
    names = {logical: BUCKET, f"{logical}.Arn": f"arn:aws:s3:::{BUCKET}"}
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    bridge = bucket["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert bridge == {"EventBridgeEnabled": True}
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    add_queue(account, template, "DeadNotices", names)
    url = add_queue(account, template, "Notices", names)
    _, rule = template.only("AWS::Events::Rule")
    pattern = template.resolve(rule["EventPattern"], names)
    events = account.client("events")
    events.put_rule(Name="created", EventPattern=json.dumps(pattern), State=rule["State"])
    targets = template.resolve(rule["Targets"], names)
    sent = [{"Id": one["Id"], "Arn": one["Arn"]} for one in targets]
    assert events.put_targets(Rule="created", Targets=sent)["FailedEntryCount"] == 0
    assert not {"InputPath", "InputTransformer"} & {key for one in targets for key in one}
    return url, names


@pytest.mark.parametrize("stage", STAGES)
def test_new_object_reaches_the_processor(account: Account, stage: str) -> None:
    """Bucket → EventBridge → SQS → the processor's own parser; other prefixes stay silent."""
    url, _ = set_up(account, load_template(stage))
    s3 = account.client("s3")
    key = f"{stage}/user é+1/photos/{NODE}"
    s3.put_object(Bucket=BUCKET, Key=f"elsewhere/{NODE}", Body=b"other")
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"photo")
    answer = account.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    notices = [
        notice for message in answer["Messages"] for notice in parse_notification(message["Body"])
    ]
    assert [(one.kind, one.ref) for one in notices] == [
        (NoticeKind.CREATED, ObjectRef(BUCKET, key))
    ]


def for_moto(statement: dict[str, Any]) -> dict[str, Any]:
    """Leave out what moto does not know: conditions of requests, and queues as resources."""
    bare = {key: value for key, value in statement.items() if key != "Condition"}
    if "sqs:" in json.dumps(bare["Action"]):
        bare["Resource"] = "*"
    return bare


def assume_role(account: Account, template: Template, service: str, names: Any) -> dict[str, str]:
    """Create the role of a service; return temporary keys of it."""
    iam = account.client("iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    iam.create_role(RoleName=service, AssumeRolePolicyDocument=json.dumps(trust))
    statements = [for_moto(one) for one in template.policy(service, names)]
    document = {"Version": "2012-10-17", "Statement": statements}
    iam.put_role_policy(RoleName=service, PolicyName="own", PolicyDocument=json.dumps(document))
    keys = account.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{service}", RoleSessionName="pod"
    )["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


def is_allowed(client: Any, operation: str, **parameters: Any) -> bool:
    try:
        getattr(client, operation)(**parameters)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
            return False
        raise
    return True


PHOTO = f"staging/user/photos/{NODE}"
THUMBNAIL = f"staging/thumbnails/{NODE}/digest/256.webp"
FOREIGN = f"production/user/photos/{NODE}"
PROBE = "sluice-probe/token"
ALLOWED = {
    "repository": {
        *((operation, key) for operation in ("get", "put", "delete") for key in (PHOTO, THUMBNAIL)),
        *((operation, PROBE) for operation in ("get", "put", "delete")),
    },
    "processor": {
        ("get", PHOTO),
        ("get", THUMBNAIL),
        ("put", THUMBNAIL),
        *((operation, PROBE) for operation in ("get", "put", "delete")),
        ("receive", "queue"),
        ("attributes", "queue"),
    },
    "gateway": {
        *((operation, key) for operation in ("get", "put") for key in (PHOTO, THUMBNAIL)),
        *((operation, PROBE) for operation in ("get", "put", "delete")),
        ("attributes", "queue"),
    },
}


@pytest.mark.parametrize("service", ALLOWED)
def test_roles_can_do_their_work_and_no_more(account: Account, service: str) -> None:
    template = load_template("staging")
    url, names = set_up(account, template)
    for key in (PHOTO, THUMBNAIL, FOREIGN, PROBE):
        account.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"x")
    keys = assume_role(account, template, service, names)
    account.enforce()
    s3, sqs = account.client("s3", **keys), account.client("sqs", **keys)
    found = {
        (operation, key)
        for key in (PHOTO, THUMBNAIL, FOREIGN, PROBE)
        # Deletion comes last, since the others need the object.
        for operation in ("get", "put", "delete")
        if is_allowed(
            s3,
            f"{operation}_object",
            Bucket=BUCKET,
            Key=key,
            **({"Body": b"y"} if operation == "put" else {}),
        )
    }
    if is_allowed(sqs, "receive_message", QueueUrl=url):
        found.add(("receive", "queue"))
    if is_allowed(sqs, "get_queue_attributes", QueueUrl=url):
        found.add(("attributes", "queue"))
    assert found == ALLOWED[service]
    assert not is_allowed(s3, "list_buckets")
    assert not is_allowed(s3, "delete_bucket", Bucket=BUCKET)
