"""The Kubernetes cluster and its nodes."""

from __future__ import annotations

import json
from typing import Final

from aws_cdk import CfnParameter, CfnTag
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from sluice_aws.stages import Stage

VERSION = "1.34"
DEPLOYERS: Final = "sluice:deployers"
"""Group of Kubernetes that releases; deploy/k8s/aws-once/deployers.yaml says what it may do."""
_ADDONS: Final = {
    # Without it the network policies are accepted and enforced by nobody.
    "vpc-cni": {"enableNetworkPolicy": "true"},
    "coredns": None,
    "kube-proxy": None,
    "metrics-server": None,
}
"""Add-ons with their configuration; `access.py` adds the driver of EFS, which needs a role."""
_MANAGED = "AmazonEKS"


def add_cluster(scope: Construct, stage: Stage, vpc: ec2.Vpc) -> eks.CfnCluster:
    """Add a cluster whose API needs IAM, with encrypted secrets and the add-ons Sluice uses.

    Nodes have no access to S3 or SQS; pods have, by `access.py`.
    """
    role = iam.Role(
        scope,
        "ClusterRole",
        assumed_by=iam.ServicePrincipal("eks.amazonaws.com"),
        managed_policies=[
            iam.ManagedPolicy.from_aws_managed_policy_name(f"{_MANAGED}ClusterPolicy")
        ],
    )
    key = kms.Key(
        scope,
        "SecretsKey",
        description="Encrypts the Secrets of the cluster.",
        enable_key_rotation=True,
    )
    key.grant_encrypt_decrypt(role)
    subnets = vpc.select_subnets(subnet_group_name="cluster").subnet_ids
    cluster = eks.CfnCluster(
        scope,
        "Cluster",
        version=VERSION,
        role_arn=role.role_arn,
        access_config=eks.CfnCluster.AccessConfigProperty(
            authentication_mode="API", bootstrap_cluster_creator_admin_permissions=True
        ),
        encryption_config=[
            eks.CfnCluster.EncryptionConfigProperty(
                provider=eks.CfnCluster.ProviderProperty(key_arn=key.key_arn),
                resources=["secrets"],
            )
        ],
        logging=eks.CfnCluster.LoggingProperty(
            cluster_logging=eks.CfnCluster.ClusterLoggingProperty(
                enabled_types=[
                    eks.CfnCluster.LoggingTypeConfigProperty(type=kind)
                    for kind in ("api", "audit", "authenticator", "controllerManager", "scheduler")
                ]
            )
        ),
        resources_vpc_config=eks.CfnCluster.ResourcesVpcConfigProperty(
            subnet_ids=subnets,
            endpoint_private_access=True,
            # The delivery workflow calls it from outside; IAM decides who may.
            endpoint_public_access=True,
        ),
        tags=[CfnTag(key="stage", value=stage.name)],
    )
    nodes = iam.Role(
        scope,
        "NodeRole",
        assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
        managed_policies=[
            iam.ManagedPolicy.from_aws_managed_policy_name(name)
            for name in (
                f"{_MANAGED}WorkerNodePolicy",
                f"{_MANAGED}_CNI_Policy",
                "AmazonEC2ContainerRegistryPullOnly",
            )
        ],
    )
    eks.CfnNodegroup(
        scope,
        "Nodes",
        cluster_name=cluster.ref,
        node_role=nodes.role_arn,
        subnets=subnets,
        # As images.yml builds them: other nodes could not run them.
        ami_type="AL2023_x86_64_STANDARD",
        instance_types=[stage.node_class],
        scaling_config=eks.CfnNodegroup.ScalingConfigProperty(
            min_size=stage.node_count,
            desired_size=stage.node_count,
            max_size=stage.node_count * 4,
        ),
        update_config=eks.CfnNodegroup.UpdateConfigProperty(max_unavailable=1),
    )
    for name, configuration in _ADDONS.items():
        eks.CfnAddon(
            scope,
            f"Addon-{name}",
            cluster_name=cluster.ref,
            addon_name=name,
            configuration_values=None if configuration is None else json.dumps(configuration),
            # A new cluster has these already, as EKS configures them.
            resolve_conflicts="OVERWRITE",
        )
    _add_deployers(scope, cluster)
    return cluster


def _add_deployers(scope: Construct, cluster: eks.CfnCluster) -> None:
    """Let the role that releases into the cluster.

    No access policy of EKS fits: they know nothing of certificates and monitors. So the entry only
    names a group, and a Role in the namespace says what that may do.
    """
    principal = CfnParameter(
        scope,
        "DeployRoleArn",
        description="ARN of the IAM role that releases (DEPLOY_ROLE in docs/delivery.md).",
        allowed_pattern=r"arn:aws[a-z-]*:iam::\d{12}:role/.+",
    )
    eks.CfnAccessEntry(
        scope,
        "Deployers",
        cluster_name=cluster.ref,
        principal_arn=principal.value_as_string,
        kubernetes_groups=[DEPLOYERS],
    )
