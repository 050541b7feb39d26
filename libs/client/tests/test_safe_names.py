"""Whatever passes the server's validation comes out of `sluice get` inside its destination."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.cli.commands.get import local_path
from sluice_client.cli.commands.safe_names import is_safe_segment
from sluice_client.errors import InvalidArgument
from sluice_core.errors import SluiceError
from sluice_core.uploads.names import normalize_path

TRICKY = st.sampled_from(["/", "\\", "..", ".", ":", "C:", "NUL", "con", "com1", " ", "~", "a"])
PATHS = st.lists(st.one_of(TRICKY, st.text(max_size=3)), max_size=8).map("".join)
WINDOWS_ROOT = PureWindowsPath("D:\\back")


def valid(path: str) -> str | None:
    """Return the path as a node has it; None when the server refuses it."""
    with suppress(SluiceError):
        return normalize_path(path)
    return None


@given(PATHS)
def test_valid_path_stays_inside_the_destination(path: str) -> None:
    name = valid(path)
    if name is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        with suppress(OSError):  # a name may be too long for the file system
            assert local_path(root, name).parent.resolve().is_relative_to(root)


@given(PATHS)
def test_safe_path_stays_inside_on_windows(path: str) -> None:
    name = valid(path)
    if name is None or not all(is_safe_segment(s, windows=True) for s in name.split("/")):
        return
    target = WINDOWS_ROOT.joinpath(*name.split("/"))
    assert target.parts[: len(WINDOWS_ROOT.parts)] == WINDOWS_ROOT.parts
    assert ".." not in target.parts
    assert len(target.parts) == len(WINDOWS_ROOT.parts) + name.count("/") + 1


@pytest.mark.parametrize(
    "name",
    [
        *("CON", "nul", "Aux.txt", "prn .log", "COM1", "lpt9.tar.gz", "com\u00b9", "CONOUT$"),
        *("..\\escaped", "C:escaped", "C:\\escaped", "\\\\host\\share", "file:stream"),
        *("dots.", "space ", "...", "a?b", "a\x1fb"),
    ],
)
def test_names_with_a_meaning_on_windows_are_refused_there(name: str) -> None:
    assert not is_safe_segment(name, windows=True)
    assert is_safe_segment(name, windows=False)


@pytest.mark.parametrize("name", ["console", "nullable.txt", "com10", "a.con", "ümläut", ".git"])
def test_ordinary_names_are_safe_everywhere(name: str) -> None:
    assert is_safe_segment(name, windows=True)


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a/b"])
def test_names_that_leave_the_folder_are_unsafe(name: str, tmp_path: Path) -> None:
    assert not is_safe_segment(name, windows=False)
    with pytest.raises(InvalidArgument, match="UNSAFE_PATH"):
        local_path(tmp_path, f"a/../{name}")
