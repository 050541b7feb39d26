"""Scanner that runs a command for each object, as `clamdscan -` and `clamscan -` work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

import structlog

from sluice_processor.scanning.port import scanner_unavailable

CLEAN: Final = 0
INFECTED: Final = 1
"""Exit codes, as those of ClamAV's commands. Any other one is no verdict."""
_FOUND: Final = "something"
"""The output of the command is not read: it may quote the object."""
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")
"""All that the command gets: the environment of a processor holds secrets."""

_log = structlog.get_logger(__name__)


class CommandScanner:
    """Gives the object to the command's standard input, and takes its exit code as the verdict.

    Args:
        command: program and arguments; no shell.
        seconds: time of one run, after which the command and its children are killed.
    """

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._command = tuple(command)
        self._seconds = seconds

    async def scan(self, fd: int, size: int) -> str | None:
        # By its path in /proc the file is opened anew, with an offset of its own.
        source = await asyncio.to_thread(os.open, f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            code = await self._run(source)
        finally:
            os.close(source)
        if code not in (CLEAN, INFECTED):
            raise scanner_unavailable(f"the command ended with {code}")
        return None if code == CLEAN else _FOUND

    async def _run(self, source: int) -> int:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=source,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise scanner_unavailable(f"the command does not start ({error.strerror})") from error
        try:
            async with asyncio.timeout(self._seconds):
                return await process.wait()
        except TimeoutError:
            raise scanner_unavailable(f"the command takes more than {self._seconds:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
