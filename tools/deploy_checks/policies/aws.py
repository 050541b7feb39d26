"""AWS: what the manifests say fits what deploy/aws makes, if they use its roles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sluice_common.settings import SluiceSettings
from tools.deploy_checks.loading import load
from tools.deploy_checks.manifests import Manifest, by_name, of_kind, our_workloads, shown
from tools.deploy_checks.policies.network import BACKENDS, NAMESPACE
from tools.deploy_checks.rendering import ROOT

ROLE: Final = "eks.amazonaws.com/role-arn"
TEMPLATES: Final = ROOT / "deploy" / "aws" / "template"


@cache
def templates() -> Mapping[str, Mapping[str, Any]]:
    """Return the CloudFormation template of each stage."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(TEMPLATES.glob("*.json"))
    }


def aws(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield keys, buckets and accounts that the roles of no stage allow or trust."""
    accounts = {
        name: account
        for name, account in by_name(manifests, "ServiceAccount").items()
        if ROLE in account["metadata"].get("annotations", {})
    }
    if not accounts:
        return
    for account in accounts.values():
        subject = f"system:serviceaccount:{NAMESPACE}:{account['metadata']['name']}"
        if not any(subject in json.dumps(template) for template in templates().values()):
            yield f"{shown(account)}: no role of deploy/aws trusts it"
    for workload in our_workloads(manifests):
        settings = load(workload, manifests)
        uses_store = "s3" in BACKENDS.get(workload.name, ())
        if uses_store and workload.pod.get("serviceAccountName") not in accounts:
            yield f"{workload.shown}: uses the store, and its account has no role"
        if uses_store and settings.bucket == SluiceSettings.model_fields["bucket"].default:
            yield f"{workload.shown}: SLUICE_BUCKET is the default, which is somebody else's"
        if workload.service == "gateway" and settings.gateway.environment not in templates():
            yield (
                f"{workload.shown}: SLUICE_GATEWAY__ENVIRONMENT is none of the stages "
                f"{', '.join(templates())}, to whose keys the roles are limited"
            )
    for trigger in of_kind(manifests, "TriggerAuthentication"):
        identity = trigger["spec"].get("podIdentity", {})
        if identity.get("provider") == "aws" and identity.get("identityOwner", "keda") != "keda":
            yield f"{shown(trigger)}: the roles of the services do not trust KEDA; use its own"
