"""Roles of the services: one each, limited to the application's keys. The intake has none.

KEDA has one to read the depth of the queue, and the driver of EFS one to make directories.
"""

from __future__ import annotations

import json

from aws_cdk import CfnOutput, Fn
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from sluice_aws.stages import NAMESPACE, PROBE_PREFIX, Stage
from sluice_aws.storage import Storage

_LIST = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
_OBJECT = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
_CONSUME = [
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
]


def add_access(scope: Construct, stage: Stage, cluster: eks.CfnCluster, storage: Storage) -> None:
    """Give the pods of each service account what its service does, and nothing else."""
    objects = [storage.bucket.arn_for_objects(f"{stage.key_prefix}*")]
    thumbnails = [
        storage.bucket.arn_for_objects(f"{stage.key_prefix}{middle}thumbnails/*")
        for middle in ("", "*/")
    ]
    common = [_listing(stage, storage), _probing(storage)]
    accounts = {"keda": "keda:keda-operator"}
    statements = {
        "repository": [*common, _allow([*_OBJECT, "s3:DeleteObject"], objects)],
        "processor": [
            *common,
            _allow(["s3:GetObject"], objects),
            _allow(["s3:PutObject"], thumbnails),
            _allow(_CONSUME, [storage.queue.queue_arn]),
        ],
        "gateway": [
            *common,
            # Also what its signed URLs allow: a URL can do what its signer can.
            _allow(_OBJECT, objects),
            _allow(["sqs:GetQueueAttributes"], [storage.queue.queue_arn]),
        ],
        # Of its operator, which scales the processors by the depth of the queue.
        "keda": [_allow(["sqs:GetQueueAttributes"], [storage.queue.queue_arn])],
    }
    provider = iam.CfnOIDCProvider(
        scope,
        "Tokens",
        url=cluster.attr_open_id_connect_issuer_url,
        client_id_list=["sts.amazonaws.com"],
    )
    issuer = Fn.select(1, Fn.split("//", cluster.attr_open_id_connect_issuer_url))
    for service, allowed in statements.items():
        role = iam.CfnRole(
            scope,
            f"{service.capitalize()}Role",
            assume_role_policy_document=_trust(
                provider, issuer, accounts.get(service, f"{NAMESPACE}:{service}")
            ),
            policies=[
                iam.CfnRole.PolicyProperty(
                    policy_name=service,
                    policy_document=iam.PolicyDocument(statements=allowed),
                )
            ],
        )
        CfnOutput(scope, f"{service.capitalize()}RoleArn", value=role.attr_arn)
    driver = iam.CfnRole(
        scope,
        "FilesRole",
        assume_role_policy_document=_trust(provider, issuer, "kube-system:efs-csi-controller-sa"),
        managed_policy_arns=[
            Fn.sub(
                "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonEFSCSIDriverPolicy",
            )
        ],
    )
    eks.CfnAddon(
        scope,
        "Addon-efs",
        cluster_name=cluster.ref,
        addon_name="aws-efs-csi-driver",
        service_account_role_arn=driver.attr_arn,
        resolve_conflicts="OVERWRITE",
    )


def _trust(provider: iam.CfnOIDCProvider, issuer: str, account: str) -> str:
    """Return who may take the role: the service account, by a token of the cluster (IRSA).

    As text: the name of a condition holds the cluster's address, and only values of a template can
    be references.
    """
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Principal": {"Federated": "${Provider}"},
                "Condition": {
                    "StringEquals": {
                        "${Issuer}:aud": "sts.amazonaws.com",
                        "${Issuer}:sub": f"system:serviceaccount:{account}",
                    }
                },
            }
        ],
    }
    values = {"Provider": provider.attr_arn, "Issuer": issuer}
    text: str = Fn.sub(json.dumps(document), values)
    return text


def _listing(stage: Stage, storage: Storage) -> iam.PolicyStatement:
    """Allow listing below the prefix.

    IfExists: S3 also asks for it to answer 404 instead of 403 for an object that is missing, and
    then there is no prefix.
    """
    return iam.PolicyStatement(
        actions=_LIST,
        resources=[storage.bucket.bucket_arn],
        conditions={
            "StringLikeIfExists": {"s3:prefix": [f"{stage.key_prefix}*", f"{PROBE_PREFIX}*"]}
        },
    )


def _probing(storage: Storage) -> iam.PolicyStatement:
    return _allow(
        [*_OBJECT, "s3:DeleteObject"], [storage.bucket.arn_for_objects(f"{PROBE_PREFIX}/*")]
    )


def _allow(actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=actions, resources=resources)
