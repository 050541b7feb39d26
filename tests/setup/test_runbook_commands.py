"""Commands of the runbooks: they find what they look for, and nothing reverts them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.clone import ROOT
from tools.deploy_checks.rendering import read_rendered

DOCS: Final = ROOT / "docs"
RUNBOOKS: Final = sorted((DOCS / "runbooks").glob("*.md"))
PAGES: Final = sorted({*DOCS.rglob("*.md"), ROOT / "README.md"})
INDEX: Final = (DOCS / "runbooks" / "README.md").read_text(encoding="utf-8")
MINIMUM: Final = {
    "hpa": ("HorizontalPodAutoscaler", "minReplicas", "maxReplicas", "prod"),
    "scaledobject": ("ScaledObject", "minReplicaCount", "maxReplicaCount", "keda"),
}
"""Kind, fields and overlay of what scales a workload, by the name that kubectl takes."""


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page: in blocks, and in the text."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from (line.strip().removeprefix("$ ") for line in block.splitlines() if line.strip())
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def all_commands(pages: list[Path], start: str) -> list[tuple[str, str]]:
    """Return pages and commands that begin with these words, options of kubectl aside."""
    return [
        (page.name, command)
        for page in pages
        for command in commands(page)
        if re.sub(r"^kubectl --namespace \S+", "kubectl", command).startswith(start)
    ]


def test_logs_of_a_selector_are_complete() -> None:
    """kubectl prints the last ten lines of each pod otherwise."""
    found = [
        command
        for command in all_commands(PAGES, "kubectl logs")
        if re.search(r"\s(--selector|-l)\b", command[1])
    ]
    assert found
    assert [command for command in found if "--tail=-1" not in command[1].split()] == []


def test_greps_find_what_the_services_log() -> None:
    """Each pattern is in the source, and none depends on the order of the fields of a line."""
    folders = (ROOT / "services", ROOT / "libs")
    files = (path for folder in folders for path in folder.glob("*/src/**/*.py"))
    strings = "\n".join(re.findall(r'"[^"\n]+"', "".join(p.read_text("utf-8") for p in files)))
    searched = [
        (page, word)
        for page, command in all_commands(RUNBOOKS, "kubectl logs")
        for pattern in re.findall(r"\| grep (?:-E )?('[^']+'|\S+)", command)
        for word in pattern.strip("'").split("|")
    ]
    assert len(searched) > len(RUNBOOKS) / 2
    assert [(page, word) for page, word in searched if ".*" in word or word not in strings] == []


def test_autoscalers_do_not_revert_commands() -> None:
    """An autoscaler undoes `kubectl scale`, except to 0 and back."""
    autoscaled = {
        manifest["spec"]["scaleTargetRef"]["name"]
        for overlay in ("prod", "keda")
        for manifest in read_rendered(overlay)
        if manifest["kind"] in {kind for kind, *_ in MINIMUM.values()}
    }
    assert {"intake", "repository-parts", "processor"} <= autoscaled
    scaled = all_commands(RUNBOOKS, "kubectl scale ")
    assert scaled
    to_zero = {(page, workload_of(text)) for page, text in scaled if text.endswith(" 0")}
    reverted = [
        (page, text)
        for page, text in scaled
        if workload_of(text) in autoscaled and (page, workload_of(text)) not in to_zero
    ]
    assert reverted == []


def workload_of(command: str) -> str:
    (name,) = re.findall(r" scale deployment/(\S+)", command)
    return str(name)


@pytest.mark.parametrize("resource", MINIMUM)
def test_raised_minimum_is_accepted(resource: str) -> None:
    """It is above that of the overlay, and not above its maximum."""
    kind, minimum, maximum, overlay = MINIMUM[resource]
    specs: dict[str, Any] = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in read_rendered(overlay)
        if manifest["kind"] == kind
    }
    patches = all_commands(RUNBOOKS, f"kubectl patch {resource} ")
    assert patches
    for page, command in patches:
        (found,) = re.findall(rf" patch {resource} (\S+) .*--patch '(.+)'$", command)
        spec = specs[found[0]]
        raised = json.loads(found[1])["spec"]
        assert raised.keys() == {minimum}, (page, command)
        assert spec[minimum] < raised[minimum] <= spec[maximum], (page, command)


def test_variables_of_commands_are_explained() -> None:
    """Services on Kubernetes read secrets from files: no shell has these variables."""
    used = {
        name
        for page in RUNBOOKS
        for command in commands(page)
        for name in re.findall(r"\$\{?(SLUICE_\w+)", command)
    }
    set_by_index = set(re.findall(r"^\$ export (SLUICE_\w+)=", INDEX, re.MULTILINE))
    assert used
    assert used <= set_by_index


def test_dead_letters_are_handled_inside_a_pod() -> None:
    """A shell outside has neither the brokers nor their password."""
    blocks = [
        line
        for page in RUNBOOKS
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("$ ") and "sluice-processor" in line
    ]
    assert blocks
    inside = "$ kubectl --namespace sluice exec deploy/processor -- sluice-processor dlq "
    assert [line for line in blocks if not line.startswith(inside)] == []
