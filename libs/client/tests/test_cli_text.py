"""Text for people: one line without control characters."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.cli import exits
from sluice_client.cli.exits import ConfigurationError, exit_code, explain
from sluice_client.cli.text import count_text, encodable, printable, size_text
from sluice_client.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TlsFailed,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)

file_names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@given(file_names)
def test_any_file_name_can_be_printed_and_put_into_json(name: bytes) -> None:
    text = os.fsdecode(name)
    assert printable(text).isprintable()
    assert json.loads(json.dumps(encodable(text)).encode()) == encodable(text)
    encodable(text).encode()


def test_plain_text_is_unchanged() -> None:
    assert printable("ümläut 日本.txt") == "ümläut 日本.txt"
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 * 1024**4, "5 TiB")],
)
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text


def test_counts_agree_with_their_word() -> None:
    assert [count_text(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("SERVER_UNREACHABLE", ""), exits.UNAVAILABLE),
        (DeadlineExceeded("LATE", ""), exits.UNAVAILABLE),
        (Unauthenticated("NO_TOKEN", ""), exits.DENIED),
        (Unauthenticated("BAD_TOKEN", ""), exits.DENIED),
        (InvalidArgument("BAD_TOKEN", ""), exits.CONFIGURATION),
        (TokenExpired("TOKEN_EXPIRED", ""), exits.DENIED),
        (PermissionDenied("MISSING_SCOPE", ""), exits.DENIED),
        (TlsFailed("CLIENT_CERTIFICATE_REFUSED", ""), exits.DENIED),
        (TlsFailed("SERVER_CERTIFICATE_EXPIRED", ""), exits.UNAVAILABLE),
        (TlsFailed("SERVER_NOT_TRUSTED", ""), exits.CONFIGURATION),
        (TlsFailed("SERVER_NAME_MISMATCH", ""), exits.CONFIGURATION),
        (TlsFailed("SERVER_WITHOUT_TLS", ""), exits.CONFIGURATION),
        (TlsFailed("TLS_REQUIRED", ""), exits.CONFIGURATION),
        (InvalidArgument("INSECURE_TOKEN", ""), exits.CONFIGURATION),
        (InvalidArgument("BAD_TLS_FILES", ""), exits.CONFIGURATION),
        (InvalidArgument("BAD_TARGET", ""), exits.CONFIGURATION),
        (ConfigurationError("bad"), exits.CONFIGURATION),
        (NotFound("NODE_NOT_FOUND", ""), exits.SOME_FAILED),
        (AlreadyExists("PATH_EXISTS", ""), exits.SOME_FAILED),
        (FileNotFoundError(2, "No such file or directory", "x"), exits.SOME_FAILED),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(error: Exception, code: int) -> None:
    assert exit_code(error) == code
    assert "\n" not in explain(error)
    assert explain(error)


def test_error_says_what_to_do_next() -> None:
    assert "sluice serve" in explain(Unavailable("SERVER_UNREACHABLE", "no answer"))
    assert "SLUICE_TOKEN" in explain(Unauthenticated("BAD_TOKEN", "the token is not valid"))
    assert "SLUICE_TOKEN" in explain(TokenExpired("TOKEN_EXPIRED", "the token has expired"))
    assert "--ca" in explain(TlsFailed("SERVER_NOT_TRUSTED", "no CA that is trusted"))
    assert "ulimit" in explain(OSError(24, "Too many open files"))
