"""Memory for blocks that is used again: fresh pages cost more than the copy into them."""

from __future__ import annotations

from sluice_client.model import BLOCK_BYTES


class BlockPool:
    """Buffers of one block each. Keeps at most `keep` free ones; used from one event loop."""

    def __init__(self, keep: int = 64) -> None:
        self._keep = keep
        self._free: list[bytearray] = []

    def take(self, size: int) -> list[memoryview]:
        """Buffers that together have `size` bytes, whatever they held before."""
        blocks = []
        left = size
        while left > 0:
            buffer = self._free.pop() if self._free else bytearray(BLOCK_BYTES)
            blocks.append(memoryview(buffer)[: min(left, BLOCK_BYTES)])
            left -= BLOCK_BYTES
        return blocks

    def give_back(self, blocks: list[memoryview]) -> None:
        """The buffers may be written again; nobody may look at them any more."""
        for block in blocks:
            buffer = block.obj
            block.release()
            if len(self._free) < self._keep and isinstance(buffer, bytearray):
                self._free.append(buffer)
        blocks.clear()
