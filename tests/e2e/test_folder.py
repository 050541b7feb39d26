"""Upload and download of folders: many real files, and undecodable names."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from support.cli import Sluice
from support.files import files_below, sha256_of

DOCUMENTATION = Path("/usr/share/doc")
SOME_FILES = 300
# More than two pages of a listing.
THOUSANDS_OF_FILES = 2000
LEFT_OUT = {"site-packages", "__pycache__", "test"}


def copy_some(source: Path, target: Path, wanted: int) -> None:
    """Copy links, and so many files, from below `source` to the same places below `target`."""
    for path in sorted(source.rglob("*")):
        if wanted <= 0:
            return
        place = path.relative_to(source)
        if LEFT_OUT.isdisjoint(place.parts) and (path.is_symlink() or path.is_file()):
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / place, follow_symlinks=False)
            wanted -= not path.is_symlink()


def real_folder(target: Path, wanted: int) -> int:
    """Fill `target` with real files of this machine; return the number of links among them."""
    standard_library = Path(sysconfig.get_paths()["stdlib"])
    for source in (DOCUMENTATION, standard_library):
        copy_some(source, target / source.name, wanted - len(files_below(target)))
    odd = target / "odd names"
    odd.mkdir()
    for name in ("empty", "ümläut-é", "sp ace", "-dash", "a'b\"c", "percent%2Fslash", "日本.txt"):
        (odd / name).write_bytes(b"" if name == "empty" else name.encode())
    (odd / "one-byte").write_bytes(b"x")
    (odd / "link").symlink_to("one-byte")
    return sum(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        SOME_FILES,
        pytest.param(THOUSANDS_OF_FILES, marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)]),
    ],
)
def test_real_files_come_back_byte_for_byte(sluice: Sluice, tmp_path: Path, wanted: int) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    links = real_folder(folder, wanted)
    sources = files_below(folder)
    assert len(sources) >= wanted, "this machine has too few files for the test"

    drive = f"docs-{wanted}"  # the sizes share a server
    # Both commands end before the test does, so that a hang shows the command's output.
    ends_at = time.monotonic() + 250
    up = sluice.ok(
        "upload",
        str(folder),
        "--drive",
        drive,
        "--parallel",
        "16",
        "--json",
        timeout=ends_at - time.monotonic(),
    )
    lines = up.json_lines()
    uploaded = [line for line in lines if line["status"] == "completed"]
    skipped = [line for line in lines if line["status"] == "skipped"]
    assert len(uploaded) == len(sources)
    assert len(skipped) == links
    assert all("link" in line["reason"].lower() for line in skipped)

    back = tmp_path / "back"
    sluice.ok(
        "get",
        f"{drive}:documents",
        str(back),
        "--recursive",
        "--json",
        timeout=ends_at - time.monotonic(),
    )
    returned = (
        files_below(back / "documents") if (back / "documents").is_dir() else files_below(back)
    )
    assert returned.keys() == sources.keys()
    different = [n for n, path in sources.items() if sha256_of(path) != sha256_of(returned[n])]
    assert different == []


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system refuses such names")
def test_undecodable_name_fails_without_stopping_the_others(sluice: Sluice, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "good").write_bytes(b"good")
    (folder / "new\nline").write_bytes(b"bad name")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"bad name")
    outcome = sluice.run("upload", str(folder), "--drive", "names", "--json")
    assert outcome.code == 1
    by_status = {line["status"] for line in outcome.json_lines()}
    assert by_status == {"completed", "failed"}
    assert sum(line["status"] == "completed" for line in outcome.json_lines()) == 1
