"""Error boundary of the background loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from sluice_core.errors import SluiceError
from sluice_repository.metrics import RepositoryMetrics

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Guarded:
    """Whether the guarded block failed."""

    failed: bool = False


def is_transient(error: BaseException) -> bool:
    """Return whether a later retry can succeed."""
    return isinstance(error, TimeoutError) or (isinstance(error, SluiceError) and error.retryable)


@contextmanager
def guarded(metrics: RepositoryMetrics, role: str, **facts: object) -> Iterator[Guarded]:
    """Log and count any error of the block instead of raising it; the caller's loop retries.

    An unavailable backend is logged as a warning. Any other error is a defect and is logged with
    its traceback. Cancellation passes through.
    """
    guard = Guarded()
    try:
        yield guard
    except Exception as error:  # noqa: BLE001 - one bad item must not end a role
        guard.failed = True
        if is_transient(error):
            _log.warning("role.delayed", role=role, error=str(error) or repr(error), **facts)
        else:
            metrics.role_errors.labels(role).inc()
            _log.error("role.failed", role=role, exc_info=error, **facts)
