"""The overlay `aws` fits the stack of the stage `production`, and its deployers may apply it."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, Final

import pytest

from support.aws_template import Template, load_template
from support.clone import ROOT
from tools.deploy_checks.manifests import Manifest, environment_of, our_workloads
from tools.deploy_checks.rendering import parse, read_rendered
from tools.deploy_checks.schemas import Schemas

ONCE: Final = ROOT / "deploy" / "k8s" / "aws-once"
K8S: Final = ROOT / "deploy" / "k8s"
PLACEHOLDER: Final = re.compile(
    r"example\.com|192\.0\.2\.|198\.51\.100\.|111122223333|xn--replace|fs-0{17}|10\.30\."
)
"""What belongs to nobody, or to one network alone: whoever deploys replaces it."""


@pytest.fixture
def template() -> Template:
    return load_template("production")


@pytest.fixture
def manifests() -> list[Manifest]:
    return read_rendered("aws")


def once() -> list[Manifest]:
    """Return what an administrator applies once."""
    return [one for file in sorted(ONCE.iterdir()) for one in parse(file.read_text("utf-8"))]


def named(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = [
        one for one in manifests if one["kind"] == kind and name in ("", one["metadata"]["name"])
    ]
    return found


def subnets(template: Template, group: str) -> set[str]:
    found = template.of_type("AWS::EC2::Subnet").items()
    return {one["CidrBlock"] for name, one in found if name.startswith(f"Vpc{group}")}


def test_policies_lead_to_the_data_subnets(template: Template, manifests: list[Manifest]) -> None:
    for name in ("to-redis", "to-mysql"):
        (rule,) = named(manifests, "NetworkPolicy", name)["spec"]["egress"]
        assert {peer["ipBlock"]["cidr"] for peer in rule["to"]} == subnets(template, "data")


def test_proxies_are_trusted_in_the_cluster_alone(
    template: Template, manifests: list[Manifest]
) -> None:
    (gateway,) = [each for each in our_workloads(manifests) if each.name == "gateway"]
    trusted = environment_of(gateway, manifests)["SLUICE_GATEWAY__TRUSTED_PROXIES"].split(",")
    assert set(trusted) == subnets(template, "cluster")
    assert all(ipaddress.ip_network(one).is_private for one in trusted)


def test_workloads_use_no_backend_that_the_stack_lacks(
    template: Template, manifests: list[Manifest]
) -> None:
    assert not template.of_type("AWS::MSK::Cluster")
    for workload in our_workloads(manifests):
        given = environment_of(workload, manifests)
        assert given["SLUICE_EVENTS"] == "off", workload.name
        secrets = {each.get("secret", {}).get("secretName") for each in workload.pod["volumes"]}
        assert "kafka" not in secrets, workload.name
        if workload.service in ("processor", "gateway"):
            assert given["SLUICE_SQS__QUEUE_URL"].startswith("https://sqs."), workload.name


def test_shared_volume_is_made_by_the_driver_of_the_stack(
    template: Template, manifests: list[Manifest]
) -> None:
    storage = named(once(), "StorageClass")
    claim = named(manifests, "PersistentVolumeClaim")["spec"]
    assert claim["storageClassName"] == storage["metadata"]["name"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    _, addon = template.only("AWS::EKS::Addon", "Addonefs")
    assert storage["provisioner"] == "efs.csi.aws.com"
    assert addon["AddonName"] == "aws-efs-csi-driver"
    for workload in our_workloads(manifests):
        user = workload.pod["securityContext"]
        assert storage["parameters"]["uid"] == str(user["runAsUser"])
        assert storage["parameters"]["gid"] == str(user["runAsGroup"])


def plural(kind: str) -> str:
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


def verbs(role: Manifest, group: str, resource: str) -> set[str]:
    """Return what the role may do with every object of a resource."""
    return {
        verb
        for rule in role["rules"]
        if group in rule["apiGroups"] and resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("overlay", ["aws", "keda"])
def test_deployers_may_apply_the_overlay(overlay: str) -> None:
    role = named(once(), "Role")
    assert role["metadata"]["namespace"] == "sluice"
    for manifest in read_rendered(overlay):
        group = manifest["apiVersion"].rpartition("/")[0]
        allowed = verbs(role, group, plural(manifest["kind"]))
        if manifest["kind"] == "Namespace":
            assert allowed == {"get"}
        else:
            assert {"get", "create", "patch"} <= allowed, manifest["kind"]
    assert "delete" in verbs(role, "batch", "jobs")
    assert {"list", "watch"} <= verbs(role, "apps", "deployments")
    assert "list" in verbs(role, "apps", "replicasets")


def test_deployers_are_limited(template: Template) -> None:
    manifests = once()
    role, binding = named(manifests, "Role"), named(manifests, "RoleBinding")
    assert "*" not in json.dumps(role["rules"])
    resources = {one for rule in role["rules"] for one in rule["resources"]}
    assert not resources & {"secrets", "roles", "rolebindings", "pods", "pods/exec"}
    (subject,) = binding["subjects"]
    _, entry = template.only("AWS::EKS::AccessEntry")
    assert [subject["name"]] == entry["KubernetesGroups"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_what_is_applied_once_is_valid() -> None:
    assert list(Schemas().problems(once())) == []


def documented() -> str:
    pages = [ROOT / "docs" / name for name in ("deployment.md", "aws.md", "scaling.md")]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def placeholders(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in lines if PLACEHOLDER.search(line)]


def test_every_placeholder_is_in_the_documented_table() -> None:
    """A value that is forgotten fails closed, far from where it was forgotten."""
    files: list[Any] = [*K8S.glob("overlays/*/*"), *K8S.glob("components/**/*"), *ONCE.iterdir()]
    named_files = [
        file.relative_to(K8S)
        for file in files
        if file.is_file() and placeholders(file.read_text(encoding="utf-8"))
    ]
    assert len(named_files) > 8
    text = documented()
    missing = [str(file) for file in named_files if f"`{file}`" not in text]
    assert missing == []
