"""The parent's side of one decoder child."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from sluice_core.concurrency.allowance import extend
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_processor.images.children import protocol
from sluice_processor.images.model import ImageOptions, ImageRefused, ProcessedImage, RefusalReason

_MODULE: Final = "sluice_processor.images.children.main"
_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # every further arena reserves 64 MiB of address space
}
"""The child's whole environment: it needs no settings of the service and must see no secret."""
_OUT_OF_TIME: Final = frozenset({signal.SIGXCPU, signal.SIGPROF, signal.SIGALRM})
_PROGRESS_SECONDS: Final = 0.5
"""Interval at which the processor time of a child is sampled."""
_LAST_WORDS_BYTES: Final = 2048
_DYING_SECONDS: Final = 2.0
"""Time between EOF on the socket and the exit of the process; core dumps are disabled."""


class ChildNotStarted(Exception):
    """A decoder child cannot be started on this machine."""


class DecoderChild:
    """One child process; handles one request at a time."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: socket.socket,
        options: ImageOptions,
    ) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)  # the pid may be reused once it is reaped
        self._channel = channel
        self._options = options
        self.request_count = 0
        """Pictures handed to this child so far."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs; false at once when it dies, before the event loop notices."""
        if self._process.returncode is not None:
            return False
        try:
            self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # EOF, or bytes without a request

    @classmethod
    async def start(cls, options: ImageOptions) -> Self:
        """Start a child and wait until it is confined and ready.

        The child is started with `exec`, not forked: gRPC and others run threads here.

        Raise `ChildNotStarted`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        words = os.memfd_create("decoder-errors")
        try:
            with theirs:
                ours.setblocking(False)
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-m",
                    _MODULE,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    protocol.encode_options(options),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=words,
                    pass_fds=[theirs.fileno()],
                    env=_ENVIRONMENT,
                )
            try:
                child = cls(process, ours, options)
            except ProcessLookupError:
                raise ChildNotStarted("A decoder child exited immediately at its start.") from None
            try:
                await child._wait_until_ready(words)
            except BaseException:
                await child.stop()
                raise
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(words)
        return child

    async def ask(self, fd: int, sizes: Sequence[int]) -> ProcessedImage:
        """Have the child decode the picture behind `fd` and make thumbnails.

        The limit is the child's processor time; the wall clock only ends a child that hangs. The
        caller's `Allowance` is not spent while the child makes progress, so that a busy machine
        does not fail a good picture.

        Raise `ImageRefused`. After TIMEOUT, CRASHED or a cancellation the child is unusable:
        `stop` it.
        """
        self.request_count += 1
        try:
            header, body = await self._exchange_in_time(fd, sizes)
            return protocol.decode_answer(header, body, sizes)
        except TimeoutError:
            raise ImageRefused(
                RefusalReason.TIMEOUT,
                f"The decoder did not finish within {self._options.wall_seconds:g} s.",
            ) from None
        except (EOFError, OSError):
            raise await self._died() from None
        except protocol.InvalidAnswer:
            raise ImageRefused(
                RefusalReason.CRASHED, "The decoder sent an invalid answer."
            ) from None

    def kill(self) -> None:
        """Send SIGKILL; a pending `ask` raises `ImageRefused` CRASHED."""
        if self._pidfd >= 0:
            # Not `Process.kill`: it may reap the exit code before the event loop does.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def stop(self) -> None:
        """Kill the child and reap it, despite cancellation. Not while `ask` is pending."""
        self._channel.close()
        self.kill()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        await finish_despite_cancel(self._process.wait())

    async def _exchange_in_time(self, fd: int, sizes: Sequence[int]) -> tuple[bytes, bytes]:
        """Exchange within the wall time; raise `TimeoutError` and what `_exchange` raises."""
        clock = asyncio.get_running_loop().time
        ends = clock() + self._options.wall_seconds
        used = self._cpu_ticks()
        exchange = asyncio.ensure_future(self._exchange(fd, sizes))
        try:
            while not exchange.done():
                began = clock()
                if began >= ends:
                    raise TimeoutError
                await asyncio.wait([exchange], timeout=min(_PROGRESS_SECONDS, ends - began))
                before, used = used, self._cpu_ticks()
                if used > before:
                    extend(clock() - began)
            return exchange.result()
        finally:
            exchange.cancel()
            await asyncio.gather(exchange, return_exceptions=True)

    def _cpu_ticks(self) -> int:
        """Return the child's processor time in clock ticks (proc(5), `stat`); 0 if it has ended."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return 0
        user, system = stat.rpartition(b")")[2].split()[11:13]
        return int(user) + int(system)

    async def _exchange(self, fd: int, sizes: Sequence[int]) -> tuple[bytes, bytes]:
        socket.send_fds(self._channel, [protocol.encode_request(sizes)], [fd])
        header_bytes, body_bytes = protocol.PREFIX.unpack(await self._receive(protocol.PREFIX.size))
        if header_bytes + body_bytes > self._options.max_answer_bytes:
            raise protocol.InvalidAnswer
        return await self._receive(header_bytes), await self._receive(body_bytes)

    async def _receive(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray(count)
        rest = memoryview(data)
        while rest:
            received = await loop.sock_recv_into(self._channel, rest)
            if received == 0:
                raise EOFError
            rest = rest[received:]
        return bytes(data)

    async def _wait_until_ready(self, words: int) -> None:
        try:
            async with asyncio.timeout(self._options.start_seconds):
                ready = await self._receive(len(protocol.READY))
        except TimeoutError:
            raise ChildNotStarted(
                f"A decoder child was not ready within {self._options.start_seconds:g} s."
            ) from None
        except (EOFError, OSError):
            output = os.pread(words, 1 << 20, 0)[-_LAST_WORDS_BYTES:].decode("utf-8", "replace")
            lines = output.strip().splitlines() or ["no error output"]
            raise ChildNotStarted(f"A decoder child exited at its start: {lines[-1]}") from None
        if ready != protocol.READY:
            raise ChildNotStarted("A decoder child sent something else than its ready message.")

    async def _died(self) -> ImageRefused:
        try:
            async with asyncio.timeout(_DYING_SECONDS):
                code = await self._process.wait()
        except TimeoutError:  # it has only closed its socket
            self.kill()
            code = await self._process.wait()
        if -code in _OUT_OF_TIME:
            return ImageRefused(
                RefusalReason.TIMEOUT,
                f"Decoding takes more than {self._options.cpu_seconds:g} s of processor time.",
            )
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return ImageRefused(RefusalReason.CRASHED, f"The decoder died {how}.")
