"""A photo through a deployment in which every connection is TLS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from support import mysql_server, s3_server, services
from support.certificates import Authority, write_tls
from support.deployments import Services
from support.kafka_tls import PASSWORD, USER, TlsKafkaBroker
from support.pictures import exif, quadrants, saved
from support.processes import ServiceProcess
from support.redis_server import RedisServer
from support.redis_tls import tls_redis
from support.shared_services import shared_services
from support.tls_terminator import terminating_tls
from support.waiting import until
from support.wire import CHANNEL_OPTIONS, WireClient, cut

CHUNK = 64 * 1024
SECONDS = 60.0
AUTHORITY = Authority()
PHOTO = saved(quadrants(), "JPEG", quality=92, exif=exif())

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Yield the settings of backends that verified TLS alone reaches."""
    if services.use_tls():
        with shared_services(tmp_path) as shared:
            yield shared.settings
        return
    paths = write_tls(tmp_path / "server", AUTHORITY, AUTHORITY.issue())
    account = s3_server.s3_account()
    s3_port = urlsplit(account.endpoint_url).port
    assert s3_port is not None
    (tmp_path / "redis").mkdir()
    (tmp_path / "kafka").mkdir()
    with ExitStack() as stack:
        plain = Services(tmp_path, stack.enter_context(RedisServer()))
        redis = stack.enter_context(tls_redis(tmp_path / "redis", AUTHORITY))
        https_port = stack.enter_context(terminating_tls(paths, s3_port))
        broker = TlsKafkaBroker(tmp_path / "kafka", AUTHORITY, {"tls": AUTHORITY.issue()})
        stack.callback(broker.kill)
        asyncio.run(broker.start())
        mysql_ca = mysql_server.shared_server().ca_file
        yield {
            **plain.settings,
            "SLUICE_REDIS__URL": f"{redis}/0?ssl_ca_certs={paths.ca}",
            "SLUICE_S3__ENDPOINT_URL": f"https://127.0.0.1:{https_port}",
            "SLUICE_S3__CA_BUNDLE": str(paths.ca),
            "SLUICE_MYSQL__URL": f"{plain.mysql_url}?ssl_ca={mysql_ca}",
            "SLUICE_KAFKA__BOOTSTRAP_SERVERS": broker.tls_options("tls").bootstrap_servers,
            "SLUICE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "SLUICE_KAFKA__SASL_MECHANISM": "PLAIN",
            "SLUICE_KAFKA__USERNAME": USER,
            "SLUICE_KAFKA__PASSWORD": PASSWORD,
            "SLUICE_KAFKA__CA_FILE": str(paths.ca),
        }


@pytest.fixture
def deployment(backends: Mapping[str, str], tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Run the three services with mTLS; yield the addresses of intake and repository."""

    def service(module: str, **settings: str) -> ServiceProcess:
        issued = AUTHORITY.issue(uris=[f"spiffe://cluster/{module}"])
        paths = write_tls(tmp_path / module, AUTHORITY, issued)
        every = {**backends, **paths.environment(), **settings}
        return stack.enter_context(ServiceProcess(module, tmp_path, every))

    with ExitStack() as stack:
        repository = service("sluice_repository")
        intake = service("sluice_intake", SLUICE_REPOSITORY_SERVER=repository.address)
        service("sluice_processor")
        yield intake.address, repository.address


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[WireClient]:
    user = AUTHORITY.issue(uris=["spiffe://cluster/user"])
    credentials = grpc.ssl_channel_credentials(AUTHORITY.pem, user.key, user.cert)
    async with grpc.aio.secure_channel(address, credentials, CHANNEL_OPTIONS) as channel:
        yield WireClient(channel)


@pytest.mark.timeout(600)
async def test_photo_is_processed_with_tls_everywhere(deployment: tuple[str, str]) -> None:
    """Drive lookup, chunks, parts, commit, event, thumbnail and read-back all succeed."""
    intake, repository = deployment
    async with calling(intake) as sending, calling(repository) as reading:
        await reading.repository.CreateDrive(repository_pb2.CreateDriveRequest(name="wire"))
        opened = await sending.initiate("photo.jpg", chunk_size=CHUNK)
        chunks = cut(PHOTO, itertools.repeat(CHUNK))
        await sending.send_streams(opened.upload_id, chunks, 2)
        status = await sending.complete(opened.upload_id, len(chunks))
        assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status

        async def processing() -> repository_pb2.Processing | None:
            request = repository_pb2.GetNodeRequest(node_id=opened.node_id)
            answer = await reading.repository.GetNode(request)
            return answer.processing if answer.HasField("processing") else None

        await until(processing, SECONDS, "the photo is processed")
        found = await processing()
        assert found is not None
        assert found.state == repository_pb2.PROCESSING_STATE_PROCESSED, found
        _, size = await reading.read_sha256(opened.node_id)
    assert size == len(PHOTO)
