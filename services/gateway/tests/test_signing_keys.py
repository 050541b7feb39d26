"""Keys that sign access tokens: rotation, the file, and how verifiers keep up."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sluice_common.security.compact import parse_compact
from sluice_common.security.keys.key_ring import UnusableKeys
from sluice_core.configuration import ConfigurationError
from sluice_gateway.auth.access_tokens import AccessTokens, TokenTerms
from sluice_gateway.auth.key_file import KeyFile, open_signing_keys
from sluice_gateway.auth.signing_keys import (
    Algorithm,
    RotationPolicy,
    SigningKey,
    from_bytes,
    key_ring,
    new_key,
    public_keys,
    rotated,
    signing_key,
    to_bytes,
)
from sluice_gateway.metrics import AccountMetrics
from support.tokens import DrivenClock

POLICY = RotationPolicy(
    Algorithm.EDDSA, rotation_seconds=86_400.0, publish_seconds=600.0, token_seconds=900.0
)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_key_signs_tokens_that_its_public_half_verifies(algorithm: Algorithm) -> None:
    key = new_key(algorithm, 0.0)
    token = parse_compact(key.sign({"sub": "ann"}).encode())
    assert key_ring([key]).verify(token) is not None
    assert token.algorithm == algorithm.value
    assert token.key_id == key.key_id
    assert key_ring([new_key(algorithm, 0.0)]).verify(token) is None


def test_published_keys_hold_nothing_private() -> None:
    for algorithm in Algorithm:
        (entry,) = json.loads(public_keys([new_key(algorithm, 0.0)]))["keys"]
        assert not {"d", "p", "q", "dp", "dq", "qi"} & set(entry)
        assert entry["alg"] == algorithm.value


def test_stored_keys_come_back() -> None:
    keys = (new_key(Algorithm.EDDSA, 1.0), new_key(Algorithm.RS256, 2.0))
    back = from_bytes(to_bytes(keys))
    assert [(each.key_id, each.algorithm, each.created_at) for each in back] == [
        (each.key_id, each.algorithm, each.created_at) for each in keys
    ]
    for old, new in zip(keys, back, strict=True):
        assert key_ring([old]).verify(parse_compact(new.sign({}).encode())) is not None


def test_keys_are_not_in_their_repr() -> None:
    key = new_key(Algorithm.EDDSA, 1.0)
    assert str(key.private()["d"]) not in repr(key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":[1]}',
        b'{"keys":[{"kty":"oct","k":"AAAA","kid":"a","alg":"EdDSA","iat":1}]}',
        b'{"keys":[{"kid":"a","alg":"none","iat":1}]}',
        public_keys([new_key(Algorithm.EDDSA, 1.0)]).replace(b'"use": "sig"', b'"iat": 1'),
    ],
)
def test_damaged_keys_are_refused(content: bytes) -> None:
    with pytest.raises(UnusableKeys):
        from_bytes(content)


def test_first_key_signs_at_once() -> None:
    (key,) = keys = rotated((), POLICY, 1000.0)
    assert signing_key(keys, POLICY, 1000.0) is key
    assert rotated(keys, POLICY, 1001.0) == keys


def test_successor_is_published_before_it_signs() -> None:
    old = rotated((), POLICY, 0.0)
    keys = rotated(old, POLICY, POLICY.rotation_seconds)
    first, second = keys
    assert (first,) == old
    assert signing_key(keys, POLICY, POLICY.rotation_seconds + 599.0) is first
    assert signing_key(keys, POLICY, POLICY.rotation_seconds + 600.0) is second


def test_old_key_is_kept_until_its_tokens_end() -> None:
    keys = rotated(rotated((), POLICY, 0.0), POLICY, POLICY.rotation_seconds)
    last = POLICY.rotation_seconds + POLICY.publish_seconds + POLICY.token_seconds
    assert len(rotated(keys, POLICY, last + 59.0)) == 2
    assert len(rotated(keys, POLICY, last + 60.0)) == 1


@given(st.lists(st.floats(0, 200_000), min_size=1, max_size=12))
def test_every_token_verifies_until_it_ends(pauses: Sequence[float]) -> None:
    """At any intervals of rotation. A gateway signs with the keys of its last check."""
    now, keys = 0.0, tuple[SigningKey, ...]()
    tokens: list[tuple[float, str]] = []
    for pause in pauses:
        now += pause
        keys = rotated(keys, POLICY, now)
        key = signing_key(keys, POLICY, now)
        tokens.append((now + POLICY.token_seconds, key.key_id))
        held = {each.key_id for each in keys}
        assert all(key_id in held for end, key_id in tokens if end > now)


def test_hasty_rotation_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        RotationPolicy(Algorithm.EDDSA, 1000.0, 600.0, 900.0)


def test_key_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "auth" / "keys.json"
    KeyFile(path, POLICY).rotate(0.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_replicas_that_start_at_once_share_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = await asyncio.gather(
        *(asyncio.to_thread(KeyFile(path, POLICY).rotate, 0.0) for _ in range(8))
    )
    assert len({keys[0].key_id for keys in made}) == 1


async def test_replicas_that_rotate_at_once_share_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyFile(path, POLICY).rotate(0.0)
    made = await asyncio.gather(
        *(asyncio.to_thread(KeyFile(path, POLICY).rotate, 90_000.0) for _ in range(8))
    )
    assert len({tuple(key.key_id for key in keys) for keys in made}) == 1
    assert len(made[0]) == 2


async def test_token_of_another_replica_is_verified(tmp_path: Path) -> None:
    """Another replica has rotated, and this one has not read the file since."""
    clock, path = DrivenClock(0.0), tmp_path / "keys.json"
    async with open_signing_keys(path, POLICY, AccountMetrics(), clock) as keys:
        other = KeyFile(path, POLICY).rotate(90_000.0)[-1]
        token = parse_compact(other.sign({}).encode())
        assert keys.keys is not None
        assert keys.keys.verify(token) is None
        assert await keys.find_unknown() is None
        assert keys.keys.verify(token) is not None


async def test_unchanged_file_changes_nothing(tmp_path: Path) -> None:
    """It is read every five seconds: the log must not fill, nor the cache of tokens empty."""
    async with open_signing_keys(tmp_path / "keys.json", POLICY, AccountMetrics()) as keys:
        ring, key = keys.keys, keys.current()
        with capture_logs() as logged:
            assert await keys.find_unknown() is None
        assert keys.keys is ring
        assert keys.current() is key
        assert logged == []


def test_unchanged_keys_are_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing keys of RSA stops the process for tens of milliseconds."""
    file = KeyFile(tmp_path / "keys.json", POLICY)
    (key,) = file.rotate(1000.0)
    imports: list[bytes] = []

    def count(content: bytes) -> tuple[SigningKey, ...]:
        imports.append(content)
        return from_bytes(content)

    monkeypatch.setattr("sluice_gateway.auth.key_file.from_bytes", count)
    again = KeyFile(tmp_path / "keys.json", POLICY)
    for _ in range(5):
        assert [each.key_id for each in again.rotate(1001.0)] == [key.key_id]
    assert len(imports) == 1
    (tmp_path / "keys.json").write_bytes(to_bytes([new_key(Algorithm.EDDSA, 1000.0)]))
    assert [each.key_id for each in again.read()] != [key.key_id]


