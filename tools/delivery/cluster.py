"""Deployment to a cluster with kubectl, and the way back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tools.delivery.errors import DeliveryError
from tools.delivery.manifests import Manifest, in_steps, with_digests
from tools.delivery.programs import run_program

_REVISION: Final = "deployment.kubernetes.io/revision"
JOB_SECONDS: Final = 3600.0
"""What docs/deployment.md allows a migration."""
_ROLLOUT_SECONDS: Final = 900.0
_POLL_SECONDS: Final = 2.0


def revisions(namespace: str) -> dict[str, int]:
    """Return the revision of each Deployment; empty before the first release."""
    answer = _kubectl("get", "deployments", "--namespace", namespace, "--output", "json")
    return {
        item["metadata"]["name"]: int(item["metadata"]["annotations"][_REVISION])
        for item in json.loads(answer)["items"]
        if _REVISION in item["metadata"].get("annotations", {})
    }


def deploy(
    overlay: Path, images: Mapping[str, str], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Apply an overlay with these images; return when every Deployment runs them.

    A Job cannot be changed, so each is deleted and made anew: migrations are idempotent.
    """
    rendered = list(yaml.safe_load_all(_kubectl("kustomize", str(overlay))))
    steps = in_steps(with_digests([one for one in rendered if one], images))
    _apply(steps.foundation)
    for job in steps.jobs:
        _kubectl("delete", "job", *_named(job), "--ignore-not-found", "--wait", "--timeout=60s")
        _apply([job])
        _await_job(job, sleep)
    _apply(steps.deployments)
    for deployment in steps.deployments:
        _await_rollout(_named(deployment))


def roll_back(namespace: str, before: Mapping[str, int]) -> list[str]:
    """Bring each Deployment back to its revision; return the names of those that were changed.

    Raise `DeliveryError` after all of them if one could not be brought back, or has nothing to go
    back to.
    """
    problems = []
    changed = []
    for name, revision in revisions(namespace).items():
        if name not in before:
            problems.append(f"{name} is new and has no earlier revision: delete it")
        elif revision != before[name]:
            changed.append(name)
    for name in changed:
        place = (name, "--namespace", namespace)
        try:
            _kubectl("rollout", "undo", "deployment", *place, f"--to-revision={before[name]}")
        except DeliveryError as error:
            problems.append(str(error))
    for name in changed:
        try:
            _await_rollout((name, "--namespace", namespace))
        except DeliveryError as error:
            problems.append(str(error))
    if problems:
        raise DeliveryError("; ".join(problems))
    return changed


def _await_job(job: Manifest, sleep: Callable[[float], None]) -> None:
    """Return when it is complete; unlike `kubectl wait`, do not wait for one that has failed."""
    for _ in range(round(JOB_SECONDS / _POLL_SECONDS)):
        found = json.loads(_kubectl("get", "job", *_named(job), "--output", "json"))
        ends = {
            condition["type"]: condition
            for condition in found.get("status", {}).get("conditions", ())
            if condition["status"] == "True"
        }
        if "Complete" in ends:
            return
        if "Failed" in ends:
            name = job["metadata"]["name"]
            message = ends["Failed"].get("message", "no reason given")
            raise DeliveryError(f"job {name} failed: {message}; see `kubectl logs job/{name}`")
        sleep(_POLL_SECONDS)
    raise DeliveryError(f"job {job['metadata']['name']} took more than {JOB_SECONDS:g} s")


def _await_rollout(place: Sequence[str]) -> None:
    limit = f"--timeout={_ROLLOUT_SECONDS:g}s"
    print(f"waiting for {place[0]}", file=sys.stderr)
    _kubectl("rollout", "status", "deployment", *place, limit, seconds=_ROLLOUT_SECONDS + 30)


def _named(manifest: Manifest) -> tuple[str, ...]:
    metadata = manifest["metadata"]
    return (metadata["name"], "--namespace", metadata.get("namespace", "default"))


def _apply(manifests: Sequence[Manifest]) -> None:
    if manifests:
        _kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))


def _kubectl(*arguments: str, **options: Any) -> str:
    return run_program(["kubectl", *arguments], **options)
