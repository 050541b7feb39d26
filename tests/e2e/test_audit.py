"""The audit log of whole processes: what a stop leaves, and what an intake does without one."""

from __future__ import annotations

import json
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as rp
from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice.upload.v1 import upload_pb2 as up
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from support.processes import ServiceProcess
from support.server import StandaloneServer

FORGED = f"Bearer {secrets.token_urlsafe(40)}"
INTAKE_ALONE = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    "SLUICE_LOG_FORMAT": "json",
}


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name


async def test_a_stop_keeps_the_refusals_before_it(tmp_path: Path) -> None:
    """And no part of a token is in the catalogue."""
    server = StandaloneServer(tmp_path / "data", arguments=("--auth",))
    server.start()
    try:
        token = (tmp_path / "data" / "auth" / "admin.token").read_text().strip()
        admin = (("authorization", f"Bearer {token}"), ("x-request-id", "r-1"))
        async with grpc.aio.insecure_channel(server.address) as channel:
            repository, intake = RepositoryServiceStub(channel), IntakeServiceStub(channel)
            await intake.InitiateUpload(
                up.InitiateUploadRequest(drive="first", path="a"), metadata=admin
            )
            for _ in range(20):
                call = intake.GetLimits(
                    up.GetLimitsRequest(), metadata=(("authorization", FORGED),)
                )
                assert await refused(call) == "UNAUTHENTICATED"
            gone = repository.DeleteNode(rp.DeleteNodeRequest(node_id="none"), metadata=admin)
            assert await refused(gone) == "NOT_FOUND"
        assert server.stop() == 0
    finally:
        server.close()
    catalogue = tmp_path / "data" / "catalogue.sqlite"
    with sqlite3.connect(catalogue) as database:
        rows = database.execute(
            "SELECT tenant, subject, action, object, outcome, request_id, occurrences"
            " FROM audit_log ORDER BY row_id"
        ).fetchall()
    counted = [row for row in rows if row[2] != "Authenticate"]
    assert counted == [
        ("default", "admin", "CreateDrive", "drive/first", "OK", "r-1", 1),
        ("default", "admin", "DeleteNode", "node/none", "NODE_NOT_FOUND", "r-1", 1),
    ]
    forged = [row for row in rows if row[2] == "Authenticate"]
    assert {(row[0], row[1], row[4]) for row in forged} == {("", "", "BAD_TOKEN")}
    assert sum(row[6] for row in forged) == 20
    assert len(forged) < 20, "one entry in ten seconds"
    for file in (tmp_path / "data").glob("catalogue.sqlite*"):
        content = file.read_bytes()
        assert FORGED[-40:].encode() not in content
        assert token[-40:].encode() not in content


async def test_an_intake_logs_refused_tokens(tmp_path: Path) -> None:
    """It has no catalogue. A flood is a few lines."""
    secret = tmp_path / "secret"
    secret.write_text(secrets.token_urlsafe(48))
    intake = ServiceProcess(
        "sluice_intake",
        tmp_path,
        {
            **INTAKE_ALONE,
            "SLUICE_AUTH__MODE": "jwt",
            "SLUICE_AUTH__AUDIENCE": "sluice",
            "SLUICE_AUTH__SECRET_FILE": str(secret),
        },
    )
    with intake:
        async with grpc.aio.insecure_channel(intake.address) as channel:
            stub = IntakeServiceStub(channel)
            for _ in range(50):
                call = stub.GetLimits(up.GetLimitsRequest(), metadata=(("authorization", FORGED),))
                assert await refused(call) == "UNAUTHENTICATED"
        assert intake.stop() == 0
    text = intake.log.read_text()
    assert FORGED[-40:] not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    logged = [line for line in lines if line["event"] == "call.refused"]
    assert {(line["reason"], line["peer"], line["tenant"]) for line in logged} == {
        ("BAD_TOKEN", "127.0.0.1", "")
    }
    assert sum(line["count"] for line in logged) == 50
    assert len(logged) < 50, "one line in ten seconds"
