"""Redaction: no form of a secret stays in the output of a process."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import structlog

from sluice_common.settings import MASKED, LogFormat, LogLevel
from sluice_common.telemetry.logging import configure_logging
from sluice_common.telemetry.redaction import Redactor, redact

SECRET = 'pa/ss"wörd\\1@%'


@pytest.fixture
def hidden() -> Iterator[None]:
    redact.hide({SECRET})
    yield
    redact.hide(())


@pytest.mark.parametrize(
    "text",
    [
        f"refused {SECRET}!",
        f"refused {json.dumps(SECRET)}",
        f"refused {SECRET!r}",
        f"refused {SECRET!a}",
        f"refused {SECRET.encode()!r}",
        json.dumps(f"refused {SECRET.encode()!r}"),
        json.dumps(f"refused {SECRET!r}", ensure_ascii=False),
        f"refused {quote(SECRET, safe='')}",
        f"refused {quote(SECRET)}",
    ],
)
def test_every_form_of_a_secret_is_replaced(text: str) -> None:
    redactor = Redactor()
    redactor.hide({SECRET})
    assert MASKED in redactor(text)
    assert "rd" not in redactor(text)


def test_secret_within_another_is_replaced_whole() -> None:
    redactor = Redactor()
    redactor.hide({"12345678", "12345678-abc"})
    assert redactor("x 12345678-abc 12345678") == f"x {MASKED} {MASKED}"


def test_short_secret_leaves_words_of_log_alone() -> None:
    redactor = Redactor()
    redactor.hide({"sluice", ""})
    assert redactor("sluice_intake") == "sluice_intake"


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_logs_of_ours_and_of_libraries_hide_secrets(hidden: None, log_format: LogFormat) -> None:
    out = io.StringIO()
    configure_logging(LogLevel.DEBUG, log_format, stream=out)
    structlog.get_logger("ours").info("thing.done", detail=SECRET, nested={"list": [SECRET]})
    logging.getLogger("theirs").warning("connect to me:%s@host failed", SECRET)
    try:
        raise OSError(f"cannot log in with {SECRET}")
    except OSError:
        structlog.get_logger("ours").exception("thing.failed", who=object())
    assert out.getvalue().count(MASKED) >= 4
    for form in (SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1]):
        assert form not in out.getvalue()


@pytest.mark.parametrize(
    ("statement", "event"),
    [
        ("raise OSError('hunter2hunter2')", "process.failed"),
        (
            "t = threading.Thread(target=lambda: int('hunter2hunter2')); t.start(); t.join()",
            "thread.failed",
        ),
        ("D().x", "error.ignored"),
    ],
)
def test_uncaught_errors_are_logged_without_secrets(statement: str, event: str) -> None:
    program = f"""
import threading
from sluice_common.settings import LogFormat, LogLevel
from sluice_common.telemetry.logging import configure_logging, log_uncaught_errors
from sluice_common.telemetry.redaction import redact
class D:
    x = 1
    def __del__(self): int('hunter2hunter2')
configure_logging(LogLevel.INFO, LogFormat.JSON)
log_uncaught_errors()
redact.hide({{'hunter2hunter2'}})
{statement}
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["event"] == event
    # A traceback quotes lines of the program, and ours contain the secret.
    assert "hunter2" not in line
    assert MASKED in line


@pytest.mark.parametrize("name", ["botocore.auth", "urllib3.connectionpool", "httpx", "aiokafka"])
def test_debug_level_logs_no_requests_of_libraries(name: str) -> None:
    """Their requests have tokens and signatures in their headers."""
    out = io.StringIO()
    configure_logging(LogLevel.DEBUG, LogFormat.JSON, stream=out)
    logging.getLogger(name).debug("request with headers")
    assert out.getvalue() == ""
    logging.getLogger(name).warning("request failed")
    assert "request failed" in out.getvalue()
