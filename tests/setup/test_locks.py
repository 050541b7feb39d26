"""Locks: they install exactly what they list, whatever was released later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.clone import ROOT, clone_workspace
from support.locks import excerpt, installed_versions, pinned_versions, read_lock, write_wheel

LOCKS = {name: ROOT / "requirements" / f"{name}.txt" for name in ("uv", "run", "dev")}
# A package that others need with an extra, a run-time dependency, and a tool.
RELEASED_SINCE = ("coverage", "sqlalchemy", "pytest")


@pytest.fixture
def newer_releases(tmp_path: Path) -> dict[str, str]:
    """Settings of pip and uv that offer a newer, incompatible release of three packages."""
    folder = tmp_path / "index"
    for name in RELEASED_SINCE:
        write_wheel(folder, name, "9999.0", requires="sluice-nowhere-to-be-found")
    return {"PIP_FIND_LINKS": str(folder), "UV_FIND_LINKS": str(folder)}


@pytest.mark.long
def test_make_installs_exactly_the_locks(tmp_path: Path, newer_releases: dict[str, str]) -> None:
    """Newer releases are ignored; only an environment's seed packages are installed besides."""
    clone = clone_workspace(tmp_path / "sluice")
    for target, names in (("install-run", ("uv", "run")), ("install", ("uv", "dev"))):
        clone.make(target, settings=newer_releases)
        wanted = {
            name: version
            for lock in names
            for name, version in pinned_versions(read_lock(LOCKS[lock].read_text())).items()
        }
        found = installed_versions(clone.python)
        ours = {name for name in found if name.startswith("sluice-")}
        assert {name: found.get(name) for name in wanted} == wanted
        assert set(found) - set(wanted) - ours <= {"pip", "setuptools"}


# What others need with an extra, and all that it needs itself.
EXCERPT = ("sqlalchemy", "greenlet", "typing-extensions")


@pytest.mark.long
@pytest.mark.parametrize(
    "names", [EXCERPT, pytest.param((), id="all", marks=pytest.mark.slow_fault)]
)
def test_pip_installs_the_lock_as_images_do(
    tmp_path: Path, newer_releases: dict[str, str], names: Collection[str]
) -> None:
    """The command of the Dockerfiles, which have no uv; of a part of the lock, or of all of it."""
    clone = clone_workspace(tmp_path / "sluice")
    clone.make(".venv/bin/python")
    text = LOCKS["run"].read_text()
    lock = tmp_path / "lock.txt"
    lock.write_text(excerpt(text, names) if names else text)
    pip = [str(clone.python), "-m", "pip", "--quiet"]
    arguments = ["--no-deps", "--require-hashes", "--requirement", str(lock)]
    for command in ([*pip, "install", *arguments], [*pip, "check"]):
        subprocess.run(command, env=clone.environment(newer_releases), check=True, timeout=240)
    wanted = pinned_versions(read_lock(lock.read_text()))
    assert set(wanted) >= set(names or RELEASED_SINCE[1:2])
    assert wanted.items() <= installed_versions(clone.python).items()


@pytest.mark.parametrize("name", ["run", "dev"])
def test_lock_pins_every_extra_that_is_needed(name: str) -> None:
    """Where one is not pinned, pip searches for a release that has it and finds the newest."""
    lock = read_lock(LOCKS[name].read_text())
    assert missing_extras(lock) == set()
    stripped = [Requirement(f"{one.name}{one.specifier}") for one in lock]
    assert missing_extras(stripped) >= {"sqlalchemy[asyncio]"}


@pytest.mark.parametrize("path", LOCKS.values(), ids=lambda path: path.name)
def test_lock_names_no_index(path: Path) -> None:
    assert "://" not in path.read_text()
    assert "--index" not in path.read_text()
    assert "--find-links" not in path.read_text()


def test_locks_agree_where_they_overlap() -> None:
    run, dev = (pinned_versions(read_lock(LOCKS[name].read_text())) for name in ("run", "dev"))
    assert run.items() <= dev.items()


def missing_extras(lock: list[Requirement]) -> set[str]:
    """Return the extras that locked distributions need and that `lock` does not pin."""
    extras = {canonicalize_name(one.name): one.extras for one in lock}
    missing = set()
    for distribution in distributions(path=sys.path):
        name = canonicalize_name(distribution.metadata["Name"])
        is_ours = name.startswith("sluice-")
        if not is_ours and name not in extras:
            continue
        # The locks are for everything, so for every extra of ours.
        provided = distribution.metadata.get_all("Provides-Extra") or ()
        for need in map(Requirement, distribution.requires or ()):
            applies = need.marker is None or any(
                need.marker.evaluate({"extra": extra})
                for extra in ("", *(provided if is_ours else extras[name]))
            )
            if applies and not need.name.startswith("sluice-"):
                lacking = need.extras - extras.get(canonicalize_name(need.name), set())
                missing |= {f"{canonicalize_name(need.name)}[{extra}]" for extra in lacking}
    return missing
