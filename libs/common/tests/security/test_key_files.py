"""Keys in a file that does not answer."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from sluice_common.security.keys.files import FileKeys
from sluice_common.security.keys.key_ring import key_set


async def test_late_error_of_an_abandoned_read_is_not_lost(tmp_path: Path) -> None:
    """Nobody waits for it any more; asyncio would log it with a traceback."""
    pipe, reported = tmp_path / "keys.json", []
    os.mkfifo(pipe)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))
    loader = FileKeys(pipe, key_set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await loader.load()
    reading = loader._reading
    assert reading is not None
    await asyncio.to_thread(pipe.write_bytes, b"nonsense")
    await asyncio.wait([reading])
    await asyncio.sleep(0)
    del loader, reading
    gc.collect()
    assert reported == []
