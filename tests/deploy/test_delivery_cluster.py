"""Deployment and rollback: which commands run, in which order, and what a failure leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.scripted_programs import ScriptedPrograms
from tools.delivery.__main__ import main
from tools.delivery.cluster import deploy, roll_back
from tools.delivery.errors import DeliveryError
from tools.delivery.images import SERVICES, verified_images
from tools.delivery.manifests import with_digests

DIGEST = "sha256:" + "a" * 64
IMAGES = {f"sluice-{service}": f"ghcr.io/us/sluice-{service}@{DIGEST}" for service in SERVICES}
SIGNER = "https://github.com/us/sluice/.github/workflows/images.yml@refs/heads/main"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedPrograms:
    folder = tmp_path / "programs"
    folder.mkdir()
    scripted = ScriptedPrograms(folder)
    scripted.install("kubectl", "docker", "cosign")
    monkeypatch.setenv("PATH", str(folder))
    return scripted


def workload(kind: str, name: str, image: str, **more: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": name, "image": image}], **more}
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "sluice"},
        "spec": {"template": {"spec": pod}},
    }


OVERLAY = [
    workload("Deployment", "intake", "sluice-intake:dev"),
    {"kind": "Namespace", "metadata": {"name": "sluice"}},
    workload("Job", "migrate", "registry.example/x/sluice-repository:1"),
    {"kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "sluice"}},
    workload("Deployment", "gateway", "sluice-gateway", initContainers=[{"image": "busybox:1.37"}]),
]


def deployments(**revisions: int) -> dict[str, Any]:
    return {
        "items": [
            {
                "metadata": {
                    "name": name,
                    "annotations": {"deployment.kubernetes.io/revision": str(number)},
                }
            }
            for name, number in revisions.items()
        ]
    }


def job_with(*conditions: tuple[str, str]) -> dict[str, Any]:
    listed = [
        {"type": kind, "status": status, "message": "backoff limit"} for kind, status in conditions
    ]
    return {"status": {"conditions": listed}}


def applied(programs: ScriptedPrograms) -> list[list[str]]:
    """Return what each `kubectl apply` was given, as kind/name."""
    return [
        [f"{one['kind']}/{one['metadata']['name']}" for one in yaml.safe_load_all(stdin)]
        for command, stdin in programs.calls()
        if command.startswith("kubectl apply")
    ]


def test_deploy_migrates_before_it_rolls_out(programs: ScriptedPrograms) -> None:
    programs.answer("kustomize", output=yaml.safe_dump_all(OVERLAY))
    programs.answer("get", "job", output={"status": {}}, times=1)
    programs.answer("get", "job", output=job_with(("SuccessCriteriaMet", "True")), times=1)
    programs.answer("get", "job", output=job_with(("Failed", "False"), ("Complete", "True")))
    naps: list[float] = []
    deploy(Path("overlay"), IMAGES, naps.append)
    assert applied(programs) == [
        ["Namespace/sluice", "ConfigMap/settings"],
        ["Job/migrate"],
        ["Deployment/intake", "Deployment/gateway"],
    ]
    commands = [command.split(" --")[0] for command in programs.commands()]
    assert commands == [
        "kubectl kustomize overlay",
        "kubectl apply",
        "kubectl delete job migrate",
        "kubectl apply",
        *["kubectl get job migrate"] * 3,
        "kubectl apply",
        "kubectl rollout status deployment intake",
        "kubectl rollout status deployment gateway",
    ]
    assert len(naps) == 2


def test_failed_migration_rolls_nothing_out(programs: ScriptedPrograms) -> None:
    programs.answer("kustomize", output=yaml.safe_dump_all(OVERLAY))
    programs.answer("get", "job", output=job_with(("Failed", "True")))
    with pytest.raises(DeliveryError, match=r"job migrate failed: backoff limit; see `kubectl"):
        deploy(Path("overlay"), IMAGES, lambda _: None)
    assert ["Job/migrate"] in applied(programs)
    assert not [name for names in applied(programs) for name in names if "Deployment" in name]


def test_migration_may_take_an_hour(
    programs: ScriptedPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/deployment.md allows, and not for ever."""
    monkeypatch.setattr("tools.delivery.cluster._POLL_SECONDS", 600.0)
    programs.answer("kustomize", output=yaml.safe_dump_all(OVERLAY))
    programs.answer("get", "job", output={"status": {}})
    naps: list[float] = []
    with pytest.raises(DeliveryError, match="more than 3600 s"):
        deploy(Path("overlay"), IMAGES, naps.append)
    assert sum(naps) == 3600


