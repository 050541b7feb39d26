"""Structured logging on standard error, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import Processor, WrappedLogger

from sluice_common.settings import MASKED, LogFormat, LogLevel
from sluice_common.telemetry.redaction import redact
from sluice_common.telemetry.terminal import escape_controls

_SECRET_KEY: Final = re.compile(
    r"(^|_)(authorization|password|passwd|secret|token|api_?key|access_?key|cookie|credentials?)$",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/._~=-]+", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_USERINFO: Final = re.compile(r"://[^/@\s]+@")

_log = structlog.get_logger(__name__)

_VERBOSE_LIBRARIES: Final = (
    "aiosqlite",
    "sqlalchemy",
    "asyncio",
    "alembic",
    "grpc",
    "opentelemetry",
    # These log requests with their headers: tokens, signatures, URLs.
    "aiobotocore",
    "aiohttp",
    "botocore",
    "hpack",
    "httpcore",
    "httpx",
    "urllib3",
)
"""Libraries that log from WARNING on, regardless of our level."""
_REQUEST_LOGGING_LIBRARIES: Final = ("aiokafka", "aiomysql", "redis")
"""Libraries that log from INFO on: at DEBUG some of them log requests, log-ins included."""


def configure_logging(
    level: LogLevel, log_format: LogFormat = LogFormat.AUTO, stream: TextIO | None = None
) -> None:
    """Set up logging of the whole process; a further call replaces the set-up.

    One line per event: JSON, or a console format on a terminal. Use `structlog.get_logger()`;
    records of the standard library's logging have the same form. Context variables (request_id,
    upload_id, node_id, tenant, trace_id) are part of every line of a request.
    """
    out = stream if stream is not None else sys.stderr
    console = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and out.isatty())
    number = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_trace_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    rendering: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    if console:
        rendering += [escape_controls, structlog.dev.ConsoleRenderer(colors=out.isatty())]
    else:
        rendering.append(structlog.processors.JSONRenderer())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_RedactingFormatter(foreign_pre_chain=shared, processors=rendering))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in _REQUEST_LOGGING_LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.INFO))
    logging.captureWarnings(True)


def log_uncaught_errors() -> None:
    """Log exceptions that nothing catches. Python prints them, with whatever secret they quote."""

    def in_main(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        _log.critical("process.failed", exc_info=error)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        # SystemExit ends a thread on purpose.
        if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else ""
            _log.error("thread.failed", thread=name, exc_info=arguments.exc_value)

    def ignored(raised: sys.UnraisableHookArgs) -> None:
        where = getattr(raised.object, "__qualname__", type(raised.object).__name__)
        _log.error("error.ignored", where=where, exc_info=raised.exc_value)

    sys.excepthook = in_main
    threading.excepthook = in_thread
    sys.unraisablehook = ignored


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Formatter that hides the secrets of this process, wherever a line quotes them."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def mask_secrets(
    logger: WrappedLogger, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask values that are secret by their key or their form, also nested ones."""
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


def _masked(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key):
        return MASKED
    if isinstance(value, str):
        text = _BEARER.sub(rf"\1 {MASKED}", value)
        text = _JWT.sub(MASKED, text)
        return _USERINFO.sub(f"://{MASKED}@", text)
    if isinstance(value, dict):
        return {inner: _masked(str(inner), content) for inner, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked("", content) for content in value]
    return value


def _add_trace_id(
    logger: WrappedLogger, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the trace id of the current span, for lines outside a request."""
    if "trace_id" not in event:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["trace_id"] = trace.format_trace_id(span.trace_id)
    return event
