"""The catalogue's database, the Redis of the ledger, their secrets, and the shared files."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_efs as efs
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from sluice_aws.stages import Stage

REDIS_PORT = 6379
_DATA = ec2.SubnetSelection(subnet_group_name="data")


def add_database(scope: Construct, stage: Stage, vpc: ec2.Vpc) -> rds.DatabaseInstance:
    """Add MySQL, which refuses connections without TLS, and the secret of its user."""
    engine = rds.DatabaseInstanceEngine.mysql(version=rds.MysqlEngineVersion.VER_8_4_6)
    parameters = rds.ParameterGroup(
        scope,
        "DatabaseParameters",
        engine=engine,
        parameters={"require_secure_transport": "ON", "character_set_server": "utf8mb4"},
    )
    family, size = stage.database_class.removeprefix("db.").split(".")
    return rds.DatabaseInstance(
        scope,
        "Database",
        engine=engine,
        parameter_group=parameters,
        instance_type=ec2.InstanceType(f"{family}.{size}"),
        vpc=vpc,
        vpc_subnets=_DATA,
        database_name="sluice",
        credentials=rds.Credentials.from_generated_secret("sluice"),
        storage_encrypted=True,
        storage_type=rds.StorageType.GP3,
        allocated_storage=stage.database_gib,
        max_allocated_storage=stage.database_gib * 10,
        multi_az=stage.multi_az,
        backup_retention=Duration.days(stage.backup_days),
        copy_tags_to_snapshot=True,
        auto_minor_version_upgrade=True,
        deletion_protection=stage.is_protected,
        removal_policy=RemovalPolicy.SNAPSHOT,
        cloudwatch_logs_exports=["error", "slowquery"],
        publicly_accessible=False,
    )


def add_cache(
    scope: Construct, stage: Stage, vpc: ec2.Vpc
) -> tuple[elasticache.CfnReplicationGroup, ec2.SecurityGroup]:
    """Add the Redis that keeps acknowledged chunks.

    It never evicts, and has replicas that WAIT can wait for. It has no append-only file:
    ElastiCache offers none, so `SLUICE_DURABILITY=fsync` is out of reach.
    """
    token = secrets.Secret(
        scope,
        "CacheToken",
        description="AUTH token of the Redis of Sluice.",
        generate_secret_string=secrets.SecretStringGenerator(
            exclude_punctuation=True, password_length=64
        ),
    )
    group = ec2.SecurityGroup(
        scope,
        "CacheAccess",
        vpc=vpc,
        description="The Redis of Sluice.",
        allow_all_outbound=False,
    )
    subnets = elasticache.CfnSubnetGroup(
        scope,
        "CacheSubnets",
        description="Isolated subnets.",
        subnet_ids=vpc.select_subnets(subnet_group_name="data").subnet_ids,
    )
    parameters = elasticache.CfnParameterGroup(
        scope,
        "CacheParameters",
        cache_parameter_group_family="redis7",
        description="Acknowledged chunks are never evicted.",
        properties={"maxmemory-policy": "noeviction"},
    )
    cache = elasticache.CfnReplicationGroup(
        scope,
        "Cache",
        replication_group_description="Ledger, chunks and queue of Sluice.",
        engine="redis",
        engine_version="7.1",
        cache_node_type=stage.cache_class,
        cache_parameter_group_name=parameters.ref,
        cache_subnet_group_name=subnets.ref,
        security_group_ids=[group.security_group_id],
        port=REDIS_PORT,
        num_node_groups=1,
        replicas_per_node_group=stage.cache_replicas,
        automatic_failover_enabled=True,
        multi_az_enabled=True,
        at_rest_encryption_enabled=True,
        transit_encryption_enabled=True,
        auth_token=token.secret_value.unsafe_unwrap(),
        # A snapshot keeps no chunk that matters: uploads go on where their clients are.
        snapshot_retention_limit=1,
        auto_minor_version_upgrade=True,
    )
    return cache, group


def add_files(scope: Construct, stage: Stage, vpc: ec2.Vpc) -> efs.FileSystem:
    """Add the file system that all gateways share: the keys that sign tokens are on it.

    Disks of EBS are for one node each.
    """
    group = ec2.SecurityGroup(
        scope,
        "FilesAccess",
        vpc=vpc,
        description="The shared files of Sluice.",
        allow_all_outbound=False,
    )
    return efs.FileSystem(
        scope,
        "Files",
        vpc=vpc,
        vpc_subnets=_DATA,
        security_group=group,
        encrypted=True,
        enable_automatic_backups=stage.is_protected,
        # Without the keys every session ends.
        removal_policy=RemovalPolicy.RETAIN if stage.is_protected else RemovalPolicy.DESTROY,
    )
