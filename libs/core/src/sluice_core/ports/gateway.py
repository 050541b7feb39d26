"""Catalogue port of the gateway: nodes and drives, and what photos need beside them."""

from __future__ import annotations

from typing import Protocol

from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.catalogue_load import CatalogueLoad
from sluice_core.ports.idempotency import IdempotencyCatalogue
from sluice_core.ports.photos import PhotoCatalogue
from sluice_core.ports.refresh_tokens import RefreshTokenCatalogue
from sluice_core.ports.tags import TagCatalogue
from sluice_core.ports.upload_jobs import JobCatalogue
from sluice_core.ports.users import UserCatalogue


class GatewayCatalogue(
    Catalogue,
    UserCatalogue,
    RefreshTokenCatalogue,
    JobCatalogue,
    PhotoCatalogue,
    TagCatalogue,
    IdempotencyCatalogue,
    CatalogueLoad,
    Protocol,
):
    """Everything that the gateway keeps. The guarantees of `Catalogue` hold for every method."""
