"""What a service process decides before grpc is first imported: its allocator and its listener.

Imports nothing but the standard library.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

from sluice_common.malloc import tune_malloc

EXPERIMENTS_VARIABLE: Final = "GRPC_EXPERIMENTS"
_EXPERIMENTS: Final = "-event_engine_listener"
"""Connections are read by the thread that also waits for messages, and not handed from a poller
to a pool of threads and from there to that thread. docs/adr/0012 has what that saves."""


def tune_process(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tune malloc, and choose the listener unless the operator has.

    GRPC_EXPERIMENTS as the operator set it, empty too, is left alone. A gRPC that does not know
    the name any more says so on standard error and goes on.
    """
    tune_malloc(environment)
    environment.setdefault(EXPERIMENTS_VARIABLE, _EXPERIMENTS)
