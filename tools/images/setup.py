"""Installation of podman and mmdebstrap from the distribution, where allowed."""

from __future__ import annotations

from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import find_program, install_package

PACKAGES: Final = {
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "conmon": "conmon",
    "catatonit": "catatonit",
    # podman's network needs it, but Debian only recommends it.
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
}
"""Programs and their packages."""
LIBRARIES: Final = ("netavark", "aardvark-dns", "debian-archive-keyring")
"""Packages without a program on the PATH."""


def set_up() -> None:
    """Install what is missing. Raise `ServiceError` where that is not allowed."""
    missing = [package for program, package in PACKAGES.items() if find_program(program) is None]
    if not missing:
        return
    for package in (*missing, *LIBRARIES):
        install_package("images", package)
    left = [package for program, package in PACKAGES.items() if find_program(program) is None]
    if left:
        raise ServiceError(f"install {' '.join((*left, *LIBRARIES))} first")
