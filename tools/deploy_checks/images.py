"""What the Dockerfiles say of the images: their user, and the variables that they set."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from tools.deploy_checks.rendering import ROOT

_VARIABLES: Final = re.compile(r"^ENV ((?:.*\\\n)*.*)$", re.MULTILINE)
_VARIABLE: Final = re.compile(r"(\w+)=(\S+)")
_USER: Final = re.compile(r"^USER (\d+)", re.MULTILINE)


@cache
def _final_stage(service: str) -> str:
    file = ROOT / "deploy" / "docker" / f"{service}.Dockerfile"
    return file.read_text(encoding="utf-8").rpartition("\nFROM ")[2]


def user_of(service: str) -> int:
    """Return the id of the user of a service's image."""
    found = _USER.search(_final_stage(service))
    assert found is not None, f"the image of {service} has no numeric user"
    return int(found[1])


def variables_of(service: str) -> dict[str, str]:
    """Return the settings that a service's image has."""
    blocks = _VARIABLES.findall(_final_stage(service))
    pairs = [pair for block in blocks for pair in _VARIABLE.findall(block)]
    return {name: value for name, value in pairs if name.startswith("SLUICE_")}
