"""The oracle: checks of the actual state against the observations."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from sluice_core.uploads.checksums import combined_crc32c
from sluice_core.uploads.ids import event_id
from support.oracle.call_listeners import listener_of
from support.oracle.observations import ENDS, Content, Observations, ObservedUpload
from support.recorder import CallListener, received_numbers
from support.wire import Chunk, WireClient

DRAIN_SECONDS = 120.0
"""Longest time for events and checksums to arrive after the last fault."""

Resend = Callable[[ObservedUpload, int], bytes]
Published = Callable[[], Awaitable[Sequence[EventRecord]]]
"""Reads every published event, in order per node; it may include those of other tests."""


class Backends(Protocol):
    """The counts that a deployment's backends provide."""

    def leftovers(self) -> list[str]: ...

    def count_objects(self) -> int: ...


class Oracle:
    """Observes recorders, finishes unfinished uploads and checks the result; one per deployment.

        oracle = Oracle()
        async with Recorder(server.address, oracle).serving() as recorder:
            ...                                       # clients upload through recorder.address
        await oracle.settle(wire)                     # finish what faults left unfinished
        await oracle.check(wire, deployment, published_by(deployment))

    It observes the messages of clients of any kind (recorder.py) and queries over gRPC, so it
    checks every deployment alike: embedded, or Redis, S3, Kafka and MySQL.
    """

    def __init__(self) -> None:
        self.observations = Observations()

    def call(self, method: str) -> CallListener:
        """Return the observer of one call, for `Recorder(target, listener=oracle)`."""
        return listener_of(method, self.observations)

    # -- finishing

    async def settle(self, wire: WireClient, resend: Resend | None = None) -> None:
        """Complete every upload, so that every acknowledged chunk can be read back.

        Chunks that a status reports as received are not sent again: without the bytes of an
        acknowledged chunk its object could not be completed. `resend` gives the bytes of missing
        chunks; acknowledged chunks among them are recorded as lost.
        """
        for upload in list(self.observations.uploads.values()):
            status = await self._status(wire, upload)
            if status is None or status.state in ENDS:
                continue
            if status.state != pb.UPLOAD_STATE_COMPLETING:
                await self._fill(wire, upload, status, resend)
            last = await wire.complete(upload.upload_id, upload.total_chunks, wait_seconds=240)
            self.observations.status(last)
            assert last.state in ENDS, f"{upload.upload_id} does not end: {last}"

    async def _status(self, wire: WireClient, upload: ObservedUpload) -> pb.UploadStatus | None:
        try:
            status = await wire.status(upload.upload_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            upload.vanished = True
            upload.lost |= upload.acknowledged.keys()
            return None
        self.observations.status(status)
        return status

    async def _fill(
        self,
        wire: WireClient,
        upload: ObservedUpload,
        status: pb.UploadStatus,
        resend: Resend | None,
    ) -> None:
        if upload.total_chunks is None:
            upload.total_chunks = max([*upload.sent, *upload.acknowledged], default=-1) + 1
        assert not status.missing_truncated, "more gaps than a status names"
        numbers = sorted(set(range(upload.total_chunks)) - received_numbers(status))
        upload.lost |= set(numbers) & upload.acknowledged.keys()
        for number in numbers:
            assert resend is not None, f"chunk {number} of {upload.upload_id} is missing"
            data = resend(upload, number)
            upload.sent.setdefault(number, set()).add(Content.of(data))
            await wire.send_unary(upload.upload_id, [Chunk(number, data)])

    # -- judging

    async def check(
        self,
        wire: WireClient,
        backends: Backends,
        published: Published,
        *,
        may_lose: bool = False,
    ) -> None:
        """Check everything, after `settle`. Raises AssertionError stating what is wrong.

        Args:
            may_lose: the durability class allows the loss of acknowledged chunks, provided that
                the server reports it.
        """
        assert self.observations.contradictions == []
        if not may_lose:
            assert self.observations.lost_chunks == 0, "acknowledged chunks were lost"
        nodes = await self.check_nodes(wire)
        await self.check_bytes(wire, nodes)
        await self.check_events(wire, published)
        await self.check_leftovers(backends)

    async def check_nodes(self, wire: WireClient) -> list[repository_pb2.Node]:
        """Check that each path of a completed upload has one live node; return all live nodes."""
        completed = [upload for upload in self.observations.uploads.values() if upload.completed]
        by_path: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for upload in completed:
            by_path[upload.drive, upload.path].add(upload.node_id)
        live = {node.node_id: node async for node in self._live_nodes(wire)}
        for place, node_ids in by_path.items():
            winners = len(node_ids & live.keys())
            assert winners <= 1, f"{winners} nodes live at {place}"
            assert winners == 1 or node_ids & self.observations.deleted_nodes, f"no node at {place}"
        unknown = live.keys() - {upload.node_id for upload in completed}
        assert not unknown, f"nodes without a completed upload: {sorted(unknown)}"
        return list(live.values())

    async def check_bytes(self, wire: WireClient, nodes: Iterable[repository_pb2.Node]) -> None:
        """Check by SHA-256 that every chunk of every live node is the one that was sent."""
        uploads = {upload.node_id: upload for upload in self.observations.uploads.values()}
        for node in nodes:
            upload = uploads[node.node_id]
            total = upload.total_chunks
            assert total is not None, f"{upload.upload_id} completed without a total"
            expected = [upload.content_of(number) for number in range(total)]
            whole = await _read_as(wire, node, expected)
            assert (node.drive, node.path) == (upload.drive, upload.path)
            assert node.size == sum(content.size for content in expected)
            crc = combined_crc32c((content.crc32c, content.size) for content in expected)
            assert node.crc32c == crc, f"the CRC32C of node {node.node_id} is another one"
            if node.HasField("sha256"):
                assert node.sha256 == whole, f"the SHA-256 of node {node.node_id} is another one"

    async def check_events(self, wire: WireClient, published: Published) -> None:
        """Check that the published event ids match the transitions, one each, in order."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while True:
            nodes = [node async for node in self._live_nodes(wire)]
            problems = self._problems_of(await published(), nodes)
            if not problems:
                return
            assert loop.time() < deadline, "\n".join(problems)
            await asyncio.sleep(0.5)

    async def check_leftovers(self, backends: Backends) -> None:
        """Check that nothing of uploads in flight remains and that every node has an object.

        Objects of superseded or deleted nodes may still wait for their deletion.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while left := await asyncio.to_thread(backends.leftovers):
            assert loop.time() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.5)
        completed = [upload for upload in self.observations.uploads.values() if upload.completed]
        live = len({(upload.drive, upload.path) for upload in completed})
        live -= len(self.observations.deleted_nodes)
        objects = await asyncio.to_thread(backends.count_objects)
        assert live <= objects <= len(completed), f"{objects} objects for {live} nodes"

    # -- events

    def _problems_of(
        self, published: Sequence[EventRecord], live: Sequence[repository_pb2.Node]
    ) -> list[str]:
        ours = {
            upload.node_id for upload in self.observations.uploads.values() if not upload.vanished
        }
        records = [record for record in published if record.key in ours]
        seen = {record.event_id for record in records if record.topic == UPLOADS_TOPIC}
        expected = dict(self._upload_transitions())
        problems = [f"never published: {expected[each]}" for each in expected.keys() - seen]
        problems += [
            f"no such transition: {record.type} of node {record.key}"
            for record in records
            if record.topic == UPLOADS_TOPIC and record.event_id not in expected
        ]
        problems += _out_of_order(records)
        problems += self._node_problems(records, live)
        return problems

    def _upload_transitions(self) -> Iterable[tuple[str, str]]:
        """Return event id → transition. An upload has two events: initiated and ended."""
        for upload in self.observations.uploads.values():
            if upload.vanished:
                continue
            names = ["UploadInitiated", *(ENDS[end] for end in upload.ends)]
            for sequence, name in enumerate(names, start=1):
                yield event_id(upload.node_id, name, sequence), f"{name} {upload.upload_id}"

    def _node_problems(
        self, records: Sequence[EventRecord], live: Sequence[repository_pb2.Node]
    ) -> list[str]:
        """Check NodeDeleted of ended nodes and NodeVerified of nodes hashed after completion."""
        happened: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        knew_sha256 = set()
        for record in records:
            name, message = record.type.rpartition(".")[2], _message_of(record)
            if record.topic == NODES_TOPIC:
                happened[name, record.key].add(record.event_id)
            elif name == "UploadCompleted" and message.HasField("sha256"):
                knew_sha256.add(record.key)
        problems = [
            f"{len(ids)} different {name} of node {node_id}"
            for (name, node_id), ids in happened.items()
            if len(ids) > 1
        ]
        completed = {u.node_id for u in self.observations.uploads.values() if u.completed}
        alive = {node.node_id for node in live}
        deleted = {node_id for name, node_id in happened if name == "NodeDeleted"}
        problems += [f"no NodeDeleted of {each}" for each in completed - alive - deleted]
        problems += [f"NodeDeleted of {each}, which is alive" for each in deleted & alive]
        verified = {node.node_id for node in live if node.HasField("sha256")} - knew_sha256
        said = {node_id for name, node_id in happened if name == "NodeVerified"}
        problems += [f"no NodeVerified of {each}" for each in verified - said]
        return problems

    async def _live_nodes(self, wire: WireClient) -> AsyncIterator[repository_pb2.Node]:
        for drive in sorted({upload.drive for upload in self.observations.uploads.values()}):
            token = ""
            while True:
                request = repository_pb2.ListNodesRequest(drive=drive, page_token=token)
                page = await wire.repository.ListNodes(request)
                for node in page.nodes:
                    yield node
                token = page.next_page_token
                if not token:
                    break


