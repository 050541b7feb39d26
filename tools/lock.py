"""Resolve every dependency to hash-pinned locks: requirements/run.txt and requirements/dev.txt.

The input is what the distributions' own pyproject.toml files ask for, so that nothing is listed
twice; the development tools come from requirements/dev.in. Needs the network; run by `make lock`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
BUILD_TOOLS = ["setuptools>=77"]


def declared_dependencies() -> list[str]:
    """The third-party requirements of all distributions of the workspace."""
    found: set[str] = set(BUILD_TOOLS)
    for folder in ("libs", "services"):
        for path in sorted((ROOT / folder).glob("*/pyproject.toml")):
            project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
            found.update(d for d in project["dependencies"] if not d.startswith("sluice-"))
    return sorted(found)


def compile_lock(inputs: list[Path], output: Path, title: str) -> None:
    """Run pip-compile over `inputs` and write `output` with hashes and no index address."""
    print(f"resolving {output.relative_to(ROOT)} …", file=sys.stderr)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            "--quiet",
            "--generate-hashes",
            "--allow-unsafe",
            "--strip-extras",
            "--no-annotate",
            "--no-header",
            "--no-emit-index-url",
            "--no-emit-trusted-host",
            "--no-emit-find-links",
            "--output-file",
            str(output),
            *map(str, inputs),
        ],
        check=True,
        cwd=ROOT,
    )
    body = output.read_text(encoding="utf-8")
    output.write_text(f"# {title}\n# Made by `make lock`; do not edit.\n{body}", encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        run_in = Path(scratch) / "run.in"
        run_in.write_text("\n".join(declared_dependencies()) + "\n", encoding="utf-8")
        run_txt = REQUIREMENTS / "run.txt"
        compile_lock([run_in], run_txt, "What the services and the client run on.")
        dev_in = Path(scratch) / "dev.in"
        dev_in.write_text(
            f"-c {run_txt}\n-r {run_in}\n" + (REQUIREMENTS / "dev.in").read_text(encoding="utf-8"),
            encoding="utf-8",
        )
        compile_lock([dev_in], REQUIREMENTS / "dev.txt", "The same, and what checks and tests it.")


if __name__ == "__main__":
    main()
