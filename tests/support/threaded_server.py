"""A gRPC server on its own event loop, with a measurement of the loop's longest step."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class LoopSteps:
    """Processor time of a loop's longest step, which is independent of other load."""

    longest_seconds: float = 0.0
    longest: str = ""

    def reset(self) -> None:
        self.longest_seconds, self.longest = 0.0, ""


_SelectorLoop: Any = asyncio.SelectorEventLoop  # its stubs give callbacks their exact types


class _MeasuringLoop(_SelectorLoop):  # type: ignore[misc]  # a class of type Any, see above
    def __init__(self, steps: LoopSteps) -> None:
        super().__init__()
        self._steps = steps

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(self._measured(callback), *args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon_threadsafe(self._measured(callback), *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, self._measured(callback), *args, context=context)

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        # gRPC's poller wakes the loop by a socket.
        super().add_reader(fd, self._measured(callback), *args)

    def _measured(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        steps = self._steps

        def run(*args: Any) -> None:
            began = time.thread_time()
            try:
                callback(*args)
            finally:
                seconds = time.thread_time() - began
                if seconds > steps.longest_seconds:
                    steps.longest_seconds, steps.longest = seconds, repr(callback)

        return run


@contextmanager
def threaded_server(
    running: Callable[[], AbstractAsyncContextManager[str]],
) -> Iterator[tuple[str, LoopSteps]]:
    """Run a server in a thread; yield its address and the steps of its loop.

    Args:
        running: starts the server and yields its address.
    """
    steps = LoopSteps()
    loop = _MeasuringLoop(steps)
    ready = threading.Event()
    stop = asyncio.Event()
    addresses: list[str] = []

    async def serve() -> None:
        async with running() as address:
            addresses.append(address)
            ready.set()
            await stop.wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        ready.wait()
        yield addresses[0], steps
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
