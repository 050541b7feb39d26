"""Check the Kubernetes manifests: policies, schemas, and that what is committed is up to date.

python -m tools.deploy_checks check | render | policies
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from tools.backends.errors import ServiceError
from tools.deploy_checks.manifests import Manifest
from tools.deploy_checks.policies import problems
from tools.deploy_checks.rendering import (
    BLUE,
    GREEN,
    K8S,
    OVERLAYS,
    find_kustomize,
    read_rendered,
    render,
    stale,
    write_rendered,
)
from tools.deploy_checks.schemas import Schemas
from tools.deploy_checks.selectors import changed_selectors
from tools.deploy_checks.tracks import switched, track_problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.deploy_checks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="everything; needs kustomize or kubectl")
    commands.add_parser("policies", help="policies on what is committed; needs neither")
    commands.add_parser("render", help="write deploy/k8s/rendered")
    command = parser.parse_args(arguments).command
    try:
        if command == "render":
            write_rendered(find_kustomize())
            return 0
        found = list(_all_problems() if command == "check" else _policy_problems())
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for problem in found:
        print(problem)
    return 1 if found else 0


def _policy_problems() -> Iterator[str]:
    for overlay in OVERLAYS:
        manifests = read_rendered(overlay)
        count = 0
        for problem in _problems(overlay, manifests):
            count += 1
            yield f"{overlay}: {problem}"
        print(f"{overlay}: {len(manifests)} manifests, {count} breaches of policies")


def _problems(overlay: str, manifests: Sequence[Manifest]) -> Iterator[str]:
    yield from (f"selectors: {problem}" for problem in changed_selectors(manifests))
    if overlay == GREEN:
        blue = read_rendered(BLUE)
        yield from track_problems(blue, manifests)
        manifests = switched(blue, manifests)
    yield from problems(manifests)


def _all_problems() -> Iterator[str]:
    command = find_kustomize()
    for overlay in OVERLAYS:
        if stale(overlay, render(command, K8S / "overlays" / overlay)):
            yield f"{overlay}: deploy/k8s/rendered is not up to date; run `make deploy-render`"
    yield from _policy_problems()
    schemas = Schemas()
    for overlay in OVERLAYS:
        for problem in schemas.problems(read_rendered(overlay)):
            yield f"{overlay}: {problem}"
    for line in schemas.summary():
        print(line)


if __name__ == "__main__":
    sys.exit(main())
