"""Settings: every variable is one of the service, and the service accepts them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from pydantic import BaseModel

import sluice_gateway.service
import sluice_intake.service
import sluice_processor.service
import sluice_repository.service
from sluice_common.direct.targets import check_forwarding
from sluice_common.rpc.host import METRICS
from sluice_common.security.exposure import check_exposure
from sluice_common.settings import PREFIX, SluiceSettings
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from tools.deploy_checks.loading import (
    SECRET_FILES,
    UnusableSettingsError,
    full_environment,
    load,
)
from tools.deploy_checks.manifests import Manifest, Workload, by_name, our_workloads

Check = Callable[[SluiceSettings], None]
CHECKS: Final[Mapping[str, Check]] = {
    "intake": sluice_intake.service.check_settings,
    "repository": sluice_repository.service.check_settings,
    "processor": sluice_processor.service.check_settings,
    "gateway": sluice_gateway.service.check_settings,
}
ADDRESSES: Final[Mapping[str, str]] = {
    "intake": "intake_address",
    "repository": "repository_address",
    "gateway": "gateway_address",
}
"""The setting of the address where a service is called."""
FOREIGN: Final[Mapping[str, tuple[str, ...]]] = {
    "intake": ("S3", "SQS", "KAFKA", "MYSQL", "PROCESSOR", "GATEWAY", "WORKERS", "SWEEPER"),
    "repository": ("PROCESSOR", "GATEWAY"),
    "processor": ("REDIS", "GATEWAY", "WORKERS", "SWEEPER"),
    "gateway": ("WORKERS", "SWEEPER"),
}
"""Groups of settings that a service does not read, or whose backends are none of its business."""


def _names(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _names(f"{prefix}{name.upper()}__", kind)
        else:
            yield prefix + name.upper()


KNOWN: Final = frozenset(_names(PREFIX, SluiceSettings)) | SECRET_FILES


def settings(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield variables that are no settings, and settings that the service refuses."""
    maps = by_name(manifests, "ConfigMap")
    for workload in our_workloads(manifests):
        for source in workload.main.get("envFrom", []):
            name = source.get("configMapRef", {}).get("name")
            if name not in maps:
                yield f"{workload.shown}: there is no config map {name}"
        for problem in _setting_problems(workload, manifests):
            yield f"{workload.shown}: {problem}"


def _setting_problems(workload: Workload, manifests: Sequence[Manifest]) -> Iterator[str]:
    environment = full_environment(workload, manifests)
    foreign = tuple(f"{PREFIX}{group}__" for group in FOREIGN[workload.service])
    # Others may come with a config map that several services share; an intake's has none.
    own = {entry["name"] for entry in workload.main.get("env", [])}
    for name in sorted(environment):
        if name not in KNOWN:
            yield f"{name} is no setting"
        elif name.startswith(foreign) and (workload.service == "intake" or name in own):
            yield f"{name} is no setting of {workload.service}"
    mounted = list(_mounted_files(workload))
    for name in sorted(environment):
        if name.endswith("_FILE") and name != "SLUICE_GATEWAY__KEYS_FILE":
            path = environment[name]
            if path not in mounted:
                yield f"{name}: nothing is mounted at {path}"
    try:
        loaded = load(workload, manifests)
        if workload.is_served:
            _check_start(loaded, workload.service)
    except (UnusableSettingsError, ConfigurationError) as error:
        yield str(error)


def _check_start(settings: SluiceSettings, service: str) -> None:
    CHECKS[service](settings)
    setting = ADDRESSES.get(service)
    rpc: dict[str, Address] = {}
    if setting is not None:
        rpc[f"{PREFIX}{setting.upper()}"] = getattr(settings, setting)
    if not settings.allow_insecure:  # it would only log that
        metrics = {METRICS: settings.metrics_address}
        check_exposure(settings, rpc=rpc, services=[service], metrics=metrics)
    targets = {"SLUICE_REPOSITORY_SERVER": settings.repository_server}
    check_forwarding(settings, targets)


def _mounted_files(workload: Workload) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    for mount in workload.main.get("volumeMounts", []):
        secret = volumes.get(mount["name"], {}).get("secret")
        if secret is None:
            continue
        folder = PurePosixPath(mount["mountPath"])
        # All keys of a certificate's secret, where none are chosen.
        items = secret.get("items") or [{"path": key} for key in ("tls.crt", "tls.key", "ca.crt")]
        for item in items:
            yield str(folder / item["path"])
