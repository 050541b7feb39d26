"""`sluice get` onto existing files, and of nodes that clash."""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Client, InvalidArgument, NotFound
from sluice_client.cli.commands import get_recursive
from sluice_client.cli.commands.get import get_one, local_path
from sluice_client.cli.commands.get_recursive import RecursiveGet
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.output import Output
from support.command import Command
from support.fake_repository import FakeRepository

NFC, NFD = (unicodedata.normalize(form, "Müllers Fotos/") for form in ("NFC", "NFD"))


async def get(client: Client, place: str, destination: Path | str | None) -> int:
    text = None if destination is None else str(destination)
    return await get_one(client, Output(json_lines=True), DrivePath.parse(place), text)


async def get_all(client: Client, place: str, destination: Path) -> int:
    out = Output(json_lines=True)
    return await RecursiveGet(client, out, DrivePath.parse(place), str(destination), 4).run()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("there", [True, False])
async def test_slash_at_the_end_means_a_folder(
    client: Client, repository: FakeRepository, tmp_path: Path, there: bool
) -> None:
    repository.put("d", "a/file", b"content")
    folder = tmp_path / "new" / "folder"
    if there:
        folder.mkdir(parents=True)
    assert await get(client, "d:a/file", f"{folder}/") == 0
    assert contents(tmp_path) == {"new/folder/file": b"content"}


async def test_slash_after_a_file_is_an_error(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.put("d", "file", b"content")
    (tmp_path / "there").write_bytes(b"before")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        await get(client, "d:file", f"{tmp_path}/there/")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        await get_all(client, "d:file", tmp_path / "there")
    assert contents(tmp_path) == {"there": b"before"}


async def test_link_to_a_folder_is_a_folder(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.put("d", "file", b"content")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert await get(client, "d:file", tmp_path / "link") == 0
    assert await get_all(client, "d:file", tmp_path / "link") == 0
    assert (tmp_path / "folder" / "file").read_bytes() == b"content"
    assert (tmp_path / "link").is_symlink()


async def test_prefix_in_another_spelling_cuts_the_same_names(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    """Cut by the length of the argument, names would lose a letter and files replace each other."""
    assert len(NFC) != len(NFD)
    for name in ("a1", "b1", "c1"):
        repository.put("d", f"{NFC}{name}", name.encode())
    assert await get_all(client, f"d:{NFD}", tmp_path / "out") == 0
    assert contents(tmp_path / "out") == {name: name.encode() for name in ("a1", "b1", "c1")}


async def test_file_and_folder_of_one_name_fail_before_any_write(
    client: Client,
    repository: FakeRepository,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in ("p/a", "p/a/b", "p/other"):
        repository.put("d", path, b"")
    assert await get_all(client, "d:p/", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists()
    (line,) = lines(capsys)
    assert (line["status"], line["reason"]) == ("failed", "LOCAL_PATH_CLASH")
    assert line["paths"] == ["p/a", "p/a/b"]
    assert repository.read_from == []


@pytest.mark.parametrize("folds", [True, False])
async def test_spellings_are_an_error_only_where_they_are_one_file(
    client: Client,
    repository: FakeRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folds: bool,
) -> None:
    for path in ("README", "readme", "other"):
        repository.put("d", path, path.encode())
    monkeypatch.setattr(get_recursive, "folds_names", lambda _: folds)
    assert await get_all(client, "d:", tmp_path / "out") == int(folds)
    expected = {} if folds else {path: path.encode() for path in ("README", "readme", "other")}
    assert contents(tmp_path) == {f"out/{path}": data for path, data in expected.items()}


async def test_file_of_this_run_is_never_replaced(
    client: Client,
    repository: FakeRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder below the destination may fold names although the destination does not."""
    for path in ("sub/README", "sub/readme"):
        repository.put("d", path, path.encode())
    monkeypatch.setattr(
        get_recursive, "local_path", lambda folder, path: local_path(folder, path.lower())
    )
    assert await get_all(client, "d:", tmp_path) == 1
    found = {line["status"]: line for line in lines(capsys)}
    assert found["failed"]["reason"] == "LOCAL_PATH_CLASH"
    assert contents(tmp_path) == {"sub/readme": found["completed"]["path"].encode()}


async def test_recursive_get_replaces_regular_files_only(
    client: Client,
    repository: FakeRepository,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The user did not name these, so they are neither followed nor written into."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "outside").write_bytes(b"before")
    (out / "link").symlink_to("../outside")
    (out / "folder").mkdir()
    os.mkfifo(out / "pipe")
    for path in ("link", "folder", "pipe", "good"):
        repository.put("d", path, b"content")
    assert await get_all(client, "d:", out) == 1
    by_path = {line["path"]: line.get("reason") for line in lines(capsys)}
    assert by_path.pop("good") is None
    assert set(by_path.values()) == {"DESTINATION_NOT_A_FILE"}
    assert (out / "good").read_bytes() == b"content"
    assert (tmp_path / "outside").read_bytes() == b"before"
    assert (out / "link").is_symlink()
    assert stat.S_ISFIFO((out / "pipe").lstat().st_mode)


async def test_second_run_replaces_the_files_of_the_first(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    for content in (b"first", b"second"):
        for path in ("a", "A"):
            repository.put("d", path, content)
        assert await get_all(client, "d:", tmp_path) == 0
        assert contents(tmp_path) == {"a": content, "A": content}


async def test_prefix_without_nodes_makes_no_folder(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await get_all(client, "d:nothing", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


async def test_folder_of_the_name_is_downloaded_into(
    client: Client, repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    repository.put("d", "x/name", b"content")
    (tmp_path / "name").mkdir()
    assert await get(client, "d:x/name", None) == 0
    assert contents(tmp_path) == {"name/name": b"content"}
    with pytest.raises(InvalidArgument):
        await get(client, "d:x/..", str(tmp_path))


async def test_failed_command_leaves_one_json_line(sluice: Command, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    missing = await sluice("get", "d:nothing", tmp_path / "x", "--json")
    assert missing.code == 1
    (line,) = missing.lines
    assert (line["status"], line["reason"]) == ("failed", "NODE_NOT_FOUND")
    loop = await sluice("get", "d:nothing", tmp_path / "loop", "--json")
    assert [(line["status"], line["reason"]) for line in loop.lines] == [("failed", "ELOOP")]
    assert "form a loop" in loop.err