def test_due_rotation_of_a_read_only_file_makes_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is looked at every five seconds, and a new key of RSA takes a quarter of one."""
    file = KeyFile(tmp_path / "keys.json", POLICY)
    file.rotate(0.0)

    def refuse() -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(file, "_locked", refuse)
    monkeypatch.setattr("sluice_gateway.auth.signing_keys.new_key", pytest.fail)
    with pytest.raises(OSError, match="Read-only"):
        file.rotate(POLICY.rotation_seconds)


async def test_invented_keys_share_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred callers at once: one read for the first, and one for those that came during it."""
    async with open_signing_keys(tmp_path / "keys.json", POLICY, AccountMetrics()) as keys:
        reads = 0
        read = KeyFile.read

        def counted(file: KeyFile) -> tuple[SigningKey, ...]:
            nonlocal reads
            reads += 1
            return read(file)

        monkeypatch.setattr(KeyFile, "read", counted)
        answers = await asyncio.gather(*(keys.find_unknown() for _ in range(100)))
    assert set(answers) == {None}
    assert reads <= 2


async def test_damaged_file_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="SLUICE_GATEWAY__KEYS_FILE"):
        async with open_signing_keys(path, POLICY, AccountMetrics()):
            pass
    assert path.read_text() == "{", "it must stay repairable"


async def test_file_damaged_later_leaves_the_last_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    async with open_signing_keys(path, POLICY, AccountMetrics()) as keys:
        before = keys.current()
        path.write_text("{")
        assert await keys.find_unknown() == 1.0
        assert keys.current() is before


async def test_file_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "keys.json"
    with pytest.raises(ConfigurationError, match="SLUICE_GATEWAY__KEYS_FILE"):
        async with open_signing_keys(path, POLICY, AccountMetrics()):
            pass


async def test_mounted_secret_need_not_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys stay in use, also when one is due for a successor."""
    path = tmp_path / "keys.json"
    KeyFile(path, POLICY).rotate(0.0)

    def refuse(*_arguments: object, **_named: object) -> int:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("sluice_gateway.auth.key_file.os.open", refuse)
    async with open_signing_keys(path, POLICY, AccountMetrics(), lambda: 1e6) as keys:
        assert keys.current().created_at == 0.0


@pytest.mark.parametrize("algorithm", Algorithm)
def test_imitated_token_has_the_form_of_a_real_one(algorithm: Algorithm) -> None:
    """Only a verifier can distinguish them."""

    class Keys:
        def __init__(self) -> None:
            self.key = new_key(algorithm, 0.0)

        def current(self) -> SigningKey:
            return self.key

    keys = Keys()
    tokens = AccessTokens(keys, TokenTerms("https://a.example", "sluice", "tenant", 900.0))
    real, fake = (parse_compact(make("usr_1").encode()) for make in (tokens.issue, tokens.imitate))
    assert (real.key_id, real.algorithm) == (fake.key_id, fake.algorithm)
    assert len(real.signature) == len(fake.signature)
    assert real.claims().keys() == fake.claims().keys()
    assert key_ring([keys.key]).verify(real) is not None
    assert key_ring([keys.key]).verify(fake) is None
