"""Workflows: actions pinned, no input in a script, few permissions, and nothing that is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from support.clone import ROOT
from tools.delivery.burn_rate import ALERTS
from tools.delivery.cluster import JOB_SECONDS

FOLDER: Final = ROOT / ".github" / "workflows"
WORKFLOWS: Final = sorted(FOLDER.glob("*.yml"))
USES: Final = re.compile(r"^\s*(?:- )?uses:\s*(?P<action>\S+)(?P<comment>.*)$", re.MULTILINE)
PINNED: Final = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
VERSION: Final = re.compile(r"\s+# v\d+\.\d+\.\d+")
EXPRESSION: Final = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
WRITES: Final = {
    "images.yml": {"packages", "id-token"},
    "release.yml": {"id-token"},
    "staging.yml": {"id-token"},
    "deliver.yml": {"packages", "id-token"},
}
"""The only permissions to write, by workflow."""


def parsed(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as True.
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in loaded.items()}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job.get("steps", ())


def unpinned(text: str) -> list[str]:
    """Return the actions that a moved tag would change; those of this repository are its own."""
    return [
        found["action"]
        for found in USES.finditer(text)
        if not found["action"].startswith("./")
        and not (PINNED.fullmatch(found["action"]) and VERSION.fullmatch(found["comment"]))
    ]


def test_unpinned_actions_are_found() -> None:
    pinned = "- uses: a/b@" + "0" * 40
    bad = ["- uses: a/b@v1", pinned, f"{pinned} # v1", "- uses: a/b@" + "0" * 39 + " # v1.2.3"]
    assert [len(unpinned(text)) for text in bad] == [1] * 4
    assert unpinned(f"{pinned} # v1.2.3\n  uses: ./.github/workflows/check.yml") == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_with_their_version(path: Path) -> None:
    assert unpinned(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_becomes_part_of_a_script(path: Path) -> None:
    """A branch's name may be a command; as a variable of the environment it stays a name."""
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert [script for script in scripts if EXPRESSION.search(script)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_named_and_few(path: Path) -> None:
    workflow = parsed(path)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    granted = [job.get("permissions", {}) for job in workflow["jobs"].values()]
    writes = {name for one in granted for name, level in one.items() if level == "write"}
    assert writes == WRITES.get(path.name, set())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_runs_are_bounded_and_leave_no_credentials(path: Path) -> None:
    workflow = parsed(path)
    for name, job in workflow["jobs"].items():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 180, name
        assert "concurrency" in workflow or "concurrency" in job, name
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_callers_grant_what_called_workflows_need() -> None:
    """A called workflow that asks for more than its caller has does not start."""
    called = 0
    for path in WORKFLOWS:
        for job in jobs(path).values():
            if "uses" not in job:
                continue
            called += 1
            callee = parsed(ROOT / job["uses"])
            assert "workflow_call" in callee["on"]
            needs = [
                callee["permissions"],
                *(one.get("permissions", {}) for one in callee["jobs"].values()),
            ]
            for need in needs:
                assert need.items() <= job["permissions"].items()
    assert called == 5


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def missing_in(script: str) -> list[str]:
    """Return the targets, modules and files that a script uses and that do not exist."""
    missing = []
    for line in script.replace("&&", "\n").splitlines():
        words = shlex.split(line)
        if words[:1] == ["make"]:
            targets = [word for word in words[1:] if "=" not in word]
            missing += [word for word in targets if word not in make_targets()]
        if "-m" in words:
            module = ROOT.joinpath(*words[words.index("-m") + 1].split("."))
            if not (module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()):
                missing.append(str(module.relative_to(ROOT)))
        paths = [word for word in words if re.match(r"(?:\.ci|deploy|docs|loadtest|tools)/", word)]
        missing += [word for word in paths if not (ROOT / word).exists()]
    return missing


def test_missing_targets_and_files_are_found() -> None:
    script = "make lint nowhere ARGS=x && python -m tools.nothing\n.ci/runs\nk6 run loadtest/a.js"
    assert missing_in(script) == ["nowhere", "tools/nothing", ".ci/runs", "loadtest/a.js"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_scripts_name_exists(path: Path) -> None:
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert [name for script in scripts for name in missing_in(script)] == []


def test_every_image_is_built_and_signed_by_digest() -> None:
    job = jobs(FOLDER / "images.yml")["image"]
    built = {f"{service}.Dockerfile" for service in job["strategy"]["matrix"]["service"]}
    assert built == {path.name for path in (ROOT / "deploy" / "docker").glob("*.Dockerfile")}
    build = next(step for step in job["steps"] if step.get("id") == "build")
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    sign = job["steps"][-1]
    assert sign["env"]["IMAGE"].endswith("@${{ steps.build.outputs.digest }}")
    assert shlex.split(sign["run"]) == ["cosign", "sign", "--yes", "$IMAGE"]


def test_production_follows_every_gate() -> None:
    """check → images → staging with its load test → production; a failed release goes back."""
    chain = jobs(FOLDER / "deliver.yml")
    needs = {name: job.get("needs") for name, job in chain.items()}
    assert needs == {
        "check": None,
        "images": "check",
        "staging": "images",
        "production": "staging",
    }
    staging = jobs(FOLDER / "staging.yml")
    assert {name: job.get("needs") for name, job in staging.items()} == {
        "release": None,
        "load": "release",
    }
    assert staging["release"]["with"]["environment"] == "staging"
    assert chain["production"]["with"]["environment"] == "production"
    release = jobs(FOLDER / "release.yml")["release"]
    assert release["environment"] == "${{ inputs.environment }}"
    scripts = [step.get("run", "") for step in release["steps"]]
    order = [re.search(r"tools\.delivery (\w+)", script) for script in scripts]
    assert [found[1] for found in order if found] == [
        "preflight",
        "images",
        "record",
        "deploy",
        "watch",
        "rollback",
    ]
    assert release["steps"][-1]["if"].startswith("(failure() || cancelled()) && steps.deploy")


def test_release_that_waits_for_approval_holds_production_alone() -> None:
    """A group of the whole delivery would keep every later push from staging until then."""
    whole = parsed(FOLDER / "deliver.yml")["concurrency"]["group"]
    assert "${{ github.sha }}" in whole
    assert parsed(FOLDER / "staging.yml")["concurrency"] == {
        "group": "staging",
        "cancel-in-progress": False,
    }
    release = jobs(FOLDER / "release.yml")["release"]
    assert release["concurrency"] == {
        "group": "release-${{ inputs.environment }}",
        "cancel-in-progress": False,
    }


def test_environment_secrets_reach_called_workflows() -> None:
    """Without `secrets: inherit` they are empty there, also those of the job's own environment."""
    secret = re.compile(r"secrets\.(?!GITHUB_TOKEN)\w+")
    needing = {path.name for path in WORKFLOWS if secret.search(path.read_text(encoding="utf-8"))}
    assert needing == {"release.yml"}
    found = 0
    while True:
        callers = {
            path.name
            for path in WORKFLOWS
            for job in jobs(path).values()
            if Path(job.get("uses", "")).name in needing
        }
        if callers <= needing:
            break
        needing |= callers
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            if Path(job.get("uses", "")).name in needing:
                found += 1
                assert job.get("secrets") == "inherit", f"{path.name}: {name}"
    assert found == 3


def test_way_back_has_credentials_of_its_own() -> None:
    """Those of the start end before a watch does, and a way back without any is none."""
    release = jobs(FOLDER / "release.yml")["release"]
    assuming = [
        (position, step)
        for position, step in enumerate(release["steps"])
        if step.get("uses", "").startswith("aws-actions/configure-aws-credentials@")
    ]
    (_, first), (last, again) = assuming
    assert last == len(release["steps"]) - 2
    assert again["if"] == release["steps"][-1]["if"]
    for key in ("role-to-assume", "aws-region"):
        assert again["with"][key] == first["with"][key]
    rollouts = 1200
    assert first["with"]["role-duration-seconds"] >= JOB_SECONDS + rollouts
    watch = max(
        job["with"]["watch-minutes"]
        for path in WORKFLOWS
        for job in jobs(path).values()
        if "watch-minutes" in job.get("with", {})
    )
    # Migration, rollout, watch and way back fit, so that the limit cuts none off.
    assert release["timeout-minutes"] * 60 >= JOB_SECONDS + 60 * watch + 2 * rollouts


def test_both_gates_follow_the_chosen_alerts() -> None:
    """A release that mends an incident would end at the alert of the incident."""
    release = jobs(FOLDER / "release.yml")["release"]
    assert release["env"]["ALERTS"] == f"${{{{ inputs.alerts || '{ALERTS}' }}}}"
    gates = [
        step["run"]
        for step in release["steps"]
        if re.search(r"tools\.delivery (preflight|watch)", step.get("run", ""))
    ]
    assert len(gates) == 2
    assert all('--alerts "$ALERTS"' in gate for gate in gates)
    assert "alerts" in parsed(FOLDER / "deliver.yml")["on"]["workflow_dispatch"]["inputs"]
    for path in ("deliver.yml", "staging.yml"):
        for job in jobs(FOLDER / path).values():
            if "uses" in job and Path(job["uses"]).name in ("release.yml", "staging.yml"):
                assert job["with"]["alerts"] == "${{ inputs.alerts }}"
