"""The operators' commands on the backends of a test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice_repository.admin.backends import AdminBackends
from sluice_repository.admin.report import Report
from support.roles import BUCKET, World

Line = dict[str, Any]


def admin_backends(world: World) -> AdminBackends:
    """Return the backends of a world, as the commands open them."""
    deps = world.deps
    return AdminBackends(deps.ledger, deps.chunks, deps.queue, deps.objects, deps.catalogue, BUCKET)


def as_json() -> Report:
    return Report(json_lines=True)


def printed(capsys: pytest.CaptureFixture[str]) -> list[Line]:
    """Return the JSON lines that were printed since the last call."""
    return json_lines(capsys.readouterr().out)


def json_lines(text: str) -> list[Line]:
    """Return the JSON lines of what a command printed in this process.

    structlog prints to standard output too, where no service has configured it.
    """
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]
