"""Generator of the Python stubs of protos/ in libs/protos/src; --check fails on a difference.

The stubs are committed so that the installation of Sluice needs no protoc.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "libs" / "protos" / "src"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Run protoc over every .proto below protos/, writing into `out`.

    Every .proto is in the folder of its package, so the generated imports are correct.
    """
    # protoc searches its plugins on PATH; ours are beside this Python, whether it is activated or
    # not.
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see its message above")


def generated_files(tree: Path) -> dict[Path, str]:
    """Return all generated files below `tree` by their relative path."""
    paths = {path for pattern in GENERATED for path in tree.rglob(pattern)}
    return {path.relative_to(tree): path.read_text(encoding="utf-8") for path in sorted(paths)}


def check() -> int:
    """Compare a fresh generation with the committed stubs. Return 1 when they differ."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated_files(Path(scratch))
    committed = generated_files(STUBS)
    differences = 0
    for path in sorted(fresh.keys() | committed.keys()):
        if fresh.get(path) != committed.get(path):
            differences += 1
            sys.stdout.writelines(
                difflib.unified_diff(
                    committed.get(path, "").splitlines(keepends=True),
                    fresh.get(path, "").splitlines(keepends=True),
                    f"committed/{path}",
                    f"generated/{path}",
                    n=1,
                )
            )
    if differences:
        print(f"{differences} generated files differ from protos/: run `make proto` and commit")
        return 1
    print(f"{len(fresh)} generated files match protos/")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        return check()
    for path in generated_files(STUBS):
        (STUBS / path).unlink()
    generate(STUBS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
