"""Requirements of a Redis server, checked at process start; durability afterwards too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.info import Info, read_info
from sluice_backends.redis.options import RedisOptions
from sluice_core.combinations import Durability
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import SluiceError

OLDEST: Final = (6, 2)
"""The queue reclaims a dead worker's items with XAUTOCLAIM, new in 6.2."""

_UNSAFE: Final = "or, for development only, set SLUICE_REDIS__ALLOW_UNSAFE=true"

_FSYNC_SETTINGS: Final = (("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no"))

_log = structlog.get_logger(__name__)


def durability_problems(
    infos: Mapping[str, Info], durability: Durability, options: RedisOptions
) -> dict[str, list[str]]:
    """Return by server what INFO shows that it lacks for the durability class."""
    return {address: _problems(info, durability, options) for address, info in infos.items()}


async def fsync_problems(clients: RedisClients) -> dict[str, list[str]]:
    """Return by server which settings do not sync every write. Raise as `RedisClients` does."""
    problems: dict[str, list[str]] = {}
    for name, required in _FSYNC_SETTINGS:
        for address, value in (await _configured(clients, name)).items():
            if value != required:
                problems.setdefault(address, []).append(_fsync_problem(name, value))
    return problems


async def check_server(
    clients: RedisClients, durability: Durability, options: RedisOptions
) -> None:
    """Raise `ConfigurationError` if the server cannot provide the configured durability.

    A server that evicts keys, or that acknowledges writes too early for the durability class,
    would lose chunks later without an error. With `allow_unsafe` such a server only logs a
    warning.
    """
    for address, info in (await read_info(clients)).items():
        _check_kind(info, options)
        if info.get("maxmemory", "0") == "0":
            _log.info("redis.memory_unbounded", advice="set maxmemory above SLUICE_BUDGET_BYTES")
        for problem in _problems(info, durability, options):
            _refuse(f"Redis at {address}: {problem}", options)
    if durability is Durability.FSYNC:
        await _check_fsync(clients, options)


def _check_kind(info: Info, options: RedisOptions) -> None:
    """Raise `ConfigurationError` for a server that cannot work, also with `allow_unsafe`."""
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        oldest = ".".join(str(part) for part in OLDEST)
        raise ConfigurationError(
            f"SLUICE_REDIS__URL: Redis {version} is too old; use {oldest} or newer"
        )
    if info.get("cluster_enabled") == "1" and not options.cluster:
        raise ConfigurationError(
            "SLUICE_REDIS__CLUSTER: this Redis is a node of a cluster; set it to true"
        )
    if info.get("role", "master") != "master":
        raise ConfigurationError(
            "SLUICE_REDIS__URL: this Redis is a replica, which takes no writes; name its master"
        )


def _problems(info: Info, durability: Durability, options: RedisOptions) -> list[str]:
    problems: list[str] = []
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction":
        problems.append(
            f"maxmemory-policy is {policy or 'unknown'}, so that acknowledged chunks may vanish; "
            "set maxmemory-policy noeviction"
        )
    if durability is Durability.FSYNC and info.get("aof_enabled") != "1":
        problems.append("SLUICE_DURABILITY=fsync needs appendonly yes")
    replicas = int(info.get("connected_slaves", "0"))
    if durability is Durability.REPLICATED and replicas < options.replicas_to_wait:
        problems.append(
            f"SLUICE_DURABILITY=replicated needs {options.replicas_to_wait} connected replicas and "
            f"there are {replicas}; add some, or lower SLUICE_REDIS__REPLICAS_TO_WAIT"
        )
    return problems


async def _check_fsync(clients: RedisClients, options: RedisOptions) -> None:
    """Check when the AOF is synced. Only CONFIG shows it, which managed services forbid."""
    for name, required in _FSYNC_SETTINGS:
        try:
            values = await _configured(clients, name)
        except SluiceError as error:
            _log.warning(
                "redis.durability_check_failed",
                reason=error.reason,
                advice=f"CONFIG GET is not allowed here; make sure that {name} is {required}",
            )
            continue
        for address, value in values.items():
            if value != required:
                _refuse(f"Redis at {address}: {_fsync_problem(name, value)}", options)


async def _configured(clients: RedisClients, name: str) -> Mapping[str, str]:
    """Return the value of a Redis setting by server."""
    replies = await clients.execute_on_masters("CONFIG", "GET", name)
    return {
        address: reply[1].decode() if len(reply) == 2 else "unknown"
        for address, reply in replies.items()
    }


def _fsync_problem(name: str, value: str) -> str:
    required = dict(_FSYNC_SETTINGS)[name]
    return f"SLUICE_DURABILITY=fsync needs {name} {required}, and it is {value}"


def _refuse(problem: str, options: RedisOptions) -> None:
    if not options.allow_unsafe:
        raise ConfigurationError(f"{problem}; {_UNSAFE}")
    _log.warning("redis.unsafe", problem=problem)
