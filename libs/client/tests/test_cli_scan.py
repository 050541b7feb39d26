"""Scan: uploaded files, their node paths, and skipped entries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sluice_client.cli.commands.scan import Found, LeftOut, LocalFile, naming_problem, scan


def found(*roots: str | Path, prefix: str = "") -> dict[str, str]:
    """Return the node path of every file, or the reason for skipping it, by local path."""
    return {
        one.source: one.node_path if isinstance(one, LocalFile) else one.reason
        for one in list_found(*roots, prefix=prefix)
    }


def list_found(*roots: str | Path, prefix: str = "") -> list[Found]:
    return list(scan([str(root) for root in roots], prefix))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "2026" / "may").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "2026" / "may" / "b.jpg").write_bytes(b"bb")
    return folder


def node_paths(*roots: str | Path, prefix: str = "") -> set[str]:
    return set(found(*roots, prefix=prefix).values())


def test_folder_keeps_its_name(folder: Path) -> None:
    assert node_paths(folder) == {"photos/a.jpg", "photos/2026/may/b.jpg"}


def test_folder_with_a_slash_at_its_end_means_its_contents(folder: Path) -> None:
    assert node_paths(f"{folder}/") == {"a.jpg", "2026/may/b.jpg"}


def test_current_folder_means_its_contents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "2026")
    assert node_paths(".") == {"may/b.jpg"}
    assert node_paths("..") == {"a.jpg", "2026/may/b.jpg"}


@pytest.mark.parametrize("prefix", ["x/y", "/x/y", "x/y/"])
def test_prefix_goes_in_front(folder: Path, prefix: str) -> None:
    assert node_paths(folder / "a.jpg", prefix=prefix) == {"x/y/a.jpg"}


def test_files_have_their_sizes(folder: Path) -> None:
    sizes = {one.node_path: one.size for one in list_found(folder) if isinstance(one, LocalFile)}
    assert sizes == {"photos/a.jpg": 1, "photos/2026/may/b.jpg": 2}


def test_links_and_special_files_are_skipped_not_failed(folder: Path) -> None:
    (folder / "link").symlink_to("a.jpg")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        reasons = {
            Path(one.source).name: (one.reason, one.failed)
            for one in list_found(folder)
            if isinstance(one, LeftOut)
        }
    assert reasons == {
        "link": ("SYMBOLIC_LINK", False),
        "dangling": ("SYMBOLIC_LINK", False),
        "loop": ("SYMBOLIC_LINK", False),
        "fifo": ("SPECIAL_FILE", False),
        "socket": ("SPECIAL_FILE", False),
    }


def test_named_link_is_followed(folder: Path, tmp_path: Path) -> None:
    to_folder = tmp_path / "to-folder"
    to_folder.symlink_to(folder / "2026")
    to_file = tmp_path / "to-file"
    to_file.symlink_to(folder / "a.jpg")
    assert found(to_folder, to_file) == {
        f"{to_folder}/may/b.jpg": "to-folder/may/b.jpg",
        str(to_file): "to-file",
    }
    assert node_paths(f"{to_folder}/") == {"may/b.jpg"}
    assert [one.size for one in list_found(to_file) if isinstance(one, LocalFile)] == [1]


def test_named_link_that_leads_nowhere_fails(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        one.source: (one.reason, one.failed)
        for one in list_found(tmp_path / "dangling", tmp_path / "loop")
        if isinstance(one, LeftOut)
    }
    assert reasons == {
        f"{tmp_path}/dangling": ("NOT_FOUND", True),
        f"{tmp_path}/loop": ("UNREADABLE", True),
    }


def test_named_socket_fails(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        (left_out,) = list_found(tmp_path / "s")
    assert isinstance(left_out, LeftOut)
    assert (left_out.reason, left_out.failed) == ("SPECIAL_FILE", True)


def test_name_replaces_that_of_the_file(folder: Path) -> None:
    (found_file,) = scan([f"{folder}/a.jpg"], "p", "b/c.jpg")
    assert isinstance(found_file, LocalFile)
    assert found_file.node_path == "p/b/c.jpg"


def test_stream_has_a_given_name_and_no_size(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for root, source in ((str(pipe), str(pipe)), ("/dev/zero", "/dev/zero")):
        assert list(scan([root], "", "name")) == [LocalFile(source, "name", None)]


def test_stream_needs_a_name(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    link = tmp_path / "link"
    link.symlink_to("pipe")
    for root in ("-", "/dev/stdin", "/dev/fd/63", f"{tmp_path}/pipe", str(link), "/dev/null"):
        assert "--name" in (naming_problem([f"{folder}/a.jpg", root], None) or ""), root
        assert naming_problem([root], "name") is None
    assert naming_problem([str(folder), f"{folder}/a.jpg", "nothing"], None) is None


@pytest.mark.parametrize("name", ["", "/", "a//b", "../a", "a/", "."])
def test_name_that_no_node_can_have_is_a_problem(folder: Path, name: str) -> None:
    assert naming_problem([f"{folder}/a.jpg"], name) is not None


def test_name_is_for_a_single_file(folder: Path) -> None:
    assert naming_problem([str(folder)], "name") is not None
    assert naming_problem([f"{folder}/a.jpg", f"{folder}/a.jpg"], "name") is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"\xff\xfe", "NAME_NOT_UTF8"),
        (b"new\nline", "NAME_HAS_CONTROL_CHARACTERS"),
        (b"\x1b[31m", "NAME_HAS_CONTROL_CHARACTERS"),
        (b"\x7f", "NAME_HAS_CONTROL_CHARACTERS"),
        ("line\u2028separator".encode(), "NAME_HAS_CONTROL_CHARACTERS"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "root"])
def test_invalid_name_fails_and_the_others_continue(
    folder: Path, name: bytes, reason: str, kind: str
) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/" + name)
    if kind == "file":
        Path(odd).write_bytes(b"")
    else:
        Path(odd).mkdir()
        Path(odd, "inside").write_bytes(b"")
    paths = found(odd, folder / "a.jpg") if kind == "root" else found(folder)
    assert paths.pop(odd) == reason
    assert "inside" not in str(paths)
    assert paths, "the others go on"


@pytest.mark.parametrize("name", ["ümläut", "日本.txt", "sp ace", "-dash", "a'b\"c", "%2F", "a\\b"])
def test_unusual_valid_names_are_kept(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert f"photos/{name}" in node_paths(folder)


def test_two_spellings_of_one_name_are_one_place(folder: Path) -> None:
    (folder / "caf\u00e9").write_bytes(b"")
    (folder / "cafe\u0301").write_bytes(b"")
    assert sorted(found(folder / "2026", folder / "a.jpg", f"{folder}/").values()).count(
        "DUPLICATE_PATH"
    ) == len(["one of the two spellings", "a.jpg again", "2026/may/b.jpg again"])


def test_missing_root_is_reported(tmp_path: Path) -> None:
    assert found(tmp_path / "nothing") == {str(tmp_path / "nothing"): "NOT_FOUND"}
    assert found("with\0null") == {"with\0null": "UNREADABLE"}


def test_file_named_with_a_slash_at_its_end_still_has_its_name(folder: Path) -> None:
    assert found(f"{folder}/a.jpg/") == {str(folder / "a.jpg"): "a.jpg"}


def test_empty_folder_yields_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) == {}
