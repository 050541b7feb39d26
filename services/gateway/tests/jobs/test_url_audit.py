"""The audit of signed URLs: each is in the log before it is in somebody's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sluice_core.access.audit import AuditEntry
from sluice_core.errors import InvalidArgument, Unavailable
from sluice_core.ports.audit import AuditFilter
from support.commits import TENANT
from support.photo_gateway import PhotoGateway, reason_of
from support.waiting import until

RENEWED = AuditFilter(action="RenewUploadUrl")


class SlowCatalogue:
    """Stands in for `append_audit`: waits for `gate`, and counts transactions."""

    def __init__(self, photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.sizes: list[int] = []
        self._append = photos.catalogue.append_audit
        monkeypatch.setattr(photos.catalogue, "append_audit", self)

    async def __call__(self, entries: Sequence[AuditEntry]) -> None:
        self.sizes.append(len(entries))
        self.begun.set()
        await self.gate.wait()
        await self._append(entries)


async def test_no_url_before_its_entry_is_durable(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = (await photos.create(10))["items"]
    catalogue = SlowCatalogue(photos, monkeypatch)
    asking = asyncio.create_task(photos.post(f"/commands/upload/{item['photoId']}/renew"))
    await catalogue.begun.wait()
    assert not asking.done()
    catalogue.gate.set()
    assert (await asking).status_code == 200
    (entry,) = (await photos.catalogue.list_audit(TENANT, 10, None, RENEWED)).entries
    assert entry.object == f"photo/{item['photoId']}"


async def test_requests_at_the_same_time_share_a_transaction(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = (await photos.create(*[10] * 12))["items"]
    paths = [f"/commands/upload/{item['photoId']}/renew" for item in items]
    catalogue = SlowCatalogue(photos, monkeypatch)
    batches = photos.services.url_audit._batches
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(photos.post(path)) for path in paths]

        async def all_wait() -> bool:
            return len(batches._waiting) == len(paths)

        await until(all_wait, 30, "all requests wait for their entry")
        catalogue.gate.set()
    assert {task.result().status_code for task in asking} == {200}
    assert sum(catalogue.sizes) == len(paths)
    assert len(catalogue.sizes) == 2, "the first one, and those that came meanwhile"
    page = await photos.catalogue.list_audit(TENANT, 100, None, RENEWED)
    assert {entry.object for entry in page.entries} == {f"photo/{i['photoId']}" for i in items}
    assert len(page.entries) == len(items)


async def test_cancelled_request_leaves_no_entry_twice(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction holds the entries of other requests, and may be committed already."""
    catalogue = SlowCatalogue(photos, monkeypatch)
    audit = photos.services.url_audit
    first = asyncio.create_task(audit.append(entry_of("photo/0")))
    await catalogue.begun.wait()
    others = [asyncio.create_task(audit.append(entry_of(f"photo/{n}"))) for n in range(1, 6)]
    catalogue.begun.clear()
    await asyncio.sleep(0)
    catalogue.gate.set()
    await first
    catalogue.gate.clear()
    await catalogue.begun.wait()
    others[0].cancel()
    await asyncio.sleep(0)
    catalogue.gate.set()
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [None] * 4
    assert await objects_of(photos) == [f"photo/{n}" for n in range(6)]


async def test_entry_that_is_refused_leaves_the_others_there_once(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = photos.catalogue.append_audit

    async def refusing(entries: Sequence[AuditEntry]) -> None:
        await asyncio.sleep(0)  # so that the others wait meanwhile
        if any(entry.object == "photo/refused" for entry in entries):
            raise InvalidArgument("AUDIT_ENTRY_INVALID", "The catalogue refuses it.")
        await append(entries)

    monkeypatch.setattr(photos.catalogue, "append_audit", refusing)
    objects = [f"photo/{name}" for name in ("0", "1", "refused", "2")]
    audit = photos.services.url_audit
    answers = await asyncio.gather(
        *(audit.append(entry_of(name)) for name in objects), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [type(None)] * 2 + [InvalidArgument, type(None)]
    assert await objects_of(photos) == ["photo/0", "photo/1", "photo/2"]


def entry_of(name: str) -> AuditEntry:
    return AuditEntry(
        action="RenewUploadUrl", object=name, tenant=TENANT, subject="someone", occurred_at=1.0
    )


async def objects_of(photos: PhotoGateway) -> list[str]:
    page = await photos.catalogue.list_audit(TENANT, 100, None, RENEWED)
    return sorted(entry.object for entry in page.entries)


async def test_without_an_entry_there_is_no_url(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = (await photos.create(10))["items"]

    async def down(entries: Sequence[AuditEntry]) -> None:
        raise Unavailable("CATALOGUE_UNAVAILABLE", "The catalogue does not answer.")

    monkeypatch.setattr(photos.catalogue, "append_audit", down)
    response = await photos.post(f"/commands/upload/{item['photoId']}/renew")
    assert reason_of(response) == (503, "CATALOGUE_UNAVAILABLE")
