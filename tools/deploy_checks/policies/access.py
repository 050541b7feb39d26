"""Access: tokens of the API server, and secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tools.deploy_checks.manifests import Manifest, by_name, our_workloads, workloads

EXTERNAL: Final[Mapping[str, frozenset[str]]] = {
    "redis": frozenset({"url", "address", "username", "password"}),
    "mysql": frozenset({"url"}),
    "kafka": frozenset({"username", "password", "keda-sasl", "keda-tls"}),
    "s3": frozenset({"access-key", "secret-key"}),
}
"""Secrets that an operator makes (docs/deployment.md), with their keys."""
AUTHORITIES: Final = "mysql-ca"
"""Config map that an operator makes, with the authorities of MySQL's certificate."""
_CERTIFICATE: Final = frozenset({"tls.crt", "tls.key", "ca.crt"})


def tokens(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield pods that get a token of the API server, or share an account."""
    accounts = by_name(manifests, "ServiceAccount")
    for workload in workloads(manifests):
        if workload.pod.get("automountServiceAccountToken") is not False:
            yield f"{workload.shown}: mounts a token of its service account"
        if workload.pod.get("enableServiceLinks") is not False:
            yield f"{workload.shown}: gets a variable for every service of the namespace"
        if not workload.is_ours:
            continue
        account = accounts.get(workload.pod.get("serviceAccountName", "default"))
        if account is None:
            yield f"{workload.shown}: has no service account of its own"
        elif account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']}: mounts its token"


def authorities(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield config maps that are missing, and workloads that lack the authorities of MySQL.

    The secret `mysql` is one for all: if its URL has `ssl_ca`, each that mounts it needs the file.
    """
    known = by_name(manifests, "ConfigMap").keys() | {AUTHORITIES}
    lacking = []
    mounting = 0
    for workload in our_workloads(manifests):
        volumes = workload.pod.get("volumes", [])
        maps = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
        yield from (f"{workload.shown}: there is no config map {name}" for name in maps - known)
        if any(volume.get("secret", {}).get("secretName") == "mysql" for volume in volumes):
            mounts = {mount["name"] for mount in workload.main.get("volumeMounts", [])}
            if AUTHORITIES in maps and AUTHORITIES in mounts:
                mounting += 1
            else:
                lacking.append(workload)
    if mounting:
        yield from (f"{each.shown}: does not mount {AUTHORITIES}" for each in lacking)


def known_secrets(manifests: Sequence[Manifest]) -> dict[str, frozenset[str]]:
    """Return every secret that exists where the manifests are applied, with its keys."""
    known = dict(EXTERNAL)
    for name, secret in by_name(manifests, "Secret").items():
        known[name] = frozenset({**secret.get("data", {}), **secret.get("stringData", {})})
    for certificate in by_name(manifests, "Certificate").values():
        known[certificate["spec"]["secretName"]] = _CERTIFICATE
    return known


def secrets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield secrets in variables, missing ones, and files that everybody may read."""
    known = known_secrets(manifests)
    for workload in workloads(manifests):
        for volume in workload.pod.get("volumes", []):
            secret = volume.get("secret")
            if secret is None:
                continue
            keys = known.get(secret["secretName"])
            if keys is None:
                yield f"{workload.shown}: there is no secret {secret['secretName']}"
                continue
            for item in secret.get("items", []):
                if item["key"] not in keys:
                    yield f"{workload.shown}: secret {secret['secretName']} has no {item['key']}"
            if secret.get("defaultMode", 0o644) & 0o007:
                yield f"{workload.shown}: every user may read secret {secret['secretName']}"
    for workload in our_workloads(manifests):
        for entry in workload.main.get("env", []):
            if "secretKeyRef" in entry.get("valueFrom", {}):
                yield f"{workload.shown}: {entry['name']} is a secret in a variable; mount a file"
        for source in workload.main.get("envFrom", []):
            if "secretRef" in source:
                yield f"{workload.shown}: a whole secret is in its variables; mount files"
