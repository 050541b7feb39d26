"""Tasks of `web/`: what they measure and compare, and when they are left out."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tools import web


def bundle(folder: Path, page: str, **scripts: bytes) -> Path:
    """Write a bundle with this page and these scripts in `assets/`."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(page, encoding="utf-8")
    for name, content in scripts.items():
        (folder / "assets" / f"{name}.js").write_bytes(content)
    for name in web.LOADED_SOON:
        (folder / name).touch()
    return folder


PAGE = (
    '<script type="module" crossorigin src="/assets/index.js"></script>'
    '<link rel="modulepreload" href="/assets/vendor.js"><link rel="stylesheet" href="/a.css">'
)


def test_first_view_counts_what_pages_load_by_themselves(tmp_path: Path) -> None:
    """A chunk of a dynamic import is loaded when it is needed, but for the one of each page."""
    built = bundle(
        tmp_path,
        PAGE,
        index=b'import{a}from"./vendor.js";import"./side.js";const d=()=>import("./detail.js")',
        lists=b'import{e}from"./rows.js"',
        rows=b"",
        vendor=b'export{c}from"./deep.js"',
        side=b"",
        deep=b"",
        detail=b"",
    )
    found = {script.name for script in web.first_view_scripts(built)}
    assert found == {"index.js", "vendor.js", "side.js", "deep.js", "lists.js", "rows.js"}


def test_missing_script_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    built = bundle(tmp_path, PAGE)
    with pytest.raises(web.WebError, match=r"no index\.js: run `make web-build`"):
        web.first_view_scripts(built)


def test_renamed_chunk_of_each_page_is_an_error(tmp_path: Path) -> None:
    """It would leave the budget without a word."""
    built = bundle(tmp_path, PAGE, index=b"", vendor=b"")
    (built / "assets" / "lists.js").unlink()
    with pytest.raises(web.WebError, match=r"no lists\.js"):
        web.first_view_scripts(built)


def test_size_is_that_of_compressed_files(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(5000)
    built = bundle(tmp_path, PAGE, index=noise, vendor=b"a" * 100_000)
    size = web.gzip_bytes(web.first_view_scripts(built))
    assert 5000 < size < 5500
    assert size == sum(
        len(gzip.compress(each, 6, mtime=0)) for each in (noise, b"a" * 100_000, b"")
    )


def test_oversized_first_view_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BUNDLE", bundle(tmp_path, PAGE, index=b"", vendor=b""))
    assert list(web._oversize()) == []
    noise = random.Random(1).randbytes(web.MAX_FIRST_VIEW_BYTES)
    (tmp_path / "assets" / "vendor.js").write_bytes(noise)
    assert list(web._oversize()) == ["the first view loads 250.1 KiB of JavaScript, at most 250"]


def test_stale_bundle_names_each_difference(tmp_path: Path) -> None:
    committed = bundle(tmp_path / "a", PAGE, index=b"1", vendor=b"2", old=b"")
    built = bundle(tmp_path / "b", PAGE, index=b"1", vendor=b"3", new=b"")
    assert web.bundle_differences(committed, committed) == []
    assert web.bundle_differences(committed, built) == [
        "assets/new.js: not in the committed bundle",
        "assets/old.js: not built any more",
        "assets/vendor.js: other content",
    ]


@pytest.mark.parametrize(
    ("arguments", "required", "code"),
    [
        (["--where-possible", "install"], "0", 0),
        (["--where-possible", "install"], "1", 1),
        (["install"], "0", 1),
    ],
)
def test_missing_node_fails_in_ci_and_when_asked(
    arguments: list[str],
    required: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", required)
    assert web.main(arguments) == code
    assert "web/ needs Node 20.19 or newer" in capsys.readouterr().err


def test_old_node_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho v20.18.3\n", encoding="ascii")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert (web.missing_node() or "").endswith("is v20.18.3")
    (tmp_path / "node").write_text("#!/bin/sh\necho v20.19.0\n", encoding="ascii")
    assert web.missing_node() is None
