"""Detection of nodes that cannot all be written below one folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.cli.commands.clashes import ClashFinder, folded, folds_names

names = st.sampled_from(["a", "A", "a.", "b", "B ", "é", "É"])
trees = st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), unique=True, max_size=12)


def clashing(paths: list[str], key: Callable[[str], str]) -> list[str]:
    finder = ClashFinder(key)
    for path in paths:
        finder.add(path)
    for path in paths:
        finder.name(path)
    return [str(clash) for clash in finder.clashes()]


def test_file_that_is_a_folder_as_well_is_found_in_any_order() -> None:
    expected = ["a would be a file, and a folder for a/b"]
    assert clashing(["a", "a/b", "b"], str) == expected
    assert clashing(["a/b", "b", "a"], str) == expected
    assert clashing(["x/a/b/c", "x/a"], str) == ["x/a would be a file, and a folder for x/a/b/c"]


def test_spellings_clash_only_where_they_are_folded() -> None:
    paths = ["Readme", "README", "sub/x", "SUB/y"]
    assert clashing(paths, str) == []
    assert clashing(paths, folded) == ["Readme and README would be one file"]


def test_folder_clashes_with_another_spelling_of_a_file() -> None:
    assert clashing(["Photos", "photos/a"], folded) == [
        "Photos would be a file, and a folder for photos/a"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [("A", "a"), ("É", "é"), ("e\u0301", "é"), ("ß", "SS"), ("a.", "a"), ("a /b", "a/b")],
)
def test_names_folded_by_a_file_system_have_one_key(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@given(trees)
def test_clashes_are_those_that_a_file_system_would_meet(paths: list[str]) -> None:
    keys = [folded(path) for path in paths]
    expected = any(
        one == other or other.startswith(f"{one}/")
        for at, one in enumerate(keys)
        for other in keys[:at] + keys[at + 1 :]
    )
    assert bool(clashing(paths, folded)) == expected


def test_number_of_named_clashes_is_bounded() -> None:
    paths = [f"{letter}{number}" for number in range(500) for letter in "aA"]
    assert len(clashing(paths, folded)) == 20


def test_ordinary_folder_folds_no_names(tmp_path: Path) -> None:
    assert not folds_names(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "key",
    [str.lower, lambda name: name.replace("e\u0301", "é"), lambda name: name.rstrip(".")],
    ids=["case", "composition", "final dots"],
)
def test_folding_file_system_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Callable[[str], str]
) -> None:
    """Any kind of folding, simulated in the lookup of a name."""
    monkeypatch.setattr(Path, "exists", lambda path: os.path.exists(path.with_name(key(path.name))))
    assert folds_names(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_writable_is_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "open", refuse)
    assert not folds_names(tmp_path)
