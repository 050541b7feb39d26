"""The network: public, private and isolated subnets in three zones."""

from __future__ import annotations

from aws_cdk import Fn, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from sluice_aws.stages import Stage

ZONES = 3
_PRIVATE = ec2.SubnetType.PRIVATE_WITH_EGRESS
_ISOLATED = ec2.SubnetType.PRIVATE_ISOLATED


def add_network(scope: Construct, stage: Stage) -> ec2.Vpc:
    """Add the VPC. Objects go to S3 past the NAT gateways, which bill each byte."""
    vpc = ec2.Vpc(
        scope,
        "Vpc",
        ip_addresses=ec2.IpAddresses.cidr(stage.vpc_cidr),
        # Of the region that it is deployed to; a template knows none.
        availability_zones=[Fn.select(zone, Fn.get_azs()) for zone in range(ZONES)],
        nat_gateways=stage.nat_gateways,
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="public",
                subnet_type=ec2.SubnetType.PUBLIC,
                cidr_mask=24,
                map_public_ip_on_launch=False,
            ),
            ec2.SubnetConfiguration(name="cluster", subnet_type=_PRIVATE, cidr_mask=20),
            ec2.SubnetConfiguration(name="data", subnet_type=_ISOLATED, cidr_mask=24),
        ],
        gateway_endpoints={
            "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
        },
    )
    flow = logs.LogGroup(
        scope,
        "FlowLogs",
        retention=logs.RetentionDays.ONE_MONTH,
        removal_policy=RemovalPolicy.DESTROY,
    )
    role = iam.Role(
        scope, "FlowLogsRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com")
    )
    vpc.add_flow_log(
        "Rejected",
        destination=ec2.FlowLogDestination.to_cloud_watch_logs(flow, role),
        traffic_type=ec2.FlowLogTrafficType.REJECT,
    )
    return vpc
