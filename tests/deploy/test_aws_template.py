"""Infrastructure on AWS: what the committed templates must say, whatever made them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from sluice_backends.s3.options import S3Options
from support.aws_template import (
    STAGES,
    Template,
    all_statements,
    as_list,
    load_template,
)
from support.clone import ROOT

UPLOAD_DAYS = 7
SERVICES = {"repository", "processor", "gateway"}
ACCOUNTS = {
    **{service: f"sluice:{service}" for service in SERVICES},
    "keda": "keda:keda-operator",
    "files": "kube-system:efs-csi-controller-sa",
}
"""Service account that may take each role."""


@pytest.fixture(params=STAGES)
def template(request: pytest.FixtureRequest) -> Template:
    return load_template(request.param)


def names_of(template: Template) -> dict[str, str]:
    bucket, _ = template.only("AWS::S3::Bucket")
    queue, _ = template.only("AWS::SQS::Queue", "Notices")
    return {
        bucket: "photos",
        f"{bucket}.Arn": "arn:aws:s3:::photos",
        f"{queue}.Arn": "arn:aws:sqs:us-east-1:123456789012:notices",
    }


def test_every_stage_has_a_template() -> None:
    folder = ROOT / "deploy" / "aws" / "template"
    assert {path.stem for path in folder.glob("*.json")} == set(STAGES)


def test_no_resource_is_made_by_a_function(template: Template) -> None:
    """CDK adds functions of Lambda for some conveniences; they need code that no template has."""
    kinds = {one["Type"] for one in template.resources.values()}
    assert not {kind for kind in kinds if kind.startswith(("Custom::", "AWS::Lambda"))}


def test_bucket_is_private_and_encrypted(template: Template) -> None:
    name, bucket = template.only("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    rules = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert [one["ServerSideEncryptionByDefault"]["SSEAlgorithm"] for one in rules] == ["AES256"]
    assert template.resources[name]["DeletionPolicy"] == "Retain"
    _, policy = template.only("AWS::S3::BucketPolicy")
    denied = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
    conditions = [one["Condition"] for one in denied]
    assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
    assert all(one["Effect"] == "Deny" for one in policy["PolicyDocument"]["Statement"])


def test_multiparts_are_aborted_after_the_sweeper(template: Template) -> None:
    """Earlier, S3 would take the parts of an upload that is still open."""
    _, bucket = template.only("AWS::S3::Bucket")
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert {one["Status"] for one in rules} == {"Enabled"}
    aborting = [one for one in rules if "AbortIncompleteMultipartUpload" in one]
    assert len(aborting) == 1
    assert "Prefix" not in aborting[0]
    assert aborting[0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] > UPLOAD_DAYS
    assert not [one for one in rules if "ExpirationInDays" in one]


def test_pages_may_put_into_the_bucket(template: Template) -> None:
    _, bucket = template.only("AWS::S3::Bucket")
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert set(rule["AllowedMethods"]) == {"GET", "PUT", "HEAD"}
    assert all(origin.startswith("https://") for origin in rule["AllowedOrigins"])
    assert rule["AllowedHeaders"] == ["*"]
    assert set(rule["ExposedHeaders"]) == {"ETag", "Retry-After"}


def test_notices_become_dead_letters_with_an_alarm(template: Template) -> None:
    dead, dead_queue = template.only("AWS::SQS::Queue", "DeadNotices")
    _, queue = template.only("AWS::SQS::Queue", "Notices")
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]},
        "maxReceiveCount": 10,
    }
    assert dead_queue["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]
    assert queue["SqsManagedSseEnabled"] is dead_queue["SqsManagedSseEnabled"] is True
    topic, _ = template.only("AWS::SNS::Topic")
    _, alarm = template.only("AWS::CloudWatch::Alarm", "DeadNotices")
    assert alarm["AlarmActions"] == [{"Ref": topic}]
    assert alarm["Threshold"] == 1
    watched = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    assert watched == {"QueueName": {"Fn::GetAtt": [dead, "QueueName"]}}


def test_only_the_rule_may_send_notices(template: Template) -> None:
    rule, _ = template.only("AWS::Events::Rule")
    queue, _ = template.only("AWS::SQS::Queue", "Notices")
    policies = [
        one
        for one in template.of_type("AWS::SQS::QueuePolicy").values()
        if one["Queues"] == [{"Ref": queue}]
    ]
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    allowed = [one for one in statements if one["Effect"] == "Allow"]
    assert len(allowed) == 1
    assert "sqs:SendMessage" in as_list(allowed[0]["Action"])
    assert allowed[0]["Principal"] == {"Service": "events.amazonaws.com"}
    assert allowed[0]["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}
    }


def test_database_is_encrypted_and_backed_up(template: Template) -> None:
    name, database = template.only("AWS::RDS::DBInstance")
    assert database["StorageEncrypted"] is True
    assert database["PubliclyAccessible"] is False
    assert database["BackupRetentionPeriod"] >= 3
    assert template.resources[name]["DeletionPolicy"] == "Snapshot"
    is_production = template.stage == "production"
    assert database["MultiAZ"] is database["DeletionProtection"] is is_production
    _, parameters = template.only("AWS::RDS::DBParameterGroup")
    assert parameters["Parameters"]["require_secure_transport"] == "ON"
    assert "{{resolve:secretsmanager:" in json.dumps(database["MasterUserPassword"])


def test_redis_keeps_acknowledged_chunks(template: Template) -> None:
    """What `redis/checks.py` asks for at the start, for the durability class `replicated`."""
    _, cache = template.only("AWS::ElastiCache::ReplicationGroup")
    _, parameters = template.only("AWS::ElastiCache::ParameterGroup")
    assert parameters["Properties"] == {"maxmemory-policy": "noeviction"}
    assert cache["ReplicasPerNodeGroup"] >= 1
    for setting in (
        "TransitEncryptionEnabled",
        "AtRestEncryptionEnabled",
        "AutomaticFailoverEnabled",
        "MultiAZEnabled",
    ):
        assert cache[setting] is True
    assert "{{resolve:secretsmanager:" in json.dumps(cache["AuthToken"])


def test_backends_are_reached_from_the_cluster_alone(template: Template) -> None:
    ingress = template.of_type("AWS::EC2::SecurityGroupIngress").values()
    cluster, _ = template.only("AWS::EKS::Cluster")
    source = {"Fn::GetAtt": [cluster, "ClusterSecurityGroupId"]}
    assert [one["SourceSecurityGroupId"] for one in ingress] == [source] * 3
    assert {one["FromPort"] for one in ingress} == {3306, 6379, 2049}
    for group in template.of_type("AWS::EC2::SecurityGroup").values():
        assert "SecurityGroupIngress" not in group


def test_pods_get_the_role_of_their_service(template: Template) -> None:
    """IRSA: the cluster's token of one service account, and of no other."""
    cluster, _ = template.only("AWS::EKS::Cluster")
    address = {"Fn::GetAtt": [cluster, "OpenIdConnectIssuerUrl"]}
    provider, tokens = template.only("AWS::IAM::OIDCProvider")
    assert tokens == {"Url": address, "ClientIdList": ["sts.amazonaws.com"]}
    for service, account in ACCOUNTS.items():
        _, role = template.only("AWS::IAM::Role", f"{service.capitalize()}Role")
        text, names = role["AssumeRolePolicyDocument"]["Fn::Sub"]
        assert names == {
            "Provider": {"Fn::GetAtt": [provider, "Arn"]},
            "Issuer": {"Fn::Select": [1, {"Fn::Split": ["//", address]}]},
        }
        (trust,) = json.loads(text)["Statement"]
        assert trust == {
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
        assert ("ManagedPolicyArns" in role) is (service == "files")


def test_keda_reads_the_depth_of_the_queue_alone(template: Template) -> None:
    (statement,) = template.policy("keda", names_of(template))
    assert statement["Action"] == "sqs:GetQueueAttributes"
    assert statement["Resource"] == "arn:aws:sqs:us-east-1:123456789012:notices"


def test_network_policies_are_enforced(template: Template) -> None:
    """The network add-on ignores them unless it is told not to."""
    _, addon = template.only("AWS::EKS::Addon", "Addonvpccni")
    assert json.loads(addon["ConfigurationValues"]) == {"enableNetworkPolicy": "true"}
    assert addon["ResolveConflicts"] == "OVERWRITE"


def test_gateways_can_share_files(template: Template) -> None:
    """ReadWriteMany needs a file system, a driver in the cluster, and a way between them."""
    files, properties = template.only("AWS::EFS::FileSystem")
    assert properties["Encrypted"] is True
    policy = template.resources[files]["DeletionPolicy"]
    assert policy == ("Retain" if template.stage == "production" else "Delete")
    targets = template.of_type("AWS::EFS::MountTarget").values()
    assert [one["FileSystemId"] for one in targets] == [{"Ref": files}] * 3
    role, _ = template.only("AWS::IAM::Role", "FilesRole")
    _, addon = template.only("AWS::EKS::Addon", "Addonefs")
    assert addon["AddonName"] == "aws-efs-csi-driver"
    assert addon["ServiceAccountRoleArn"] == {"Fn::GetAtt": [role, "Arn"]}


def test_deploy_role_is_let_into_the_cluster_by_a_group(template: Template) -> None:
    """An access policy of EKS for the whole cluster could read every secret."""
    _, entry = template.only("AWS::EKS::AccessEntry")
    assert entry["PrincipalArn"] == {"Ref": "DeployRoleArn"}
    assert entry["KubernetesGroups"] == ["sluice:deployers"]
    assert "AccessPolicies" not in entry


def test_nodes_run_the_images_that_are_built(template: Template) -> None:
    _, nodes = template.only("AWS::EKS::Nodegroup")
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["image"]
    (build,) = [step for step in job["steps"] if step.get("id") == "build"]
    # Without `platforms` an image is for the runner's own: ubuntu-latest is x86-64.
    assert job["runs-on"] == "ubuntu-latest"
    platforms = build["with"].get("platforms", "linux/amd64").split(",")
    machine = "linux/arm64" if "ARM" in nodes["AmiType"] else "linux/amd64"
    assert machine in platforms
    (instance,) = nodes["InstanceTypes"]
    is_graviton = re.match(r"[a-z]+\d+g", instance) is not None
    assert is_graviton is (machine == "linux/arm64")


def test_intake_has_no_role(template: Template) -> None:
    assert "intake" not in json.dumps(template.resources).lower()


def test_roles_touch_the_stage_prefix_alone(template: Template) -> None:
    names = names_of(template)
    probe = f"arn:aws:s3:::photos/{S3Options().probe_prefix}/*"
    for service in SERVICES:
        for statement in template.policy(service, names):
            actions = as_list(statement["Action"])
            assert not [action for action in actions if "*" in action]
            for resource in as_list(statement["Resource"]):
                if actions[0].startswith("sqs:"):
                    assert resource == "arn:aws:sqs:us-east-1:123456789012:notices"
                elif resource == "arn:aws:s3:::photos":
                    assert set(actions) == {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
                    prefixes = statement["Condition"]["StringLikeIfExists"]["s3:prefix"]
                    assert set(prefixes) == {
                        f"{template.stage}/*",
                        f"{S3Options().probe_prefix}*",
                    }
                else:
                    assert resource == probe or resource.startswith(
                        f"arn:aws:s3:::photos/{template.stage}/"
                    )


def test_nobody_may_do_everything(template: Template) -> None:
    granted = list(all_statements(template))
    assert len(granted) > 10
    for name, statement in granted:
        actions: list[Any] = as_list(statement["Action"])
        assert "*" not in actions, name
        assert not [one for one in actions if one.endswith(":*")], name
