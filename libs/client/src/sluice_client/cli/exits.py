"""Exit codes, and the one-line explanation of an error."""

from __future__ import annotations

import errno

from sluice_client.cli.text import printable
from sluice_client.errors import SluiceError

OK = 0
SOME_FAILED = 1
USAGE = 2
UNAVAILABLE = 69
DENIED = 77
CONFIGURATION = 78
INTERRUPTED = 130
"""128 + SIGINT, the convention of shells."""
TERMINATED = 143
BROKEN_PIPE = 141


class ConfigurationError(Exception):
    """Invalid setting; the text names the setting and what is valid."""


_CODES = {
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
    "UNAUTHENTICATED": DENIED,
    "PERMISSION_DENIED": DENIED,
}
_HINTS = {
    "SERVER_UNREACHABLE": "Is it running? `sluice serve` starts one on this machine; --server or"
    " SLUICE_SERVER names another.",
    "CONNECTION_BROKEN": "Run the same command again to resume.",
    "UNAUTHENTICATED": "Give a valid token by --token-file, SLUICE_TOKEN_FILE or SLUICE_TOKEN, or"
    " run `sluice login`.",
    "WRONG_CREDENTIALS": "Run the same command again.",
    "NOT_LOGGED_IN": "--gateway or SLUICE_GATEWAY names the gateway.",
    "GATEWAY_UNREACHABLE": "--gateway or SLUICE_GATEWAY names another.",
    "TOKEN_EXPIRED": "Write a new one to the file of --token-file or SLUICE_TOKEN_FILE, or set"
    " SLUICE_TOKEN; then run the same command again to resume.",
    "QUOTA_EXCEEDED": "`sluice quota show DRIVE` and `sluice quota show --tenant` show the usage.",
    "SERVER_NOT_TRUSTED": "--ca or SLUICE_CA_FILE names it.",
    "CLIENT_CERTIFICATE_REFUSED": "--cert and --key name them.",
}
_CONFIGURATION_REASONS = frozenset(
    {
        "BAD_LOGIN_FILE",
        "BAD_TARGET",
        "BAD_TOKEN",
        "BAD_TLS_FILES",
        "INSECURE_TOKEN",
        "NOT_A_GATEWAY",
        "SERVER_NOT_TRUSTED",
        "SERVER_NAME_MISMATCH",
        "SERVER_WITHOUT_TLS",
        "TLS_REQUIRED",
    }
)
"""Errors that another setting avoids, and nothing else."""
_LOCAL_CODES = frozenset({"INVALID_ARGUMENT", "UNAVAILABLE"})
"""Codes of such errors, which no server has sent."""


_LOCAL = {
    errno.EMFILE: "too many open files; use a smaller --parallel or a higher `ulimit -n`",
    errno.ENOSPC: "the disk of this machine is full; free some space there",
    errno.EDQUOT: "the disk quota on this machine is used up; free some space there",
    errno.EROFS: "the file system on this machine is read-only; choose another folder",
    errno.ELOOP: "the symbolic links form a loop; correct them",
}
"""Local errors, marked so that the user does not search for the cause on the server."""


def exit_code(error: Exception) -> int:
    """Return the exit code for an error that ends a command."""
    if isinstance(error, ConfigurationError):
        return CONFIGURATION
    if isinstance(error, SluiceError):
        if error.reason == "CLIENT_CERTIFICATE_REFUSED":
            return DENIED
        # A server has reasons of the same names for tokens that it refuses.
        if error.code in _LOCAL_CODES and error.reason in _CONFIGURATION_REASONS:
            return CONFIGURATION
        return _CODES.get(error.code, SOME_FAILED)
    return SOME_FAILED


def failure_record(error: Exception) -> dict[str, str]:
    """Return the `--json` record of an error that ends a command."""
    if isinstance(error, SluiceError):
        reason = error.reason
    elif isinstance(error, OSError):
        reason = errno.errorcode.get(error.errno or 0, "IO_ERROR")
    else:
        reason = "BAD_CONFIGURATION"
    return {"status": "failed", "reason": reason, "message": explain(error)}


def explain(error: Exception) -> str:
    """Return one readable line: what is wrong and, where it helps, what to do next."""
    if isinstance(error, SluiceError):
        hint = _HINTS.get(error.reason) or _HINTS.get(error.code, "")
        text = f"{error.message.rstrip('.')} [{error.reason}]"
        return printable(f"{text}. {hint}" if hint else text)
    if isinstance(error, OSError):
        what = _LOCAL.get(error.errno or 0) or error.strerror or str(error)
        return printable(f"{error.filename}: {what}" if error.filename else what)
    return printable(str(error))
