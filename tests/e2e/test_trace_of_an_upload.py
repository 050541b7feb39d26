"""One upload is one trace: from the application's own span to the thumbnails of its photo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from support.deployments import Embedded, Services, deployment
from support.fleet import running
from support.pictures import quadrants, saved
from support.processes import ServiceProcess
from support.span_collector import SpanCollector, span_collector
from support.traces import (
    CLIENT,
    EXPORT_AT_ONCE,
    ReceivedSpan,
    client_tracing,
    paths,
    received,
    traced_channel,
)
from support.waiting import until
from support.wire import CHANNEL_OPTIONS, WireClient

DRIVE = "wire"
PHOTO = saved(quadrants(), "JPEG", quality=92)
THUMBNAIL = "processor thumbnail"


@dataclass(frozen=True, slots=True)
class Place:
    """An intake, and the names that its services have in traces."""

    intake: str
    intake_name: str
    repository_name: str
    processor_name: str


@asynccontextmanager
async def embedded(folder: Path, tracing: Mapping[str, str]) -> AsyncIterator[Place]:
    with deployment(Embedded.name, folder) as backends, backends.serving(tracing) as server:
        yield Place(server.address, *["sluice"] * 3)


@asynccontextmanager
async def separate(folder: Path, tracing: Mapping[str, str]) -> AsyncIterator[Place]:
    with deployment(Services.name, folder) as backends:
        settings = {
            **backends.settings,
            **tracing,
            "SLUICE_PROCESSOR__GROUP": f"traced-{folder.name}",
        }
        repository = ServiceProcess("sluice_repository", folder, settings)
        intake = ServiceProcess(
            "sluice_intake", folder, {**settings, "SLUICE_REPOSITORY_SERVER": repository.address}
        )
        processor = ServiceProcess("sluice_processor", folder, settings)
        async with running(repository, intake, processor):
            async with grpc.aio.insecure_channel(
                repository.address, options=CHANNEL_OPTIONS
            ) as channel:
                drive = repository_pb2.CreateDriveRequest(name=DRIVE)
                await WireClient(channel).repository.CreateDrive(drive)
            yield Place(intake.address, "sluice-intake", "sluice-repository", "sluice-processor")


@pytest.mark.parametrize("place", [embedded, separate], ids=["embedded", "services"])
async def test_one_trace_leads_from_client_to_thumbnails(
    place: Callable[[Path, Mapping[str, str]], AbstractAsyncContextManager[Place]], tmp_path: Path
) -> None:
    with span_collector() as collector, client_tracing(collector) as provider:
        tracing = {"SLUICE_OTLP_ENDPOINT": collector.endpoint, **EXPORT_AT_ONCE}
        async with place(tmp_path, tracing) as opened:
            await upload_photo(opened.intake, provider)
            await until(lambda: has_thumbnails(collector), 60.0, "the span of the thumbnails")
        # The processes have ended, and their last spans are sent.
    spans = [span for span in received(collector) if span.trace_id == trace_of_client(collector)]
    assert not any(span.is_error for span in spans)
    tree = set(paths(spans))
    root = f"{CLIENT}: upload"
    opening = (root, f"{CLIENT}: InitiateUpload", f"{opened.intake_name}: InitiateUpload")
    node = (*opening, f"{opened.processor_name}: processor node")
    assert {path for path in tree if len(path) == 1} == {(root,)}
    assert tree >= {
        *(
            (root, f"{CLIENT}: {method}", f"{opened.intake_name}: {method}")
            for method in ("InitiateUpload", "UploadStream", "CompleteUpload")
        ),
        (*opening, f"{opened.repository_name}: repository.part"),
        (*opening, f"{opened.repository_name}: repository.completion"),
        node,
        *(
            (*node, f"{opened.processor_name}: {stage}")
            for stage in ("processor read", "processor decode", THUMBNAIL, "processor write")
        ),
    }


async def upload_photo(address: str, provider: TracerProvider) -> None:
    """Upload a photo within a span of the application."""
    tracer = provider.get_tracer("an application")
    async with traced_channel(address, provider) as channel:
        client = WireClient(channel)
        with tracer.start_as_current_span("upload"):
            opened = await client.initiate("a.jpg", drive=DRIVE, content_type="image/jpeg")
            await send_over_stream(client, opened.upload_id)
            await client.complete(opened.upload_id, total_chunks=1)


async def send_over_stream(client: WireClient, upload_id: str) -> None:
    """Send by an iterator: the call of an instrumented channel is not ours to write to."""

    async def requests() -> AsyncIterator[upload_pb2.UploadStreamRequest]:
        header = upload_pb2.ChunkHeader(upload_id=upload_id, size=len(PHOTO), is_last=True)
        yield upload_pb2.UploadStreamRequest(header=header, data=PHOTO)

    answers = [
        answer.WhichOneof("event") async for answer in client.intake.UploadStream(requests())
    ]
    assert "accepted" in answers


def trace_of_client(collector: SpanCollector) -> bytes:
    (root,) = (span for span in received(collector) if is_root_of_client(span))
    return root.trace_id


def is_root_of_client(span: ReceivedSpan) -> bool:
    return span.service == CLIENT and not span.parent_id


def has_thumbnails(collector: SpanCollector) -> bool:
    return any(span.name == THUMBNAIL for span in received(collector))
