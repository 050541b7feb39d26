"""The part of `make demo` on tenants: two of them on one server, each with tokens."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tools.demo_server import BIN, SHORT_TIMEOUT

DRIVE: Final = "scans"
CONTENT: Final = b"for the eyes of acme only\n"


def show_tenants(scratch: Path, server: str, data_dir: Path) -> None:
    """Upload as one tenant, and try to read and to write as others.

    Raise `SystemExit` when a call succeeds that must not, or the other way round.
    """
    print("\ntwo tenants on one server, which asks for tokens:")
    file = scratch / "contract.txt"
    file.write_bytes(CONTENT)
    owner = _token(data_dir, "acme", "ann", "tenant:admin")
    reader = _token(data_dir, "acme", "rob", "nodes:read", "drives:read")
    stranger = _token(data_dir, "globex", "eve", "tenant:admin")
    upload = ("upload", str(file), "--drive", DRIVE)
    node = f"{DRIVE}:{file.name}"
    copy = scratch / "copy"
    _expect(server, owner, "ann of acme uploads", *upload)
    _expect(server, reader, "rob of acme, who may read, reads it", "get", node, str(copy))
    if copy.read_bytes() != CONTENT:
        raise SystemExit(f"{node} came back different")
    _refuse(server, reader, "rob uploads", "MISSING_SCOPE", *upload)
    _refuse(
        server,
        stranger,
        "eve of globex reads it",
        "DRIVE_NOT_FOUND",
        "get",
        node,
        str(scratch / "stolen"),
    )
    _refuse(server, None, "somebody without a token reads it", "NO_CREDENTIALS", "stat", node)


def _token(data_dir: Path, tenant: str, subject: str, *scopes: str) -> str:
    """Return a token that is signed with the key of the server's data directory."""
    allowed = [word for scope in scopes for word in ("--scope", scope)]
    command = ["token", "create", "--data-dir", str(data_dir), "--tenant", tenant]
    done = subprocess.run(
        [BIN / "sluice", *command, "--subject", subject, *allowed],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=SHORT_TIMEOUT,
    )
    return done.stdout.strip()


def _run(server: str, token: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLUICE_SERVER": server}
    environment.pop("SLUICE_TOKEN_FILE", None)
    environment["SLUICE_TOKEN"] = token or ""
    return subprocess.run(
        [BIN / "sluice", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SHORT_TIMEOUT,
    )


def _expect(server: str, token: str, what: str, *arguments: str) -> None:
    done = _run(server, token, *arguments)
    if done.returncode != 0:
        raise SystemExit(f"{what}: {done.stderr}")
    print(f"  {what}: done")


def _refuse(server: str, token: str | None, what: str, reason: str, *arguments: str) -> None:
    """Check that the command fails for this reason."""
    done = _run(server, token, *arguments)
    if done.returncode == 0 or f"[{reason}]" not in done.stderr:
        raise SystemExit(f"{what} (exit code {done.returncode}): {done.stderr or done.stdout}")
    answer = done.stderr.strip().splitlines()[-1]
    print(f"  {what}: refused (exit code {done.returncode}): {answer}")
