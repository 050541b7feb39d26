"""Linters of the workflows and Dockerfiles. Run by `make check-workflows`.

zizmor and hadolint come with the development tools; actionlint is built once with Go.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.go_builds import GoProgram, build

ROOT: Final = Path(__file__).resolve().parent.parent
ACTIONLINT: Final = GoProgram(
    "actionlint",
    "github.com/rhysd/actionlint",
    "v1.7.12",
    "h1:vQ4GeJN86C0QH+gTUQcs8McmK62OLT3kmakPMtEWYnY=",
    "./cmd/actionlint",
    1,
)


def linters(root: Path = ROOT) -> list[list[str]]:
    """Return the command of each linter. Raise `ServiceError` if actionlint cannot be had."""
    tools = Path(sys.executable).parent
    workflows = sorted(str(path) for path in (root / ".github" / "workflows").glob("*.yml"))
    dockerfiles = sorted(str(path) for path in (root / "deploy" / "docker").glob("*.Dockerfile"))
    return [
        # Offline: with a token it would ask GitHub about each action.
        [str(tools / "zizmor"), "--offline", "--quiet", "--persona", "pedantic", str(root)],
        [str(build("workflows", ACTIONLINT)), *workflows],
        [str(tools / "hadolint"), *dockerfiles],
    ]


def main() -> int:
    """Run all linters, also after one that failed; return 1 if one did."""
    try:
        commands = linters()
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    failed = [
        Path(command[0]).name for command in commands if subprocess.run(command).returncode != 0
    ]
    print(f"failed: {', '.join(failed)}" if failed else "workflows and Dockerfiles: no findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
