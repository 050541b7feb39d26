"""deploy/compose.yaml as data: the supported part of Compose, and an error for any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tools.backends.errors import ServiceError

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "deploy" / "compose.yaml"
KNOWN: Final = frozenset(
    {
        *("image", "build", "command", "entrypoint", "environment", "volumes", "ports"),
        *("healthcheck", "depends_on", "restart", "read_only", "tmpfs", "cap_drop"),
        *("security_opt", "stop_grace_period"),
    }
)


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `dockerfile`: builds its image, else `image` is the image's name."""

    name: str
    image: str
    dockerfile: str | None
    command: Sequence[str]
    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    volumes: Sequence[str]
    ports: Sequence[str]
    health: Mapping[str, Any]
    needs: Mapping[str, str]
    restart: str
    options: Sequence[str]
    """Further arguments of `run`."""

    @property
    def ours(self) -> bool:
        return self.dockerfile is not None

    @property
    def checks_health(self) -> bool:
        """Whether it has a health check: every image of ours has one."""
        return self.ours or bool(self.health)


def read_services(file: Path = FILE) -> list[Service]:
    """Return the services, each after its dependencies. Raise `ServiceError`."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    services = {name: _service(name, fields) for name, fields in document["services"].items()}
    ordered: list[Service] = []

    def add(service: Service) -> None:
        for needed in service.needs:
            add(services[needed])
        if service not in ordered:
            ordered.append(service)

    for service in services.values():
        add(service)
    return ordered


def images_of(services: Sequence[Service]) -> list[str]:
    """Return the images that are not built here, each once."""
    return list(dict.fromkeys(service.image for service in services if not service.ours))


def _service(name: str, fields: Mapping[str, Any]) -> Service:
    if unknown := sorted(set(fields) - KNOWN):
        raise ServiceError(f"{FILE.name}: {name} has {', '.join(unknown)}, which is not understood")
    build = fields.get("build")
    dockerfile = None if build is None else build["dockerfile"]
    return Service(
        name=name,
        image=f"sluice-{_stem(dockerfile)}" if dockerfile else fields["image"],
        dockerfile=dockerfile,
        command=_words(fields.get("command", ())),
        entrypoint=_words(fields.get("entrypoint", ())),
        environment={key: _plain(value) for key, value in fields.get("environment", {}).items()},
        volumes=tuple(fields.get("volumes", ())),
        ports=tuple(fields.get("ports", ())),
        health={
            **(health := fields.get("healthcheck", {})),
            **({"test": _words(health["test"])} if "test" in health else {}),
        },
        needs={key: value["condition"] for key, value in fields.get("depends_on", {}).items()},
        restart=fields.get("restart", "no"),
        options=[
            *(["--read-only"] if fields.get("read_only") else []),
            *(f"--tmpfs={place}" for place in fields.get("tmpfs", ())),
            *(f"--cap-drop={one}" for one in fields.get("cap_drop", ())),
            # The condition that podman supports as well, in its spelling.
            *(f"--security-opt={one.partition(':')[0]}" for one in fields.get("security_opt", ())),
            *(
                [f"--stop-timeout={fields['stop_grace_period'].removesuffix('s')}"]
                if "stop_grace_period" in fields
                else []
            ),
        ],
    )


def _stem(dockerfile: str) -> str:
    return Path(dockerfile).name.removesuffix(".Dockerfile")


def _words(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ServiceError(f"{FILE.name}: write {values!r} as a list of words")
    return tuple(_plain(value) for value in values)


def _plain(value: Any) -> str:
    """Return the text with `$$`, Compose's escape of a dollar, replaced. Expands no variables."""
    return str(value).replace("$$", "$")
