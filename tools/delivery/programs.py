"""Runs of kubectl, docker and cosign, with their complaint in the error."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from tools.delivery.errors import DeliveryError

CALL_SECONDS = 60.0


def run_program(
    command: Sequence[str], *, stdin: str | None = None, seconds: float = CALL_SECONDS
) -> str:
    """Return the standard output. Raise `DeliveryError` if it fails or takes too long."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise DeliveryError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise DeliveryError(f"`{shlex.join(command)}` took more than {seconds:g} s") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        raise DeliveryError(f"`{shlex.join(command)}` exited with {done.returncode}: {said}")
    return done.stdout
