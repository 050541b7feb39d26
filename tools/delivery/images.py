"""Digests of the images of a commit, verified to be signed by this repository's workflow."""

from __future__ import annotations

import json
import re
from typing import Final

from tools.delivery.errors import DeliveryError
from tools.delivery.programs import run_program

SERVICES: Final = ("intake", "repository", "processor", "gateway", "standalone")
ISSUER: Final = "https://token.actions.githubusercontent.com"
"""Of the identity tokens of GitHub Actions, with which images.yml signs."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def verified_images(owner: str, tag: str, signer: str) -> dict[str, str]:
    """Return `registry/name@digest` of each image, by its name.

    Args:
        signer: the workflow that must have signed it, as in its certificate.

    Raise `DeliveryError` if one is missing, or is signed by nobody or somebody else.
    """
    images = {}
    for service in SERVICES:
        name = f"sluice-{service}"
        repository = f"ghcr.io/{owner.lower()}/{name}"
        command = ["docker", "buildx", "imagetools", "inspect", f"{repository}:{tag}"]
        manifest = json.loads(run_program([*command, "--format", "{{json .Manifest}}"]))
        digest = manifest.get("digest", "")
        if not _DIGEST.fullmatch(digest):
            raise DeliveryError(f"{repository}:{tag} has the digest {digest!r}: push it again")
        image = f"{repository}@{digest}"
        run_program(
            [
                *("cosign", "verify", "--certificate-identity", signer),
                *("--certificate-oidc-issuer", ISSUER, image),
            ]
        )
        images[name] = image
    return images
