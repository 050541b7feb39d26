"""Client environment with a real server: pipes, links, devices, Unicode forms, server limits.

The real server decides on paths and limits; unit tests are in the client library.
"""

from __future__ import annotations

import os
import random
import subprocess
import unicodedata
from pathlib import Path

import pytest

from sluice_client import Client, ClientOptions, Progress
from support.cli import Sluice
from support.deployments import Deployment

NFC, NFD = (unicodedata.normalize(form, "Müllers Fotos") for form in ("NFC", "NFD"))
DATA = random.Random(14).randbytes(20_000_003)
MIB = 1024 * 1024


class Interrupted(Exception):
    """Raised to end the run."""


def test_stream_goes_up_and_comes_down_through_pipes(sluice: Sluice) -> None:
    done = subprocess.run(
        sluice.command("upload", "-", "--drive", "pipes", "--name", "a/stream"),
        env=sluice.environment,
        input=DATA,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for destination in ("-", "/dev/stdout"):
        back = subprocess.run(
            sluice.command("get", "pipes:a/stream", destination),
            env=sluice.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=240,
            check=False,
        )
        assert (back.returncode, back.stdout == DATA) == (0, True), back.stderr


def test_links_are_followed_both_ways(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "link").symlink_to("file")
    sluice.ok("upload", str(tmp_path / "link"), "--drive", "links")
    (tmp_path / "target").write_bytes(b"before")
    (tmp_path / "out").symlink_to("target")
    sluice.ok("get", "links:link", str(tmp_path / "out"))
    assert (tmp_path / "target").read_bytes() == DATA
    assert (tmp_path / "out").is_symlink()


def test_either_spelling_of_a_prefix_gets_every_file(sluice: Sluice, tmp_path: Path) -> None:
    folder = tmp_path / "src" / NFC
    folder.mkdir(parents=True)
    for name in ("a1", "b1", "c1"):
        (folder / name).write_text(name)
    sluice.ok("upload", f"{tmp_path}/src/", "--drive", "spellings")
    for spelling in (NFC, NFD):
        out = tmp_path / f"out-{len(spelling)}"
        sluice.ok("get", "--recursive", f"spellings:{spelling}/", str(out))
        assert {path.name: path.read_text() for path in out.iterdir()} == {
            name: name for name in ("a1", "b1", "c1")
        }
    assert sluice.ok("stat", f"spellings:{NFD}/a1", "--json").json_lines()[0]["size"] == 2


def test_file_and_folder_of_one_name_are_named_first(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    sluice.ok("upload", str(tmp_path / "a"), "--drive", "clash")
    sluice.ok("upload", str(tmp_path / "a"), "--drive", "clash", "--name", "a/b")
    outcome = sluice.run("get", "--recursive", "clash:", str(tmp_path / "out"), "--json")
    assert (outcome.code, (tmp_path / "out").exists()) == (1, False)
    assert [line["paths"] for line in outcome.json_lines()] == [["a", "a/b"]]


@pytest.mark.parametrize(
    "limits",
    [
        {"SLUICE_LIMITS__PREFERRED_CHUNK_BYTES": f"{MIB}", "SLUICE_PART_BYTES": f"{5 * MIB}"},
        {
            "SLUICE_LIMITS__PREFERRED_CHUNK_BYTES": f"{4 * MIB}",
            "SLUICE_LIMITS__MAX_CHUNK_BYTES": f"{4 * MIB}",
        },
    ],
    ids=["smaller parts", "smaller chunks"],
)
@pytest.mark.slow
async def test_upload_survives_a_server_with_other_limits(
    deployed: Deployment, tmp_path: Path, limits: dict[str, str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    options = ClientOptions(state_dir=tmp_path / "state")

    def interrupt(progress: Progress) -> None:
        if progress.accepted_bytes:
            raise Interrupted

    with deployed.serving() as server:
        async with Client(server.address, options=options) as client:
            with pytest.raises(Interrupted):
                await client.upload(file, drive="d", path="p", on_progress=interrupt)
        address = server.address
    assert os.listdir(tmp_path / "state" / "uploads")
    again = deployed.server(limits)
    again.address = address
    again.start()
    try:
        async with Client(address, options=options) as client:
            result = await client.upload(file, drive="d", path="p")
        assert result.restarts == int("SLUICE_LIMITS__MAX_CHUNK_BYTES" in limits)
        async with Client(again.repository_address, options=options) as client:
            assert (await client.download(drive="d", path="p")).data == DATA
    finally:
        again.close()
    assert os.listdir(tmp_path / "state" / "uploads") == []
