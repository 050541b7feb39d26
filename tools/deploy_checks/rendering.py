"""Rendering of the overlays by kustomize, and what is committed of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tools.backends.errors import ServiceError
from tools.backends.go_builds import GoProgram
from tools.backends.programs import find_program
from tools.deploy_checks.manifests import Manifest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
K8S: Final = ROOT / "deploy" / "k8s"
RENDERED: Final = K8S / "rendered"
GREEN: Final = "green"
"""The overlay with the second track of gateways, and nothing of what it shares with `BLUE`."""
BLUE: Final = "prod"
OVERLAYS: Final = ("dev", "prod", "keda", "gateway-api", "aws", GREEN)
HEADER: Final = "# Made by `make deploy-render` from deploy/k8s/overlays/{}; do not edit.\n"
RENDER_SECONDS: Final = 120.0
KUSTOMIZE: Final = GoProgram(
    "kustomize",
    "sigs.k8s.io/kustomize/kustomize/v5",
    "v5.8.0",
    "h1:CCIJK7z/xJOlkXOaDOcL2jprV53a/eloiL02wg7oJJs=",
    ".",
    4,
)


def find_kustomize() -> Sequence[str]:
    """Return the command that renders a folder, which comes last.

    kustomize, else kubectl, which contains it, else what `make peers PEERS=kustomize` built. Raise
    `ServiceError` without any.
    """
    if (program := find_program("kustomize")) is not None:
        return [program, "build"]
    if (program := find_program("kubectl")) is not None:
        return [program, "kustomize"]
    if KUSTOMIZE.path.exists():
        return [str(KUSTOMIZE.path), "build"]
    raise ServiceError(
        "there is neither kustomize nor kubectl: install one of them, or build it once with"
        " `make peers PEERS=kustomize`"
    )


def render(command: Sequence[str], folder: Path) -> str:
    """Return the manifests of a folder. Raise `ServiceError` if it cannot be rendered."""
    done = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, timeout=RENDER_SECONDS, check=False
    )
    if done.returncode != 0 or done.stderr:
        # A warning is a problem too: kustomize warns of fields that the next release drops.
        raise ServiceError(f"{folder.relative_to(ROOT)}: {done.stderr.strip()}")
    return done.stdout


def parse(text: str) -> list[Manifest]:
    """Return the manifests of a stream of YAML."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def read_rendered(overlay: str) -> list[Manifest]:
    """Return the committed manifests of an overlay."""
    return parse((RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8"))


def write_rendered(command: Sequence[str]) -> None:
    """Render every overlay into its committed file."""
    RENDERED.mkdir(exist_ok=True)
    for overlay in OVERLAYS:
        text = HEADER.format(overlay) + render(command, K8S / "overlays" / overlay)
        (RENDERED / f"{overlay}.yaml").write_text(text, encoding="utf-8")


def stale(overlay: str, text: str) -> bool:
    """Return whether the committed manifests of an overlay differ from what `text` has.

    Their content counts: releases of kustomize write the same manifests differently.
    """
    return _sorted(read_rendered(overlay)) != _sorted(parse(text))


def _sorted(manifests: Sequence[Manifest]) -> list[tuple[tuple[str, str, str], dict[str, Any]]]:
    keyed = [((one["apiVersion"], one["kind"], one["metadata"]["name"]), one) for one in manifests]
    return sorted(keyed, key=lambda pair: pair[0])
