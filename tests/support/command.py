"""The `sluice` command as a process against the fake services."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `sluice` in a separate process."""

    def __init__(self, address: str, folder: Path) -> None:
        self.environment = {
            **os.environ,
            "SLUICE_SERVER": address,
            "SLUICE_STATE_DIR": str(folder / "state"),
            "SLUICE_CONFIG_DIR": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "share"),
        }

    async def start(
        self,
        *arguments: str | bytes,
        stdin: int = asyncio.subprocess.DEVNULL,
        pass_fds: tuple[int, ...] = (),
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sluice_client.cli",
            *arguments,
            env={**self.environment, **(environment or {})},
            stdin=stdin,
            pass_fds=pass_fds,
            cwd=cwd,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(
        self, *arguments: str | bytes | Path, cwd: Path | None = None, **environment: str
    ) -> Outcome:
        texts = [one if isinstance(one, bytes) else str(one) for one in arguments]
        return await ended(await self.start(*texts, cwd=cwd, environment=environment))


async def ended(process: asyncio.subprocess.Process) -> Outcome:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Outcome(process.returncode, out, err.decode())
