"""What keeps a background loop alive: its errors are logged, counted, and end where they arose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from sluice_common.telemetry.metrics import Metrics
from sluice_core.errors import SluiceError

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Guarded:
    """Whether the guarded block failed."""

    failed: bool = False


def is_transient(error: BaseException) -> bool:
    """Is trying again later all that this error asks for?"""
    return isinstance(error, TimeoutError) or (isinstance(error, SluiceError) and error.retryable)


@contextmanager
def guarded(metrics: Metrics, role: str, **facts: object) -> Iterator[Guarded]:
    """Survive any error of the block, for a loop that tries again by itself.

    A backend that is away is a warning; anything else is a defect and gets its traceback.
    Cancelling passes through.
    """
    guard = Guarded()
    try:
        yield guard
    except Exception as error:  # noqa: BLE001 - one bad item must not end a role
        guard.failed = True
        if is_transient(error):
            _log.warning("role_waits", role=role, error=str(error) or repr(error), **facts)
        else:
            metrics.role_errors.labels(role).inc()
            _log.error("role_failed", role=role, exc_info=error, **facts)
