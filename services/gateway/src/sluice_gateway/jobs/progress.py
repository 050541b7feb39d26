"""Command: report progress. Best effort: it never fails an upload."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sluice_core.errors import InvalidArgument, NotFound, SluiceError
from sluice_core.live.updates import ProgressTick
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.ids import check_photo_id
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.progress import Progress, accept_tick
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.json_bodies import read_json
from sluice_gateway.http.plain_routes import DocumentedRoute
from sluice_gateway.http.refusals import FieldProblem, InvalidRequest
from sluice_gateway.http.routes import NEEDS_TOKEN, PROBLEMS
from sluice_gateway.jobs.callers import Caller, Callers
from sluice_gateway.jobs.services import PhotoServices

PATH: Final = "/commands/upload/progress"
MAX_TICKS: Final = 1000
"""In one post: those of a whole job."""
_MAX_LOOKUPS: Final = 10
"""Jobs and unknown photos that one post reads from the catalogue."""
_MEMBERS: Final = frozenset({"photoId", "bytesSent", "bytesTotal"})

KNOWN_SECONDS: Final = 2.0
"""How old the known state of a photo may be. A tick for a photo that has ended since then is
refused by the log of its user, which the end has reached."""
_MAX_KNOWN: Final = 50_000

_Key = tuple[Owner, str]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Tick:
    photo_id: str
    bytes_sent: int
    bytes_total: int


class KnownPhotos:
    """Photos of reports, read from the catalogue a job at a time and kept for a moment.

    Progress comes twenty times a second from each user; without this each report would be a query.
    """

    def __init__(
        self, catalogue: GatewayCatalogue, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._known: OrderedDict[_Key, tuple[float, Photo | None]] = OrderedDict()

    def find(self, owner: Owner, photo_id: str) -> tuple[bool, Photo | None]:
        """Return whether it is known whether there is this photo, and the photo."""
        read_at, photo = self._known.get((owner, photo_id), (None, None))
        if read_at is None or self._clock() - read_at > KNOWN_SECONDS:
            return False, None
        return True, photo

    async def read(self, owner: Owner, photo_id: str) -> None:
        """Read the photo, and all others of its job."""
        read_at = self._clock()
        try:
            photo = await self._catalogue.get_photo(owner, photo_id)
            found = await self._catalogue.job_with_photos(owner, photo.job_id)
        except NotFound:
            self._keep(owner, photo_id, None, read_at)
            return
        for each in found.photos:
            self._keep(owner, each.photo_id, None if each.deleted_at else each, read_at)

    def replace(self, owner: Owner, photos: Iterable[Photo]) -> None:
        """Keep photos as a change has just left them."""
        now = self._clock()
        for photo in photos:
            self._keep(owner, photo.photo_id, None if photo.deleted_at else photo, now)

    def _keep(self, owner: Owner, photo_id: str, photo: Photo | None, read_at: float) -> None:
        key = (owner, photo_id)
        self._known.pop(key, None)
        self._known[key] = (read_at, photo)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)


async def report_progress(
    services: PhotoServices, known: KnownPhotos, caller: Caller, document: object
) -> dict[str, Any]:
    """Take reports; return how many were accepted, and those that were ignored, each with a reason.

    Raise `RateLimited`; `InvalidArgument` INVALID_REQUEST for a document of another shape.
    """
    await services.limits.admit_progress(caller.principal)
    reported = _parse(document)
    accepted: list[ProgressTick] = []
    queued: dict[str, Photo] = {}
    ignored: list[dict[str, str]] = []
    lookups = 0
    for tick in reported:
        is_known, photo = known.find(caller.owner, tick.photo_id)
        if not is_known and lookups < _MAX_LOOKUPS:
            lookups += 1
            await known.read(caller.owner, tick.photo_id)
            _, photo = known.find(caller.owner, tick.photo_id)
        reason = _reason_to_ignore(tick, photo)
        if reason or photo is None:
            ignored.append({"photoId": tick.photo_id, "reason": reason or "PHOTO_NOT_FOUND"})
        else:
            accepted.append(
                ProgressTick(photo.job_id, photo.photo_id, tick.bytes_sent, tick.bytes_total)
            )
            if photo.status is PhotoStatus.QUEUED:
                queued[photo.photo_id] = photo
    if queued:
        await _record_start(services, known, caller.owner, queued.values())
    services.progress.post(caller.audience, accepted)
    return {"accepted": len(accepted), "ignored": ignored}


async def _record_start(
    services: PhotoServices, known: KnownPhotos, owner: Owner, photos: Iterable[Photo]
) -> None:
    """Record that uploads have begun: once for each, so that lists of jobs say so too.

    Best effort: the next report makes up for a failure.
    """
    changes = [PhotoChange(each.photo_id, PhotoStatus.UPLOADING, each.attempt) for each in photos]
    try:
        changed = await services.catalogue.change_photos(changes)
    except SluiceError as error:
        _log.warning("progress.start_failed", reason=error.reason, detail=error.log_detail)
        return
    now = [each.photo for each in changed if each.photo is not None]
    known.replace(owner, now)
    await services.announcer.announce(now, [each.job for each in changed if each.job is not None])


def _reason_to_ignore(tick: _Tick, photo: Photo | None) -> str:
    if photo is None:
        return "PHOTO_NOT_FOUND"
    if photo.status not in TAKES_PARTS:
        return "PHOTO_ENDED"
    try:
        accept_tick(Progress(0, photo.size), tick.bytes_sent, tick.bytes_total)
    except InvalidArgument as error:
        return error.reason
    return ""


def _parse(document: object) -> list[_Tick]:
    reports = document if isinstance(document, list) else [document]
    if not 1 <= len(reports) <= MAX_TICKS:
        raise _invalid("body", f"has 1 to {MAX_TICKS} reports")
    prefix = "{}." if isinstance(document, list) else ""
    return [_tick(report, prefix.format(index)) for index, report in enumerate(reports)]


def _tick(report: object, prefix: str) -> _Tick:
    if not isinstance(report, Mapping):
        raise _invalid(prefix.rstrip(".") or "body", "is an object")
    if report.keys() != _MEMBERS:
        raise _invalid(
            prefix.rstrip(".") or "body", f"has the members {', '.join(sorted(_MEMBERS))}"
        )
    photo_id, sent, total = (report[name] for name in ("photoId", "bytesSent", "bytesTotal"))
    if not isinstance(photo_id, str):
        raise _invalid(f"{prefix}photoId", "is a string")
    check_photo_id(photo_id, f"{prefix}photoId")
    for name, value in (("bytesSent", sent), ("bytesTotal", total)):
        if type(value) is not int:  # bool is an int too
            raise _invalid(prefix + name, "is a whole number")
    return _Tick(photo_id, sent, total)


def _invalid(field: str, detail: str) -> InvalidRequest:
    return InvalidRequest([FieldProblem(field, detail)])


def progress_route(services: PhotoServices, authentication: Authentication) -> DocumentedRoute:
    """Return the route. It is plain: it is called a hundred times as often as any other."""
    callers = Callers(authentication)
    known = KnownPhotos(services.catalogue)

    async def progress(request: Request) -> Response:
        caller = await callers.writer(request)
        document = await read_json(request)
        answer = await report_progress(services, known, caller, document)
        headers = {"ratelimit-policy": services.limits.progress.header}
        return JSONResponse(answer, 202, headers)

    return DocumentedRoute(PATH, progress, {"post": _OPERATION})


_REPORT: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["photoId", "bytesSent", "bytesTotal"],
    "properties": {
        "photoId": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "bytesSent": {"type": "integer"},
        "bytesTotal": {"type": "integer"},
    },
}
_OPERATION: Final = {
    "tags": ["jobs"],
    "summary": "Report Progress",
    "description": "Report bytes sent, of one photo or of several. Best effort: reports that are"
    " late, wrong or of ended photos are ignored.",
    "operationId": "report_progress",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _REPORT,
                        {"type": "array", "items": _REPORT, "minItems": 1, "maxItems": MAX_TICKS},
                    ]
                }
            }
        },
    },
    "responses": {
        "202": {
            "description": "Taken",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["accepted", "ignored"],
                        "properties": {
                            "accepted": {"type": "integer"},
                            "ignored": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["photoId", "reason"],
                                    "properties": {
                                        "photoId": {"type": "string"},
                                        "reason": {"type": "string"},
                                    },
                                },
                            },
                        },
                    }
                }
            },
        },
        **PROBLEMS,
    },
    **NEEDS_TOKEN,
}
