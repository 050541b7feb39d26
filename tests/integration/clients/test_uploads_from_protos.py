"""Tests of clients in other languages, with the .proto or with reflection only."""

from __future__ import annotations

import asyncio
import json

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from support.foreign_clients import ROOT, go_client, node_client
from support.intake import running_intake
from support.part_worker import working_for


async def test_node_client_uploads_from_proto() -> None:
    command = await asyncio.to_thread(node_client, "upload")
    async with running_intake() as intake, working_for(intake) as worker:
        client = await asyncio.create_subprocess_exec(
            *(*command.arguments, intake.address, str(ROOT / "protos")),
            env=command.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await client.communicate()
        assert client.returncode == 0, err.decode()
        ended = json.loads(out)
        assert ended["accepted"] == [0, 1, 2]
        # proto-loader returns enums as numbers by default.
        assert ended["state"] == pb.UPLOAD_STATE_COMPLETED
        assert worker.object_of(ended["upload_id"]) == b"firstsecondthird"


@pytest.mark.slow  # compiles the client once per clone
async def test_go_client_resolves_method_by_reflection() -> None:
    """The client uses its full name and reflection v1, as grpcurl and ghz do."""
    command = await asyncio.to_thread(go_client, "refusals")
    async with running_intake() as intake:
        client = await asyncio.create_subprocess_exec(
            *(*command.arguments, intake.address, "sluice.upload.v1.IntakeService.GetLimits"),
            env=command.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await client.communicate()
        assert client.returncode == 0, err.decode()
        limits = await intake.stub.GetLimits(pb.GetLimitsRequest())
        assert int(json.loads(out)["maxChunkBytes"]) == limits.max_chunk_bytes > 0
