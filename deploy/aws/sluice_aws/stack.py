"""The stack of one stage."""

from __future__ import annotations

from aws_cdk import CfnOutput, DefaultStackSynthesizer, Stack
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from sluice_aws.access import add_access
from sluice_aws.cluster import add_cluster
from sluice_aws.data import REDIS_PORT, add_cache, add_database, add_files
from sluice_aws.network import add_network
from sluice_aws.stages import Stage
from sluice_aws.storage import add_storage

_MYSQL_PORT = 3306
_NFS_PORT = 2049


class SluiceStack(Stack):
    """Everything that the services of one stage need, and what to set for them as outputs."""

    def __init__(self, scope: Construct, stage: Stage) -> None:
        # The template is all there is: no bootstrap bucket, so that any tool can deploy it.
        synthesizer = DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
        super().__init__(
            scope,
            f"sluice-{stage.name}",
            description=f"Sluice, {stage.name} (docs/aws.md).",
            synthesizer=synthesizer,
            termination_protection=stage.is_protected,
        )
        vpc = add_network(self, stage)
        storage = add_storage(self, stage)
        database = add_database(self, stage, vpc)
        cache, cache_access = add_cache(self, stage, vpc)
        files = add_files(self, stage, vpc)
        cluster = add_cluster(self, stage, vpc)
        add_access(self, stage, cluster, storage)
        pods = ec2.SecurityGroup.from_security_group_id(
            self, "Pods", cluster.attr_cluster_security_group_id, mutable=False
        )
        database.connections.allow_from(pods, ec2.Port.tcp(_MYSQL_PORT), "Pods of the cluster")
        cache_access.connections.allow_from(pods, ec2.Port.tcp(REDIS_PORT), "Pods of the cluster")
        files.connections.allow_from(pods, ec2.Port.tcp(_NFS_PORT), "Nodes of the cluster")
        if database.secret is None:
            raise ValueError("the database has no generated secret")
        outputs = {
            "ClusterName": cluster.ref,
            "BucketName": storage.bucket.bucket_name,
            "QueueUrl": storage.queue.queue_url,
            "DatabaseHost": database.db_instance_endpoint_address,
            "DatabaseSecret": database.secret.secret_arn,
            "RedisHost": cache.attr_primary_end_point_address,
            "FileSystemId": files.file_system_id,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)
