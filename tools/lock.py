"""Resolution of all dependencies to hash-pinned locks in requirements/. Run by `make lock`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
BUILD_TOOLS = ["setuptools>=77"]
OLDEST_PYTHON = "3.11"


SERVICES = ("intake", "repository", "processor", "gateway")
SEPARATE = {
    "audit": "What searches the locks for known vulnerabilities.",
    "aws": "What makes and checks deploy/aws.",
    "checkov": "What checks the infrastructure for weak settings; it pins its own boto3.",
}
"""Locks of environments of their own, each from a file of the same name that ends in `.in`."""


def distributions() -> dict[str, dict[str, Any]]:
    """Return the `project` table of each distribution of the workspace by its name."""
    projects = {}
    for folder in ("libs", "services"):
        for path in sorted((ROOT / folder).glob("*/pyproject.toml")):
            project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
            projects[project["name"]] = project
    return projects


def third_party_requirements(*names: str) -> list[str]:
    """Return the third-party requirements of these distributions, through all workspace
    dependencies.

    Extras of ours (`sluice-backends[redis]`) count where they are requested.
    """
    ours = distributions()
    needed: set[str] = set(BUILD_TOOLS)
    pending = [Requirement(name) for name in names]
    seen: set[str] = set()
    while pending:
        requirement = pending.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        project = ours[requirement.name]
        texts = list(project.get("dependencies", []))
        for extra in requirement.extras:
            texts += project["optional-dependencies"][extra]
        for text in texts:
            if Requirement(text).name in ours:
                pending.append(Requirement(text))
            else:
                needed.add(text)
    return sorted(needed)


def compile_lock(source: Path, output: Path, title: str, options: list[str]) -> None:
    """Resolve `source` and write `output` with hashes and no index address.

    A locked version stays: `make lock ARGS=--upgrade` takes the newest of all,
    `ARGS="--upgrade-package NAME"` of one. Each lock is valid for Python 3.11 and newer on every
    platform. Extras stay in it (`coverage[toml]==…`): without them an installer that resolves
    searches for a newer release that offers the extra, and fails as soon as one exists.
    """
    print(f"resolving {output.relative_to(ROOT)} …", file=sys.stderr)
    subprocess.run(
        [
            str(Path(sys.executable).with_name("uv")),
            *("--quiet", "--no-config", "--system-certs", "pip", "compile"),
            *("--universal", "--python-version", OLDEST_PYTHON),
            *("--generate-hashes", "--no-strip-extras", "--no-annotate", "--no-header"),
            *options,
            *("--output-file", str(output), str(source)),
        ],
        check=True,
        cwd=ROOT,
    )
    body = output.read_text(encoding="utf-8")
    output.write_text(f"# {title}\n# Made by `make lock`; do not edit.\n{body}", encoding="utf-8")


def main() -> None:
    """Write the locks of one common environment (`run.txt`), of the tools, and of each service,
    and of the tools that have environments of their own.

    The input is the distributions' pyproject.toml files, so that nothing is listed twice; the
    development tools come from requirements/dev.in. An image installs the lock of its service,
    which has the same versions as `run.txt`.
    """
    options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        uv_in, run_in, dev_in = (Path(scratch) / name for name in ("uv.in", "run.in", "dev.in"))
        uv_in.write_text("uv\n", encoding="utf-8")
        compile_lock(uv_in, REQUIREMENTS / "uv.txt", "What installs the other two.", options)
        everything = third_party_requirements(*distributions())
        run_in.write_text("\n".join(everything) + "\n", encoding="utf-8")
        run_txt = REQUIREMENTS / "run.txt"
        compile_lock(run_in, run_txt, "What the services and the client run on.", options)
        for service in SERVICES:
            service_in = Path(scratch) / f"{service}.in"
            needs = third_party_requirements(f"sluice-{service}")
            service_in.write_text(f"-c {run_txt}\n" + "\n".join(needs) + "\n", encoding="utf-8")
            title = f"What the image of the {service} runs on: a part of run.txt."
            compile_lock(service_in, REQUIREMENTS / f"{service}.txt", title, options)
        dev_in.write_text(
            f"-c {run_txt}\n-r {run_in}\n" + (REQUIREMENTS / "dev.in").read_text(encoding="utf-8"),
            encoding="utf-8",
        )
        dev_txt = REQUIREMENTS / "dev.txt"
        compile_lock(dev_in, dev_txt, "The same, and what checks and tests it.", options)
    for name, title in SEPARATE.items():
        source = REQUIREMENTS / f"{name}.in"
        compile_lock(source, REQUIREMENTS / f"{name}.txt", title, options)


if __name__ == "__main__":
    main()
