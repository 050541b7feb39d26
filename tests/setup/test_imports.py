"""What a process imports: heavy libraries only where they are used.

Modules are counted, not times: those depend on the machine.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND_LINE = {"typer", "markdown_it"}
RPC = {"asyncio", "awscrt", "google.protobuf", "grpc", "uvloop"}
PICTURES = {"PIL", "pi_heif"}
MIGRATIONS = {"alembic", "mako"}
BACKENDS = {"aiobotocore", "aiokafka", "aiomysql", "botocore", "opentelemetry.sdk", "redis"}
SERVER = {"fastapi", "pydantic_settings", "sqlalchemy", "structlog", "uvicorn"}


def imported_by(program: str, heavy: set[str]) -> set[str]:
    """Run a program in a new interpreter; return those of the modules that it has imported."""
    code = f"import sys\n{program}\nprint(*({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def running_command(*arguments: str) -> str:
    return (
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "from sluice_client.cli.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code"
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ls", "--help"], ["upload", "--help"], ["--version"]]
)
def test_help_imports_no_rpc_and_no_server(arguments: list[str]) -> None:
    heavy = RPC | PICTURES | MIGRATIONS | BACKENDS | SERVER
    assert imported_by(running_command(*arguments), heavy) == set()


def test_work_of_ls_imports_no_checksums_and_no_progress_bars() -> None:
    program = "import sluice_client.cli.session, sluice_client.cli.commands.nodes"
    heavy = {"awscrt", "rich", *SERVER, *BACKENDS}
    assert imported_by(program, heavy) == set()


def test_standalone_imports_no_unused_libraries() -> None:
    """FastAPI comes with the first request, Alembic with a migration, PIL in the children."""
    heavy = COMMAND_LINE | PICTURES | MIGRATIONS | BACKENDS | {"fastapi"}
    assert imported_by("import sluice_standalone.__main__", heavy) == set()


@pytest.mark.parametrize("service", ["intake", "repository", "processor", "gateway"])
def test_service_imports_no_unused_libraries(service: str) -> None:
    heavy = COMMAND_LINE | PICTURES | MIGRATIONS | BACKENDS
    if service != "gateway":
        heavy |= {"fastapi", "uvicorn"}
    if service == "intake":
        heavy |= {"sqlalchemy"}
    assert imported_by(f"import sluice_{service}.service", heavy) == set()
