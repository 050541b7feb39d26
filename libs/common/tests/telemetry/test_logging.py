"""Structured logging with request context and without secrets."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from sluice_common.settings import MASKED, LogFormat, LogLevel
from sluice_common.telemetry.logging import configure_logging


@pytest.fixture
def out() -> io.StringIO:
    """Configure JSON logs at INFO; return what is logged."""
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.JSON, stream)
    return stream


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object(out: io.StringIO) -> None:
    structlog.get_logger("sluice_test").info("chunk.accepted", number=7)
    (line,) = lines(out)
    assert line["event"] == "chunk.accepted"
    assert (line["level"], line["logger"], line["number"]) == ("info", "sluice_test", 7)
    assert line["timestamp"].endswith("Z")


def test_context_is_part_of_every_line(out: io.StringIO) -> None:
    bound = {"upload_id": "u1", "node_id": "n1", "tenant": "acme", "trace_id": "abc"}
    with structlog.contextvars.bound_contextvars(**bound):
        structlog.get_logger().info("one")
        logging.getLogger("some.library").warning("two")
    for line in lines(out):
        assert bound.items() <= line.items()


def test_libraries_log_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("some.library").warning("disk %s is full", "sda")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == (
        "disk sda is full",
        "warning",
        "some.library",
    )


def test_levels_below_the_configured_one_are_silent(out: io.StringIO) -> None:
    structlog.get_logger().debug("quiet")
    logging.getLogger("some.library").debug("quiet")
    logging.getLogger("aiosqlite").info("chatter")
    assert lines(out) == []


def test_a_traceback_is_in_the_line(out: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("the token is Bearer hunter2")
    except ZeroDivisionError:
        structlog.get_logger().exception("rpc.defect")
    (line,) = lines(out)
    assert "ZeroDivisionError" in line["exception"]
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    "event",
    [
        {"authorization": "Bearer hunter2"},
        {"password": "hunter2"},
        {"db_password": "hunter2"},
        {"api_key": "hunter2"},
        {"headers": {"authorization": "hunter2"}},
        {"header": "authorization: Bearer hunter2"},
        {"url": "mysql://root:hunter2@db/sluice"},
        {"values": ["Basic hunter2"]},
        {"secret": SecretStr("hunter2")},
        {"setting": SecretStr("hunter2")},
        {"jwt": "eyJhbGciOiJub25lIn0.hunter2.hunter2"},
    ],
)
def test_secrets_are_masked_by_name_and_by_form(out: io.StringIO, event: dict[str, Any]) -> None:
    structlog.get_logger().warning("something", **event)
    assert "hunter2" not in out.getvalue()
    assert MASKED in out.getvalue() or "**********" in out.getvalue()


def test_other_values_are_not_masked(out: io.StringIO) -> None:
    structlog.get_logger().info("x", url="http://h:1/a@b", tokens=3, path="basics/bearer.txt")
    (line,) = lines(out)
    assert (line["url"], line["tokens"]) == ("http://h:1/a@b", 3)
    assert line["path"] == "basics/bearer.txt"


def test_warnings_of_python_are_logged(out: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    assert "old ways" in lines(out)[0]["event"]


def test_the_console_style_is_for_people(out: io.StringIO) -> None:
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.CONSOLE, stream)
    structlog.get_logger().info("chunk.accepted", number=7)
    assert "chunk.accepted" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


HOSTILE = "\x1b]0;title\x07\x9b31m\x7f\u202e\r\b\u2028\udc9b\nforged"


class Hostile:
    def __repr__(self) -> str:
        return HOSTILE


def raise_hostile() -> None:
    raise ValueError(HOSTILE)


@pytest.mark.parametrize("log_format", [LogFormat.CONSOLE, LogFormat.JSON])
@pytest.mark.parametrize("level", ["warning", "exception"])
def test_no_log_line_controls_a_terminal(log_format: LogFormat, level: str) -> None:
    """Names, messages of peers and objects may hold escape sequences; so may keys."""
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, log_format, stream)
    fields: dict[str, Any] = {
        "name": HOSTILE,
        "inner": {HOSTILE: [HOSTILE]},
        "object": Hostile(),
        f"key{HOSTILE}": 1,
        "data": HOSTILE.encode("utf-8", "surrogateescape"),
    }
    try:
        raise_hostile()
    except ValueError:
        getattr(structlog.get_logger(HOSTILE), level)(HOSTILE, **fields)
        getattr(logging.getLogger("a.library"), level)("peer: %s", HOSTILE, extra={"x": HOSTILE})
    text = stream.getvalue()
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert not [line for line in text.splitlines() if line.startswith("forged")] or (
        level == "exception"
    ), "a traceback has the lines of its message"
    assert text.count("title") >= 5


def test_console_tracebacks_keep_their_lines() -> None:
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.CONSOLE, stream)
    try:
        raise_hostile()
    except ValueError:
        structlog.get_logger().exception("rpc.defect")
    assert "\n    raise ValueError(HOSTILE)\n" in stream.getvalue()
