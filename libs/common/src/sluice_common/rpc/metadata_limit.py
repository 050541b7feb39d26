"""The layer that bounds the metadata of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sluice_core.errors import ResourceExhausted

if TYPE_CHECKING:  # the interceptors import this module
    from sluice_common.rpc.interceptors import Call, Proceed

_FIELD_BYTES: Final = 32
"""What HTTP/2 adds for each field (RFC 9113, 6.5.2)."""


class MetadataLimit:
    """Refuses calls with more metadata than the server allows.

    gRPC applies its limit only once the client has acknowledged the server's settings. Until then,
    which is as long as the client likes, it accepts 16 MiB, and a field that is repeated by its
    index takes one byte of them on the wire.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        size = sum(len(name) + len(value) + _FIELD_BYTES for name, value in call.metadata)
        if size > self._max_bytes:
            raise ResourceExhausted(
                "METADATA_TOO_LARGE",
                f"The metadata has {size:,} bytes; the maximum is {self._max_bytes:,}."
                " Send less of it.",
                metadata={"max_bytes": str(self._max_bytes)},
            )
        return await proceed(requests, context)
