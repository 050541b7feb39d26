"""What the commands and queries of jobs and photos work with."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.live_updates import LiveUpdates
from sluice_core.ports.object_listener import ObjectCreated
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.idempotency import RepeatableRequests
from sluice_gateway.jobs.limits import UserLimits
from sluice_gateway.jobs.multiparts import Multiparts
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.ports import Homes, Pressure, Reprocessing
from sluice_gateway.jobs.signing import ObjectUrls
from sluice_gateway.jobs.url_audit import UrlAudit
from sluice_gateway.live.progress import ProgressBatches
from sluice_gateway.metrics import JobMetrics


@dataclass(frozen=True, slots=True)
class PhotoServices:
    """Dependencies of the commands and queries.

    object_created: notifies of an object that `finalize` has found or completed, for stores that
        notify of none themselves; harmless beside those that do.
    reprocessing: None where no processor can be asked.
    """

    catalogue: GatewayCatalogue
    homes: Homes
    urls: ObjectUrls
    multiparts: Multiparts
    object_created: ObjectCreated
    reprocessing: Reprocessing | None
    updates: LiveUpdates
    announcer: Announcer
    progress: ProgressBatches
    limits: UserLimits
    pressure: Pressure
    repeatable: RepeatableRequests
    url_audit: UrlAudit
    metrics: JobMetrics
    options: PhotoOptions
