"""Virus scanners: what they find, and what becomes of an object that they could not scan."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.errors import Unavailable
from sluice_processor.images.model import ImageOptions
from sluice_processor.nodes.handler import NodeProcessor, Outcome, Work
from sluice_processor.scanning.clamd import ClamdScanner
from sluice_processor.scanning.command import CommandScanner
from sluice_processor.scanning.port import Scanner
from support.clamd import EICAR, clamd
from support.commits import TENANT
from support.processor import PHOTO, Darkroom

PROCESSED = Outcome("processed")
INFECTED = Outcome("failed", "INFECTED")
BIG = b"\0" * (600 * 1024) + EICAR
"""More than one chunk, and more than is kept of an object that is no picture."""


def scanning(room: Darkroom, scanner: Scanner | None) -> NodeProcessor:
    return NodeProcessor(replace(room.deps, scanner=scanner))


def command(code: str, seconds: float = 20.0) -> CommandScanner:
    return CommandScanner([sys.executable, "-c", code], seconds)


@asynccontextmanager
async def eicar_scanner(kind: str) -> AsyncIterator[Scanner]:
    if kind == "command":
        script = f"import sys; sys.exit({EICAR!r} in sys.stdin.buffer.read())"
        yield command(script)
    else:
        async with clamd() as daemon:
            yield ClamdScanner(daemon.address, 20.0)


@pytest.mark.parametrize("kind", ["command", "clamd"])
async def test_infected_object_fails_and_others_pass(room: Darkroom, kind: str) -> None:
    """Pictures and all others, small and large; the scanner sees the whole object."""
    async with eicar_scanner(kind) as scanner:
        processor = scanning(room, scanner)
        contents = {
            "a.jpg": PHOTO,
            "b.jpg": PHOTO + EICAR,
            "c.txt": EICAR,
            "d.bin": BIG,
            "e.txt": b"clean",
        }
        outcomes = {}
        for name, content in contents.items():
            commit = await room.upload(content, name)
            outcomes[name] = await processor.process(Work(TENANT, commit.node_id))
            if outcomes[name] == INFECTED:
                assert await room.store.head(commit.object) is not None, "the object is kept"
                found = await room.result(commit)
                assert found is not None
                assert (found.state, found.thumbnails) == (ProcessingState.FAILED, ())
    assert outcomes == {
        "a.jpg": PROCESSED,
        "b.jpg": INFECTED,
        "c.txt": INFECTED,
        "d.bin": INFECTED,
        "e.txt": PROCESSED,
    }
    assert room.decoder.calls == 1, "nothing decodes an infected picture"


async def test_clamd_names_what_it_found(room: Darkroom) -> None:
    async with clamd() as daemon:
        commit = await room.upload(EICAR)
        processor = scanning(room, ClamdScanner(daemon.address, 20.0))
        await processor.process(Work(TENANT, commit.node_id))
        found = await room.result(commit)
        assert found is not None
        assert "Win.Test.EICAR_HDB-1" in found.detail
        assert daemon.received == [EICAR]


@pytest.mark.parametrize(
    "scanner",
    [
        command("raise SystemExit(2)"),
        command("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        command("import time; time.sleep(600)", seconds=0.2),
        CommandScanner(["/no/such/scanner"], 20.0),
        ClamdScanner("127.0.0.1:1", 20.0),
        ClamdScanner("unix:/no/such/socket", 20.0),
    ],
    ids=["error", "killed", "hangs", "missing", "no-port", "no-socket"],
)
async def test_object_does_not_pass_without_a_verdict(room: Darkroom, scanner: Scanner) -> None:
    """It is tried again, and has no result until then."""
    commit = await room.upload(PHOTO)
    with pytest.raises(Unavailable) as failed:
        await scanning(room, scanner).process(Work(TENANT, commit.node_id))
    assert failed.value.reason == "SCANNER_UNAVAILABLE"
    assert await room.result(commit) is None
    assert room.decoder.calls == 0
    assert await scanning(room, None).process(Work(TENANT, commit.node_id)) == PROCESSED


@pytest.mark.parametrize("answer", [b"", b"stream: broken ERROR\0", b"nonsense\0", b"OK"])
async def test_answer_that_is_none_is_no_verdict(room: Darkroom, answer: bytes) -> None:
    async with clamd() as daemon:
        daemon.answer = answer
        commit = await room.upload(PHOTO)
        processor = scanning(room, ClamdScanner(daemon.address, 20.0))
        with pytest.raises(Unavailable, match="clamd answered with an error"):
            await processor.process(Work(TENANT, commit.node_id))


async def test_object_too_large_for_the_scanner_fails(room: Darkroom) -> None:
    """By the limit of the processor, and by that of the daemon."""
    async with clamd() as daemon:
        daemon.max_bytes = 1000
        scanner = ClamdScanner(daemon.address, 20.0)
        commit = await room.upload(BIG)
        outcome = await scanning(room, scanner).process(Work(TENANT, commit.node_id))
        assert outcome == Outcome("failed", "TOO_LARGE")
        options = replace(room.deps.options, images=ImageOptions(max_source_bytes=100_000))
        deps = replace(room.deps, options=options, scanner=scanner)
        other = await room.upload(BIG, "b.bin")
        outcome = await NodeProcessor(deps).process(Work(TENANT, other.node_id))
        assert outcome == Outcome("failed", "TOO_LARGE")
        assert len(daemon.received) == 1


async def test_command_gets_no_secrets(
    room: Darkroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_S3__SECRET_KEY", "canary")
    seen = tmp_path / "seen"
    script = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    commit = await room.upload(PHOTO)
    outcome = await scanning(room, command(script)).process(Work(TENANT, commit.node_id))
    assert outcome == PROCESSED
    assert "canary" not in seen.read_text()


async def test_infected_object_is_scanned_again_on_request(room: Darkroom) -> None:
    """E.g. when a false alarm was mended in the signatures: the bytes are the same."""
    commit = await room.upload(PHOTO)
    work = Work(TENANT, commit.node_id)
    assert await scanning(room, command("raise SystemExit(1)")).process(work) == INFECTED
    clean = scanning(room, command("raise SystemExit(0)"))
    assert await clean.process(work) == Outcome("repeated")
    assert await clean.process(replace(work, is_requested=True)) == PROCESSED