def test_rollout_that_does_not_come_up_fails(programs: ScriptedPrograms) -> None:
    programs.answer("kustomize", output=yaml.safe_dump_all(OVERLAY))
    programs.answer("get", "job", output=job_with(("Complete", "True")))
    programs.answer("rollout", "gateway", output="exceeded its progress deadline", code=1)
    with pytest.raises(DeliveryError, match="exceeded its progress deadline"):
        deploy(Path("overlay"), IMAGES, lambda _: None)


def test_images_become_digests_and_others_stay() -> None:
    text = json.dumps(with_digests(OVERLAY, IMAGES))
    assert text.count(DIGEST) == 3
    assert IMAGES["sluice-repository"] in text
    assert "busybox:1.37" in text
    assert ":dev" not in text
    assert "sluice-intake:dev" in json.dumps(OVERLAY)


def test_image_without_a_digest_is_refused() -> None:
    with pytest.raises(DeliveryError, match="no digest is known of sluice-intake:dev"):
        with_digests(OVERLAY, {})
    with pytest.raises(DeliveryError, match="none of our images"):
        with_digests([workload("Deployment", "web", "registry.example/notsluice-intake")], IMAGES)


def test_rollback_undoes_what_changed_alone(programs: ScriptedPrograms) -> None:
    programs.answer("get", "deployments", output=deployments(intake=7, gateway=4))
    assert roll_back("sluice", {"intake": 7, "gateway": 3}) == ["gateway"]
    assert [command for command in programs.commands() if "rollout" in command] == [
        "kubectl rollout undo deployment gateway --namespace sluice --to-revision=3",
        "kubectl rollout status deployment gateway --namespace sluice --timeout=900s",
    ]


def test_rollback_goes_on_after_a_failure(programs: ScriptedPrograms) -> None:
    """One that cannot go back must not keep the others from it."""
    programs.answer("get", "deployments", output=deployments(extra=1, intake=8, gateway=4))
    programs.answer("undo", "intake", output="unable to find the revision", code=1)
    with pytest.raises(DeliveryError, match=r"extra is new .*unable to find the revision"):
        roll_back("sluice", {"intake": 7, "gateway": 3})
    assert "rollout undo deployment gateway" in " ".join(programs.commands())
    assert "rollout status deployment gateway" in " ".join(programs.commands())


def test_record_and_rollback_from_the_command(
    programs: ScriptedPrograms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.answer("get", output=deployments(intake=7), times=1)
    programs.answer("get", output=deployments(intake=8))
    assert main(["record"]) == 0
    before = tmp_path / "before.json"
    before.write_text(capsys.readouterr().out)
    assert main(["rollback", "--before", str(before)]) == 0
    assert capsys.readouterr().out == "back at the revisions before: intake\n"


def test_images_are_verified_by_digest(programs: ScriptedPrograms) -> None:
    programs.answer("inspect", output={"digest": DIGEST})
    images = verified_images("Us", "abc", SIGNER)
    assert images == IMAGES
    verified = [command for command in programs.commands() if command.startswith("cosign verify")]
    assert [command.split()[-1] for command in verified] == list(IMAGES.values())
    issuer = "https://token.actions.githubusercontent.com"
    flags = f"--certificate-identity {SIGNER} --certificate-oidc-issuer {issuer}"
    assert all(flags in command for command in verified)


def test_unsigned_image_is_refused(programs: ScriptedPrograms) -> None:
    programs.answer("inspect", output={"digest": DIGEST})
    programs.answer("cosign", f"ghcr.io/us/sluice-processor@{DIGEST}", output="none", code=12)
    with pytest.raises(DeliveryError, match=r"sluice-processor.*exited with 12: none"):
        verified_images("us", "abc", SIGNER)


def test_image_without_a_manifest_is_refused(programs: ScriptedPrograms) -> None:
    programs.answer("inspect", output={"digest": "latest"})
    with pytest.raises(DeliveryError, match="push it again"):
        verified_images("us", "abc", SIGNER)
    assert not [command for command in programs.commands() if command.startswith("cosign")]


def test_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["record"]) == 1
    assert capsys.readouterr().err == "record: kubectl is not installed\n"
