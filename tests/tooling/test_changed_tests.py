"""Which changes a test of the test tooling depends on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.changed_tests import imported_files, is_affected

# A small repository: its test imports a helper, which imports the product.
FILES = {
    "conftest.py": "import ours",
    "ours.py": "",
    "pyproject.toml": "",
    "tests/conftest.py": "",
    "tests/tooling/test_one.py": "from support import helper",
    "tests/tooling/test_no_product.py": "from support import alone",
    "tests/support/__init__.py": "",
    "tests/support/helper.py": "from product.core import settings",
    "tests/support/alone.py": "",
    "tests/support/unused.py": "",
    "tests/support/clock/stepped.c": "",
    "tests/other/data.json": "",
    "libs/core/src/product/core/settings.py": "",
    "libs/core/src/product/core/script.lua": "",
    "services/intake/src/intake/main.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("tests/tooling/test_one.py", True),
        ("tests/support/helper.py", True),
        ("tests/support/unused.py", False),
        ("tests/support/removed.py", True),
        ("tests/support/clock/stepped.c", True),
        ("tests/other/data.json", False),
        ("libs/core/src/product/core/settings.py", True),
        ("libs/core/src/product/core/script.lua", True),
        ("services/intake/src/intake/main.py", True),
        ("conftest.py", True),
        ("ours.py", True),
        ("tests/conftest.py", True),
        ("tests/tooling/conftest.py", True),
        ("tests/other/conftest.py", False),
        ("pyproject.toml", True),
        ("tools/anything.sh", True),
        ("requirements/dev.txt", True),
        ("docs/index.md", False),
    ],
)
def test_changes_that_affect_a_test(changed: str, expected: bool, root: Path) -> None:
    test = root / "tests" / "tooling" / "test_one.py"
    assert is_affected(test, [changed], root) is expected
    assert is_affected(test, ["docs/index.md", changed], root) is expected


def test_product_affects_only_tests_that_import_it(root: Path) -> None:
    test = root / "tests" / "tooling" / "test_no_product.py"
    assert not is_affected(test, ["libs/core/src/product/core/settings.py"], root)
    assert is_affected(test, ["tests/support/alone.py"], root)


def test_each_file_is_parsed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse

    def counted(source: str) -> ast.Module:
        parsed.append(source)
        return parse(source)

    monkeypatch.setattr(ast, "parse", counted)
    for name in ("test_one.py", "test_no_product.py"):
        is_affected(root / "tests" / "tooling" / name, ["docs/index.md"], root)
    assert parsed.count("import ours") == 1


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import one", {"one.py"}),
        ("from one import two", {"one.py"}),
        ("import group.inner.deep", {"group/__init__.py", "group/inner/deep.py", "one.py"}),
        ("from group.inner import deep", {"group/__init__.py", "group/inner/deep.py", "one.py"}),
        ("def late():\n    import circle", {"circle.py", "back.py"}),
        ("import json", set()),
        ("from . import one", set()),
        ("from .b import one", {"one.py"}),
        ("from .b.one import anything", {"one.py"}),
        ("from relative import here", {"relative/__init__.py", "relative/here.py", "one.py"}),
    ],
)
def test_imports_are_followed(statement: str, expected: set[str], tmp_path: Path) -> None:
    files = {
        "a/group/__init__.py": "",
        "a/group/inner/deep.py": "from one import anything",
        "a/unused.py": "",
        "a/relative/__init__.py": "",
        "a/relative/here.py": "from ...b import one",
        "b/one.py": "",
        "b/circle.py": "import back",
        "b/back.py": "import circle",
        "test.py": statement,
    }
    write(tmp_path, files)
    found = imported_files(tmp_path / "test.py", (tmp_path / "a", tmp_path / "b"))
    assert found == {
        tmp_path / "test.py",
        *(one for name in expected for one in tmp_path.glob(f"?/{name}")),
    }
