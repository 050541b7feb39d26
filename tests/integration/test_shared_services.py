"""Tests that concurrent deployments on the same servers are isolated."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Sluice
from support.files import sha256_of, write_random
from support.shared_services import shared_services

FILES = 12
SIZE = 300_000


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


@pytest.mark.slow
def test_concurrent_deployments_complete_their_own_uploads(tmp_path: Path) -> None:
    """Both have idle workers.

    With a shared queue, every second upload would be completed by the other deployment, which has
    no such drive: DRIVE_NOT_FOUND.
    """
    with (
        shared_services(folder(tmp_path, "first")) as first,
        shared_services(folder(tmp_path, "second")) as second,
    ):
        assert first.redis_url != second.redis_url
        with first.serving(), second.serving() as server:
            sluice = Sluice(server.address, tmp_path / "state")
            sources = [
                write_random(tmp_path / f"{number}.bin", SIZE, seed=number)
                for number in range(FILES)
            ]
            sluice.ok("upload", *map(str, sources), "--drive", "crash")
            for source in sources:
                back = tmp_path / "back.bin"
                sluice.ok("get", f"crash:{source.name}", str(back))
                assert sha256_of(back) == sha256_of(source)
                back.unlink()
            first.assert_nothing_is_left(0)
            second.assert_nothing_is_left(FILES)


def test_deployment_keeps_redis_of_others(tmp_path: Path) -> None:
    """Each deployment starts with an empty Redis and empties it at the end."""
    with shared_services(folder(tmp_path, "first")) as first:
        with first.redis() as client:
            client.set("mine", "1")
        with shared_services(folder(tmp_path, "second")) as second, second.redis() as client:
            assert client.keys() == []
            client.set("theirs", "1")
        with first.redis() as client:
            assert client.keys() == [b"mine"]
