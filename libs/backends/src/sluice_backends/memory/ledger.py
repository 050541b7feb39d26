"""In-memory ledger of one process, for phases 1 and 2 and for tests."""

from __future__ import annotations

import time
from typing import ParamSpec, TypeVar

from sluice_backends.memory.store import MemoryStore
from sluice_core.ledger.budget import Budget
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ledger.store import Session
from sluice_core.ledger.transactional import Rule, TransactionalLedger
from sluice_core.uploads.ids import new_nonce

P = ParamSpec("P")
T = TypeVar("T")


class MemoryLedger(TransactionalLedger):
    """`UploadLedger` in dictionaries. Belongs to one event loop.

    Rules run directly on the event loop and never await, so each call is one atomic step.
    """

    def __init__(self, options: LedgerOptions, clock: Clock = time.time) -> None:
        super().__init__(Session(MemoryStore(), Budget(options), options, new_nonce(), clock))

    async def _run(self, rule: Rule[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        session = self._session
        result = rule(session, *args, **kwargs)
        if session.touched or self._generation != session.budget.generation:
            touched, session.touched = session.touched, []
            self._announce(touched)
        return result
