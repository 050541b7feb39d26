"""Translation of errors of Redis and redis-py."""

from __future__ import annotations

from typing import Final

from redis import exceptions as redis_errors

from sluice_backends.certificates import certificate_problem
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Internal, ResourceExhausted, SluiceError, Unavailable

FULL_RETRY_SECONDS: Final = 2.0
"""About the time that storing a part takes, which frees memory."""

_NOT_READY: Final = (
    "BUSY",  # a script runs too long
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",  # writing to disk failed, so writes are refused
    "NOREPLICAS",
    "READONLY",  # a failover made it a replica
    "TRYAGAIN",  # a slot is moving
    "UNBLOCKED",
)
_REFUSED: Final = ("NOAUTH", "NOPERM", "WRONGPASS")

_REFUSALS: Final = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
)

_CLIENT: Final = (
    redis_errors.RedisError,
    redis_errors.RedisClusterException,
    OSError,
    TimeoutError,
)
VENDOR_ERRORS: Final = _CLIENT
"""All errors that redis-py may raise; the adapter lets none of them out."""


def unavailable() -> Unavailable:
    return Unavailable("REDIS_UNAVAILABLE", "Redis does not answer; try again in a moment.")


def translate(error: Exception) -> SluiceError:
    """Return the error for the caller.

    The vendor's text is left out: it may hold an address or a key.
    """
    word = _first_word(error)
    if isinstance(error, redis_errors.OutOfMemoryError) or word == "OOM" or "-OOM" in str(error):
        return ResourceExhausted(
            "REDIS_FULL",
            "Redis has no memory left for another chunk; try again in a moment.",
            retry_after_seconds=FULL_RETRY_SECONDS,
        )
    if isinstance(error, redis_errors.ResponseError) and word not in (*_NOT_READY, *_REFUSED):
        # A retry cannot help: a command or a script does not fit this server.
        return Internal(
            "REDIS_REFUSED",
            "Redis refused a command; this is a defect, please report it.",
            log_detail=word,
        )
    return unavailable()


def as_configuration_error(error: Exception) -> ConfigurationError | None:
    """Return the setting to correct if a retry cannot help; None if it may."""
    if isinstance(error, _REFUSALS) or _first_word(error) in _REFUSED:
        return ConfigurationError(
            "SLUICE_REDIS__URL: Redis refuses this user or password; correct them in the URL"
        )
    if "cluster support disabled" in str(error):
        return ConfigurationError(
            "SLUICE_REDIS__CLUSTER: this Redis is no cluster; set it to false"
        )
    problem = certificate_problem(error, "the URL, ?ssl_ca_certs=PATH")
    if problem is not None:
        return ConfigurationError(f"SLUICE_REDIS__URL: the certificate of Redis {problem}")
    return None


def _first_word(error: Exception) -> str:
    # redis-py removes the first word of errors that it maps to a class.
    word = str(error).split(" ", 1)[0]
    names = {
        redis_errors.BusyLoadingError: "LOADING",
        redis_errors.ReadOnlyError: "READONLY",
        redis_errors.ClusterDownError: "CLUSTERDOWN",
        redis_errors.MasterDownError: "MASTERDOWN",
        redis_errors.TryAgainError: "TRYAGAIN",
        redis_errors.NoPermissionError: "NOPERM",
    }
    return names.get(type(error), word if word.isupper() else "ERR")