async def _read_as(
    wire: WireClient, node: repository_pb2.Node, expected: Sequence[Content]
) -> bytes:
    """Read a node, compare it with these chunks in order, and return the SHA-256 of the whole."""
    whole = hashlib.sha256()
    waiting = bytearray()
    number = 0
    reading = wire.repository.ReadNode(repository_pb2.ReadNodeRequest(node_id=node.node_id))
    async for answer in reading:
        whole.update(answer.data)
        waiting += answer.data
        while number < len(expected) and len(waiting) >= expected[number].size:
            size = expected[number].size
            found = hashlib.sha256(bytes(waiting[:size])).digest()
            assert found == expected[number].sha256, (
                f"chunk {number} of node {node.node_id} ({node.path}) is not what was sent"
            )
            del waiting[:size]
            number += 1
    assert (number, len(waiting)) == (len(expected), 0), (
        f"node {node.node_id} ({node.path}) has another size than its chunks"
    )
    return whole.digest()


def _out_of_order(records: Sequence[EventRecord]) -> list[str]:
    """Return events whose sequence does not rise within its upload or node, ignoring repeats."""
    last: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    problems: list[str] = []
    for record in records:
        if record.event_id in seen:
            continue
        seen.add(record.event_id)
        sequence = _message_of(record).header.sequence
        key = (record.topic, record.key)
        if sequence <= last.get(key, 0):
            problems.append(f"out of order: {record.type} of node {record.key}")
        last[key] = sequence
    return problems


def _message_of(record: EventRecord) -> Any:
    """Return the event as its protobuf message."""
    name = record.type.rpartition(".")[2]
    module: Any = uploads_pb2 if record.topic == UPLOADS_TOPIC else nodes_pb2
    return getattr(module, name).FromString(record.payload)
