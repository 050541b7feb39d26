"""Images of Sluice, and the images that they and the stack build on."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.progress import say
from tools.images.compose import ROOT
from tools.images.engine import Engine
from tools.images.standins import make_stand_in

BUILD_SECONDS: Final = 3_600.0
DOCKERFILES: Final = ROOT / "deploy" / "docker"
CHOICE: Final = "SLUICE_IMAGES_FROM"
BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's bundle of certificates, also in the images."""


def dockerfiles() -> list[Path]:
    return sorted(DOCKERFILES.glob("*.Dockerfile"))


def tag_of(dockerfile: Path) -> str:
    return f"sluice-{dockerfile.name.removesuffix('.Dockerfile')}"


def bases_of(files: Sequence[Path]) -> list[str]:
    """Return the base images of Dockerfiles, each once."""
    images = [
        match[1]
        for file in files
        for match in re.finditer(r"^FROM (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    return list(dict.fromkeys(images))


def obtain(engine: Engine, image: str) -> str:
    """Obtain a foreign image: present, from its registry, or a stand-in. Return which.

    SLUICE_IMAGES_FROM=registry uses no stand-in, =distribution no registry.
    """
    requested = os.environ.get(CHOICE, "")
    if requested not in ("", "registry", "distribution"):
        raise ServiceError(f"{CHOICE} is {requested!r}: set it to registry or distribution")
    if engine.has_image(image):
        return "was there"
    if requested != "distribution":
        try:
            engine.pull(image)
        except ServiceError as error:
            # Docker can import too, but where it runs a registry is expected.
            if requested == "registry" or engine.kind == "docker":
                raise
            say("images", f"{image} is unavailable from its registry: {_last_line(error)}")
        else:
            return "from its registry"
    say("images", f"making a STAND-IN for {image} from packages of the distribution (minutes)")
    return f"STAND-IN: {make_stand_in(engine, image)}"


def build(engine: Engine, dockerfile: Path) -> None:
    """Build an image. Raise `ServiceError` with the end of the build's output."""
    options = ["--file", str(dockerfile), "--tag", tag_of(dockerfile)]
    if engine.kind == "podman":
        # Docker's format, because OCI's has no HEALTHCHECK. The steps run in a chroot, with this
        # machine's network and certificates: no bridge and no extra right is needed.
        options += ["--format=docker", "--isolation=chroot", "--network=host", "--pull=never"]
        bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        if bundle and Path(bundle).is_file():
            options += ["--layers", f"--volume={Path(bundle).resolve()}:{BUNDLE}:ro"]
    engine.run("build", *options, str(ROOT), seconds=BUILD_SECONDS)


def _last_line(error: ServiceError) -> str:
    return str(error).strip().splitlines()[-1].strip()
