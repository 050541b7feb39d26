"""Requirements of the lock files, and the packages installed in an environment."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def read_lock(text: str) -> list[Requirement]:
    """Return the requirements of a lock that apply to this interpreter and platform."""
    lines = re.findall(r"^([\w.-]+(?:\[[^\]]*\])?==[^\\\n]+)", text, re.MULTILINE)
    pinned = [Requirement(line) for line in lines]
    return [one for one in pinned if one.marker is None or one.marker.evaluate()]


def excerpt(text: str, names: Iterable[str]) -> str:
    """Return the entries of a lock, with their hashes, for these distributions."""
    wanted = {canonicalize_name(name) for name in names}
    entries = re.split(r"\n(?=\S)", text)  # hashes and comments are indented
    return "".join(
        f"{entry}\n"
        for entry in entries
        if canonicalize_name(re.split(r"[\[=]", entry)[0]) in wanted
    )


def pinned_versions(lock: Iterable[Requirement]) -> dict[str, str]:
    """Return the version of each distribution, by its normalized name."""
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in lock}


def installed_versions(python: Path) -> dict[str, str]:
    """Return the versions installed in the environment of `python`, by normalized name."""
    listing = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"],
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout
    return {canonicalize_name(one["name"]): one["version"] for one in json.loads(listing)}


def write_wheel(folder: Path, name: str, version: str, requires: str) -> None:
    """Write an installable wheel without any module, which requires `requires`."""
    info = f"{name}-{version}.dist-info"
    files: Mapping[str, str] = {
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
