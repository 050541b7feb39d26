"""`sluice serve`, `sluice events` and `sluice token`, commands of other distributions."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sluice_client.cli.commands import serve as serve_module

SEEN: list[list[str]] = []


def fake_serve(arguments: list[str]) -> int:
    SEEN.append(arguments)
    return 7


def test_arguments_and_exit_code_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("serve", f"{__name__}:fake_serve", "sluice.commands")
    monkeypatch.setattr(EntryPoint, "load", lambda _self: fake_serve)
    monkeypatch.setattr(serve_module, "entry_points", lambda **_: [point])
    assert serve_module.serve(["--data-dir", "x", "--help"]) == 7
    assert SEEN == [["--data-dir", "x", "--help"]]


def test_missing_server_distribution_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_module, "entry_points", lambda **_: [])
    assert serve_module.serve([]) == 78
    assert "sluice-standalone" in capsys.readouterr().err


def test_events_commands_are_found_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, str]] = []

    def found(**named: str) -> list[EntryPoint]:
        asked.append(named)
        return [EntryPoint("events", f"{__name__}:fake_serve", "sluice.commands")]

    monkeypatch.setattr(EntryPoint, "load", lambda _self: fake_serve)
    monkeypatch.setattr(serve_module, "entry_points", found)
    assert serve_module.events(["tail", "--count", "1"]) == 7
    assert asked == [{"group": "sluice.commands", "name": "events"}]
    assert SEEN[-1] == ["tail", "--count", "1"]


def test_missing_events_commands_are_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_module, "entry_points", lambda **_: [])
    assert serve_module.events(["tail"]) == 78
    assert "sluice-common" in capsys.readouterr().err


def test_missing_token_commands_are_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_module, "entry_points", lambda **_: [])
    assert serve_module.token(["create"]) == 78
    assert "sluice token" in capsys.readouterr().err


def test_missing_commands_of_operators_are_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_module, "entry_points", lambda **_: [])
    assert serve_module.admin(["sweep"]) == 78
    assert "sluice-repository admin" in capsys.readouterr().err
