"""The bucket, and the queue of its notifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from aws_cdk import Duration, RemovalPolicy, Tags
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from sluice_aws.stages import ABORT_DAYS, Stage

MAX_RECEIVES = 10
"""A message may have to wait until its upload has ended (docs/processor.md)."""
_OLDEST_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Storage:
    """What the services are given access to."""

    bucket: s3.Bucket
    queue: sqs.Queue


def add_storage(scope: Construct, stage: Stage) -> Storage:
    """Add bucket → EventBridge → queue, its dead letters, and the alarms of both queues."""
    bucket = _bucket(scope, stage)
    dead = sqs.Queue(
        scope,
        "DeadNotices",
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=Duration.days(14),
    )
    queue = sqs.Queue(
        scope,
        "Notices",
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        # The processor sets its own for each receive; this is of others, such as a console.
        visibility_timeout=Duration.seconds(60),
        retention_period=Duration.days(4),
        receive_message_wait_time=Duration.seconds(20),
        dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=dead),
    )
    pattern = events.EventPattern(
        source=["aws.s3"],
        detail_type=["Object Created"],
        detail={
            "bucket": {"name": [bucket.bucket_name]},
            "object": {"key": [{"prefix": stage.key_prefix}]},
        },
    )
    rule = events.Rule(scope, "ObjectCreated", event_pattern=pattern)
    # Unchanged: the processor parses the event itself.
    rule.add_target(targets.SqsQueue(queue, dead_letter_queue=dead))
    _alarms(scope, queue, dead)
    return Storage(bucket, queue)


def _bucket(scope: Construct, stage: Stage) -> s3.Bucket:
    transitions = [
        s3.Transition(
            storage_class=s3.StorageClass.INFREQUENT_ACCESS,
            transition_after=Duration.days(stage.infrequent_days),
        )
    ]
    bucket = s3.Bucket(
        scope,
        "Objects",
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        # Keys are never written twice, and what a user deletes is to be gone.
        versioned=False,
        removal_policy=RemovalPolicy.RETAIN,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="abort-multiparts",
                abort_incomplete_multipart_upload_after=Duration.days(ABORT_DAYS),
            ),
            *(
                [
                    s3.LifecycleRule(
                        id="infrequent-access",
                        prefix=stage.key_prefix,
                        transitions=transitions,
                    )
                ]
                if stage.infrequent_days
                else []
            ),
        ],
        cors=[
            s3.CorsRule(
                allowed_origins=list(stage.origins),
                allowed_methods=[s3.HttpMethods.GET, s3.HttpMethods.PUT, s3.HttpMethods.HEAD],
                allowed_headers=["*"],
                exposed_headers=["ETag", "Retry-After"],
                max_age=3600,
            )
        ],
    )
    # Not `event_bridge_enabled`: that brings a function of Lambda which sets one property.
    resource = cast("s3.CfnBucket", bucket.node.default_child)
    resource.add_property_override(
        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
    )
    Tags.of(bucket).add("data", "photos")
    return bucket


def _alarms(scope: Construct, queue: sqs.Queue, dead: sqs.Queue) -> None:
    topic = sns.Topic(scope, "Alarms", enforce_ssl=True)
    letters = cloudwatch.Alarm(
        scope,
        "DeadNoticesAlarm",
        metric=dead.metric_approximate_number_of_messages_visible(period=Duration.minutes(1)),
        threshold=1,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        alarm_description="Photos were given up: docs/processor.md says how to send them again.",
    )
    oldest = cloudwatch.Alarm(
        scope,
        "OldestNoticeAlarm",
        metric=queue.metric_approximate_age_of_oldest_message(period=Duration.minutes(1)),
        threshold=_OLDEST_SECONDS,
        evaluation_periods=5,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        alarm_description="Photos wait: add processors, or look why they fail.",
    )
    for alarm in (letters, oldest):
        alarm.add_alarm_action(actions.SnsAction(topic))
