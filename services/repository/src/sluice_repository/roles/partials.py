"""Removal of abandoned partial uploads: nodes that were to be put together, and never were."""

from __future__ import annotations

from typing import Final

import structlog

from sluice_core.errors import SluiceError
from sluice_core.ports.catalogue import Node
from sluice_core.uploads.partial import PARTIAL_FOLDER, is_partial
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.due_items import PAGE

DRIVES: Final = 200
"""Drives of one query."""
QUERIES: Final = 5
"""Of one pass, so that the cost of a pass does not grow with the drives."""

_log = structlog.get_logger(__name__)


class AbandonedPartials:
    """Deletes them, some drives in each pass and all drives in turns."""

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._last_drive = 0

    async def delete(self) -> int:
        """Search the next drives; return how many nodes were deleted.

        A node that cannot be deleted stays for the next turn of its drive, and keeps no other
        waiting.
        """
        catalogue = self._deps.catalogue
        assert catalogue is not None
        # The database's clock, which dates the nodes.
        before = await catalogue.now() - self._deps.options.partial_age_seconds
        done = 0
        for _ in range(QUERIES):
            page = await catalogue.nodes_in_folder(
                f"{PARTIAL_FOLDER}/", before, self._last_drive, DRIVES, PAGE
            )
            self._last_drive = page.last_drive
            for node in page.nodes:
                # Nobody else's: a client may have a folder of this name.
                if is_partial(node.metadata):
                    done += await self._delete(node)
            if page.last_drive == 0:
                break
        return done

    async def _delete(self, node: Node) -> bool:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        try:
            await catalogue.delete_node(node.tenant, node.node_id)
        except SluiceError as error:
            _log.warning("sweep.item_failed", kind="partials", item=node.node_id, error=str(error))
            return False
        self._deps.relay_wakeup.set()
        _log.info("partial.deleted", tenant=node.tenant, drive=node.drive, node_id=node.node_id)
        return True
