"""Requests of the tus protocol, one method for each of HTTP's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal
from sluice_core.errors import SluiceError
from sluice_core.uploads.chunk_checks import is_name
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.refusals import method_not_allowed
from sluice_gateway.http.request_context import answer_of, error_of
from sluice_gateway.tus import headers as tus_headers
from sluice_gateway.tus import refusals
from sluice_gateway.tus.creation import Creation
from sluice_gateway.tus.headers import PREFIX
from sluice_gateway.tus.intake import IntakeUploads, Upload
from sluice_gateway.tus.nodes import RepositoryNodes
from sluice_gateway.tus.options import TusOptions
from sluice_gateway.tus.reception import Reception

_log = structlog.get_logger(__name__)

_RESUMABLE: Final = {"tus-resumable": tus_headers.VERSION}
_OF_COLLECTION: Final = ("OPTIONS", "POST")
_OF_UPLOAD: Final = ("DELETE", "HEAD", "OPTIONS", "PATCH")


@dataclass(frozen=True, slots=True)
class TusServer:
    """Stateless: the ledger of the intake is all that replicas share."""

    authentication: Authentication
    uploads: IntakeUploads
    nodes: RepositoryNodes
    creation: Creation
    reception: Reception
    options: TusOptions

    def describe(self) -> Response:
        """Answer OPTIONS: what this server can do."""
        described = {
            "tus-version": tus_headers.VERSION,
            "tus-extension": tus_headers.EXTENSIONS,
            "tus-max-size": str(self.options.max_size),
            "tus-checksum-algorithm": tus_headers.ALGORITHMS,
        }
        return Response(status_code=204, headers=described)

    async def create(self, principal: Principal, request: Request) -> Response:
        """Answer POST with the URL of the new upload."""
        upload = await self.creation.create(principal, request.headers, request.receive)
        answered = {"location": f"{PREFIX}/{upload.upload_id}", **_expiry(upload)}
        if not upload.is_final:
            answered["upload-offset"] = str(upload.offset)
        return Response(status_code=201, headers=answered)

    async def head(self, principal: Principal, request: Request) -> Response:
        """Answer HEAD with the offset at which to continue."""
        upload = await self._existing(request)
        # The request with the last byte may have ended before it could complete the upload.
        upload = await self.reception.complete(upload, 0)
        answered = {"upload-length": str(upload.length), **_expiry(upload)}
        if not upload.is_final or upload.has_all_bytes:
            answered["upload-offset"] = str(upload.offset)
        if upload.metadata:
            answered["upload-metadata"] = tus_headers.encode_metadata(upload.metadata)
        if upload.concat:
            answered["upload-concat"] = upload.concat
        return Response(headers=answered)

    async def patch(self, principal: Principal, request: Request) -> Response:
        """Append a body to an upload."""
        headers = request.headers
        tus_headers.check_body_type(headers)
        offset = tus_headers.upload_offset(headers)
        upload = await self._existing(request)
        if upload.is_final:
            raise refusals.final_takes_no_bytes()
        if offset != upload.offset:
            raise refusals.offset_mismatch(upload.offset)
        if upload.is_open and not upload.has_all_bytes:
            upload = await self.reception.receive(principal, upload, headers, request.receive)
        else:
            if tus_headers.content_length(headers) != 0:
                raise refusals.beyond_length(upload.length)
            upload = await self.reception.complete(upload, self.options.complete_seconds)
        answered = {"upload-offset": str(upload.offset), **_expiry(upload)}
        return Response(status_code=204, headers=answered)

    async def terminate(self, principal: Principal, request: Request) -> Response:
        """Answer DELETE: end the upload, or delete the file that it has become."""
        upload = await self._existing(request)
        if upload.is_stored:
            await self.nodes.delete(upload.node_id)
        else:
            await self.uploads.abort(upload.upload_id)
        return Response(status_code=204)

    async def _existing(self, request: Request) -> Upload:
        """Return the upload of a request.

        Raise what `IntakeUploads.get` raises; UPLOAD_GONE too for one whose file was deleted. The
        ledger knows it as completed, although a client could only start to upload it again.
        """
        upload = await self.uploads.get(_upload_id(request))
        if upload.is_stored and await self.nodes.is_deleted(upload.node_id):
            raise refusals.upload_gone("DELETED", "")
        return upload


_Handler = Callable[[Principal, Request], Awaitable[Response]]


class TusEndpoint:
    """ASGI endpoint of one of the two paths: uploads, and an upload.

    Every answer carries `Tus-Resumable`, errors too, which are problem details like all others.
    """

    def __init__(self, server: TusServer, handlers: Mapping[str, _Handler], allow: str) -> None:
        self._server = server
        self._handlers = handlers
        self._allow = allow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._handle(request)
        except ClientDisconnect:
            # Usual here: a body broke off. Nobody reads an answer, and it is no defect.
            _log.debug("request.disconnected")
            return
        except SluiceError as error:
            response = _refused(scope, error)
        except TimeoutError as error:
            response = _refused(scope, error_of(error))
        response.headers.update(_RESUMABLE)
        await response(scope, receive, send)

    async def _handle(self, request: Request) -> Response:
        method = _method(request.scope["method"], request.headers)
        if method == "OPTIONS":
            return self._server.describe()
        if method not in self._handlers:
            raise method_not_allowed(self._allow)
        tus_headers.check_version(request.headers)
        principal = await self._server.authentication(request)
        if self._server.options.local_only and principal != LOCAL_PRINCIPAL:
            raise refusals.other_services_have_no_keys()
        return await self._handlers[method](principal, request)


def uploads_endpoint(server: TusServer) -> TusEndpoint:
    """Return the endpoint that creates uploads."""
    return TusEndpoint(server, {"POST": server.create}, ", ".join(_OF_COLLECTION))


def upload_endpoint(server: TusServer) -> TusEndpoint:
    """Return the endpoint of one upload."""
    handlers = {"HEAD": server.head, "PATCH": server.patch, "DELETE": server.terminate}
    return TusEndpoint(server, handlers, ", ".join(_OF_UPLOAD))


def _method(method: str, headers: Headers) -> str:
    """Return the method, as clients state it whose environment has none but GET and POST."""
    overrides = headers.getlist("x-http-method-override")
    return overrides[0].upper() if method == "POST" and len(overrides) == 1 else method


def _refused(scope: Scope, error: SluiceError) -> Response:
    response = answer_of(scope, error)
    if error.reason == "TUS_VERSION_UNSUPPORTED":
        response.headers["tus-version"] = tus_headers.VERSION
    return response


def _upload_id(request: Request) -> str:
    """Return the id in the path. Raise `NotFound` UPLOAD_NOT_FOUND for what cannot be one."""
    upload_id = str(request.path_params["upload_id"])
    if not is_name(upload_id):
        raise refusals.upload_not_found()
    structlog.contextvars.bind_contextvars(uploadId=upload_id)
    return upload_id


def _expiry(upload: Upload) -> dict[str, str]:
    if upload.expires_at is None:
        return {}
    return {"upload-expires": formatdate(upload.expires_at, usegmt=True)}
