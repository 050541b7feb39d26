"""Drives that are deleted while something is in them, through real servers."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.repository.v1 import repository_pb2 as rp
from sluice.upload.v1 import upload_pb2 as up
from sluice_core.access.principal import Principal
from support.guarded_services import CLOSED, OPEN, GuardedServices, refused
from support.principals import ADMIN, ANN, BOB, credentials


def delete(services: GuardedServices, name: str, who: Principal = ADMIN) -> Any:
    request = rp.DeleteDriveRequest(name=name)
    return services.repository.DeleteDrive(request, metadata=credentials(who))


async def test_a_drive_with_an_open_upload_is_kept(services: GuardedServices) -> None:
    upload_id = await services.add_upload("acme", "ann", OPEN)
    await services.add_upload("rival", "ann", CLOSED)  # another tenant's drive
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_EMPTY"
    await delete(services, CLOSED)
    await services.ledger.abort(upload_id)
    await delete(services, OPEN)
    assert await services.listed_drives(ADMIN) == []


async def test_every_page_is_searched_for_open_uploads(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_repository.rpc.drive_deletion._PAGE", 2)
    await services.add_upload("acme", "ann", CLOSED)  # the oldest is on the last page
    for number in range(5):
        await services.add_upload("acme", "ann", OPEN, f"p{number}")
    assert await refused(delete(services, CLOSED)) == "DRIVE_NOT_EMPTY"


async def test_a_drive_with_a_node_is_kept(services: GuardedServices) -> None:
    node_id = await services.add_node("acme", OPEN, "n")
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_EMPTY"
    request = rp.DeleteNodeRequest(node_id=node_id)
    await services.repository.DeleteNode(request, metadata=credentials(ADMIN))
    await delete(services, OPEN)
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_FOUND"
    # Deleted again, as a repeated call does.
    await services.repository.DeleteNode(request, metadata=credentials(ADMIN))


async def test_uploads_of_a_deleted_drive_are_their_owners(services: GuardedServices) -> None:
    upload_id = await services.add_upload("acme", "ann", OPEN)
    await services.ledger.abort(upload_id)
    await delete(services, OPEN)
    assert await services.listed_uploads(ANN) == {(OPEN, "u")}
    assert await services.listed_uploads(BOB) == set()
    request = up.GetUploadStatusRequest(upload_id=upload_id)
    await services.intake.GetUploadStatus(request, metadata=credentials(ANN))
    other = services.intake.GetUploadStatus(request, metadata=credentials(BOB))
    assert await refused(other) == "DRIVE_NOT_FOUND"
