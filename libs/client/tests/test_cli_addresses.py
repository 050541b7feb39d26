"""Lookup of the server's address, and the notation of nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_client.cli.addresses import DEFAULT_SERVER, Addresses, find_server
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.exits import ConfigurationError


def announce(folder: Path, pid: int) -> None:
    folder.mkdir(parents=True)
    text = json.dumps({"intake": "127.0.0.1:7001", "repository": "127.0.0.1:7002", "pid": pid})
    (folder / "server.json").write_text(text)


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment without any server."""
    return {"XDG_DATA_HOME": str(tmp_path / "share")}


def test_option_overrides_the_setting(nowhere: dict[str, str]) -> None:
    environment = {**nowhere, "SLUICE_SERVER": "set:1"}
    assert find_server("named:2", environment) == Addresses("named:2")
    assert find_server(None, environment) == Addresses("set:1")


def test_default_address_is_used_without_settings(nowhere: dict[str, str]) -> None:
    assert find_server(None, nowhere) == Addresses(DEFAULT_SERVER)


@pytest.mark.parametrize("place", ["share/sluice", "data"])
def test_running_standalone_is_found(nowhere: dict[str, str], tmp_path: Path, place: str) -> None:
    announce(tmp_path / place, os.getpid())
    environment = {**nowhere, "SLUICE_DATA_DIR": str(tmp_path / "data")}
    assert find_server(None, environment) == Addresses("127.0.0.1:7001", "127.0.0.1:7002")


def test_dead_standalone_is_ignored(nowhere: dict[str, str], tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    announce(tmp_path / "share" / "sluice", child.pid)
    assert find_server(None, nowhere) == Addresses(DEFAULT_SERVER)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"intake": 1, "pid": 1}', '{"pid": "x"}'])
def test_torn_announcement_is_ignored(
    nowhere: dict[str, str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "share" / "sluice").mkdir(parents=True)
    (tmp_path / "share" / "sluice" / "server.json").write_text(content)
    assert find_server(None, nowhere) == Addresses(DEFAULT_SERVER)


def test_repository_may_be_elsewhere(nowhere: dict[str, str]) -> None:
    environment = {**nowhere, "SLUICE_REPOSITORY_SERVER": "repository:2"}
    assert find_server("intake:1", environment) == Addresses("intake:1", "repository:2")


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:port", "host:0", "host:65536", "https://", "unix:"]
)
def test_invalid_address_names_its_setting(nowhere: dict[str, str], address: str) -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_SERVER is"):
        find_server(None, {**nowhere, "SLUICE_SERVER": address})


@pytest.mark.parametrize("address", ["https://host:443", "http://host:80/", "[::1]:5", "unix:/s"])
def test_addresses_come_in_several_forms(nowhere: dict[str, str], address: str) -> None:
    assert find_server(address, nowhere).intake == address


@pytest.mark.parametrize(
    ("text", "drive", "path"),
    [("d:p/q", "d", "p/q"), ("d:", "d", ""), ("d:/p", "d", "p"), ("d:a:b", "d", "a:b")],
)
def test_node_is_a_drive_and_a_path(text: str, drive: str, path: str) -> None:
    assert DrivePath.parse(text) == DrivePath(drive, path)


@pytest.mark.parametrize("text", ["", "p", ":p", "a/b:c"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="DRIVE:PATH"):
        DrivePath.parse(text)
