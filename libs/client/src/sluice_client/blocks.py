"""Pool of reusable block buffers: faulting in fresh pages costs more than the copy into them."""

from __future__ import annotations

from sluice_client.model import BLOCK_BYTES


class BlockPool:
    """Pool of buffers of one block each.

    Keep at most `keep` free ones. Use it from one event loop.
    """

    def __init__(self, keep: int = 64) -> None:
        self._keep = keep
        self._free: list[bytearray] = []

    def take(self, size: int) -> list[memoryview]:
        """Return buffers of `size` bytes together; their content is undefined."""
        blocks = []
        left = size
        while left > 0:
            buffer = self._free.pop() if self._free else bytearray(BLOCK_BYTES)
            blocks.append(memoryview(buffer)[: min(left, BLOCK_BYTES)])
            left -= BLOCK_BYTES
        return blocks

    def give_back(self, blocks: list[memoryview]) -> None:
        """Put buffers back into the pool. The caller must not read or write them afterwards."""
        for block in blocks:
            buffer = block.obj
            block.release()
            if len(self._free) < self._keep and isinstance(buffer, bytearray):
                self._free.append(buffer)
        blocks.clear()
