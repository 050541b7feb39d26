"""Error messages to callers reveal no host, path, bucket, user or vendor's text.

Details for operators are in `log_detail`, which is only logged.
"""

from __future__ import annotations

import ast
import errno
import inspect
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from structlog.testing import capture_logs

import sluice_backends
import sluice_common.rpc
import sluice_core.objects
from sluice_backends.disk import disk_error
from sluice_backends.s3.errors import to_store_error
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import build_server, listen
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core import errors
from sluice_core.addresses import Address
from sluice_core.errors import SluiceError, Unavailable
from sluice_core.objects.parts import bucket_not_found

ADAPTERS = (
    Path(inspect.getfile(sluice_backends)).parent,
    Path(inspect.getfile(sluice_core.objects)).parent,
    Path(inspect.getfile(sluice_common.rpc)).parent,
)
"""The packages between a caller and the infrastructure."""
BACKGROUND = {"kafka", "sqs"}
"""Their errors reach operators only: events and notifications are handled in the background."""

FACTS = {
    # Numbers and words of ours, and names that the caller gave.
    *(
        "MAX_CHUNKS - 1",
        "MAX_GRANTS",
        "MAX_KEY_BYTES",
        "MAX_LIFETIME_SECONDS",
        "MAX_OBJECT_BYTES",
        "MAX_PAGE_SIZE",
        "MAX_PARTS",
        "MAX_TAGS_OF_PHOTO",
    ),
    *("FORMAT_VERSION", "PATH_MARK", "asked", "chunk.number", "expected", "field", "highest"),
    *(
        "if_version",
        "max_block_bytes",
        "max_bytes",
        "max_fields",
        "min_part_bytes",
        "most",
        "name",
        "needed",
    ),
    *("needed_number", "number", "offer.number", "part"),
    *("part.number", "part.size", "received", "row.version", "seconds", "missing_bytes"),
    *(
        "self._max_bytes",
        "self._offer.number",
        "self._offer.size",
        "size",
        "stored",
        "tag.number",
        "total",
    ),
    *("version", "status.value"),
    # The quota that is refused: scope, unit and figures of the caller's own tenant.
    *("_UNITS[kind]", "limit", "requested", "reserved", "scope", "used"),
}
AT_START = {"CATALOGUE_URL_UNSUPPORTED", "LEDGER_FORMAT", "UNKNOWN_EVENT"}
"""No call ends with these: they are for the operator who starts a process."""


def messages() -> Iterator[tuple[str, str, list[str]]]:
    """Find all errors that adapters construct: place, reason, expressions in the message."""
    kinds = {name for name, one in vars(errors).items() if isinstance(one, type)}
    for root in ADAPTERS:
        for file in sorted(root.rglob("*.py")):
            if BACKGROUND & set(file.relative_to(root).parts):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds:
                    reason = ast.unparse(node.args[0]).strip("'") if node.args else ""
                    shown = [
                        ast.unparse(part.value)
                        for argument in node.args[1:]
                        for part in ast.walk(argument)
                        if isinstance(part, ast.FormattedValue)
                    ]
                    yield f"{file.relative_to(root.parent)}:{node.lineno}", reason, shown


def test_messages_of_adapters_show_facts_only() -> None:
    """A new expression in a message is a fact for callers, or it belongs in `log_detail`."""
    found = list(messages())
    assert len(found) > 60
    shown = {
        f"{place} {reason}: {expression}"
        for place, reason, expressions in found
        for expression in expressions
        if reason not in AT_START and expression not in FACTS
    }
    assert shown == set()


@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EIO, errno.ENOENT, errno.ENOSPC, errno.EROFS, 0]
)
def test_an_error_of_the_disk_names_no_path(code: int) -> None:
    error = disk_error(OSError(code, "vendor's words", "/srv/secret/chunks"), "BROKEN", "DENIED")
    assert "/srv" not in error.message
    assert "vendor" not in error.message
    assert "/srv/secret/chunks" in error.log_detail


@pytest.mark.parametrize(
    ("code", "status"),
    [("NoSuchBucket", 404), ("AccessDenied", 403), ("InvalidRequest", 400), ("SlowDown", 503)],
)
def test_an_error_of_the_store_names_no_bucket(code: str, status: int) -> None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    answer = {"Error": {"Code": code, "Message": "s3.internal:8333"}}
    answer["ResponseMetadata"] = {"HTTPStatusCode": status}  # type: ignore[dict-item]
    error = to_store_error(ClientError(answer, "PutObject"), "tenants-prod")
    for secret in ("tenants-prod", code, "s3.internal", str(status)):
        assert secret not in error.message
    assert code in error.log_detail or "tenants-prod" in error.log_detail


async def test_a_catalogue_out_of_reach_names_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    with pytest.raises(SluiceError) as caught:
        async with open_catalogue(f"sqlite:///{folder / 'catalogue.db'}"):
            pass
    assert caught.value.reason == "CATALOGUE_ACCESS_DENIED"
    assert str(folder) not in caught.value.message
    assert str(folder) in caught.value.log_detail


def test_logs_and_operators_get_the_detail() -> None:
    error = bucket_not_found("tenants-prod")
    assert "tenants-prod" in str(error)
    assert "tenants-prod" in error.operator_message


async def _broken(_request: bytes, _context: object) -> bytes:
    raise Unavailable("STORE_UNAVAILABLE", "Try again later.", log_detail="s3.internal:8333")


async def test_the_wire_has_the_request_id_and_no_detail() -> None:
    server = build_server(ServerOptions(), [server_layers(RpcMetrics(), LocalAuthenticator())])
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(_broken)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Broken", handlers),)
    )
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Broken/Call", None, None)(
                b"", metadata=(("x-request-id", "r-17"),)
            )
    await server.stop(None)
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    assert b"s3.internal" not in status.SerializeToString()
    assert "s3.internal" not in (caught.value.details() or "")
    info = error_details_pb2.RequestInfo()
    assert [one for one in status.details if one.Unpack(info)]
    assert info.request_id == "r-17"
    (line,) = logs
    assert (line["event"], line["reason"]) == ("rpc.failed", "STORE_UNAVAILABLE")
    assert line["detail"] == "s3.internal:8333"
