"""Unit tests: keys, errors, options and scripts of the Redis backend."""

from __future__ import annotations

import pytest
from redis import exceptions as redis_errors
from redis.crc import key_slot

from sluice_backends.redis import keys
from sluice_backends.redis.client.errors import as_configuration_error, translate
from sluice_backends.redis.client.scripts import load_script
from sluice_backends.redis.options import RedisOptions
from sluice_core.uploads.model import MIB


def test_keys_of_an_upload_share_a_slot() -> None:
    names = [
        keys.state("n1-u"),
        keys.metadata("n1-u"),
        keys.staging("n1-u", "token"),
        keys.chunk("n1-u", 7),
        keys.received("n1-u"),
        keys.tokens("n1-u"),
        keys.events("n1-u"),
        keys.etags("n1-u"),
    ]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert names[2:4] == ["upload:{n1-u}:staging:token", "upload:{n1-u}:chunks:7"]


@pytest.mark.parametrize("kind", ["PART", "COMPLETION"])
def test_keys_of_a_lane_share_the_slot_of_its_shard(kind: str) -> None:
    slots = {key_slot(name.encode()) for name in keys.lane(3, kind)}
    assert slots == {key_slot(b"sluice:queue:3")}


def test_parts_use_the_stream_of_their_shard() -> None:
    assert keys.lane(3, "PART")[0] == keys.queue(3) == "sluice:queue:3"


def test_shards_are_stable_and_evenly_used() -> None:
    assert keys.shard_of("n1-0190f1c2", 16) == 4
    counts = [0] * 16
    for number in range(16_000):
        counts[keys.shard_of(f"n1-{number:x}", 16)] += 1
    assert min(counts) > 800


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 1), (MIB - 1, 1), (MIB, 1), (MIB + 1, 2), (8 * MIB, 8)]
)
def test_number_of_blocks_follows_the_size(size: int, blocks: int) -> None:
    assert keys.staged_blocks(size) == blocks


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (redis_errors.ConnectionError("Error 111 connecting to secret:6379"), "REDIS_UNAVAILABLE"),
        (redis_errors.TimeoutError("Timeout reading from secret"), "REDIS_UNAVAILABLE"),
        (TimeoutError(), "REDIS_UNAVAILABLE"),
        (OSError("reset"), "REDIS_UNAVAILABLE"),
        (redis_errors.BusyLoadingError("Redis is loading"), "REDIS_UNAVAILABLE"),
        (redis_errors.ReadOnlyError("You can't write"), "REDIS_UNAVAILABLE"),
        (redis_errors.ClusterDownError("The cluster is down"), "REDIS_UNAVAILABLE"),
        (redis_errors.TryAgainError("Multiple keys"), "REDIS_UNAVAILABLE"),
        (redis_errors.ResponseError("MISCONF Redis is configured"), "REDIS_UNAVAILABLE"),
        (redis_errors.ResponseError("NOREPLICAS Not enough"), "REDIS_UNAVAILABLE"),
        (redis_errors.OutOfMemoryError("command not allowed"), "REDIS_FULL"),
        (redis_errors.ResponseError("OOM command not allowed"), "REDIS_FULL"),
        (redis_errors.ResponseError("Error running script: -OOM command"), "REDIS_FULL"),
        (redis_errors.ResponseError("WRONGTYPE Operation against secret"), "REDIS_REFUSED"),
        (redis_errors.ResponseError("unknown command 'secret'"), "REDIS_REFUSED"),
    ],
)
def test_errors_get_a_reason_and_no_vendor_text(error: Exception, reason: str) -> None:
    translated = translate(error)
    assert translated.reason == reason
    assert "secret" not in str(translated)


def test_permanent_errors_name_the_setting() -> None:
    for refusal in (
        redis_errors.AuthenticationError("invalid username-password pair"),
        redis_errors.NoPermissionError("this user has no permissions"),
        redis_errors.ResponseError("NOAUTH Authentication required."),
    ):
        assert "SLUICE_REDIS__URL" in str(as_configuration_error(refusal))
    no_cluster = redis_errors.ResponseError("This instance has cluster support disabled")
    assert "SLUICE_REDIS__CLUSTER" in str(as_configuration_error(no_cluster))
    assert as_configuration_error(redis_errors.ConnectionError("refused")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"shards": 0},
        {"max_connections": 0},
        {"operation_timeout_seconds": 0.0},
        {"memory_high_fraction": 0.0},
        {"memory_high_fraction": 1.1},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedisOptions("redis://localhost", **wrong)  # type: ignore[arg-type]


def test_scripts_include_their_fragments_and_sha1() -> None:
    put, settle = (
        load_script("sluice_backends.redis.queue", name, "queue_common")
        for name in ("queue_put", "queue_settle")
    )
    assert put.source.startswith(b"-- Shared by the scripts of the work queue")
    assert put.sha != settle.sha
    assert len(put.sha) == 40
