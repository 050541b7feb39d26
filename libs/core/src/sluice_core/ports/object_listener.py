"""Ports of the embedded object listener, which serves presigned URLs of a store in files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sluice_core.ports.object_store import Body, ObjectAttributes, ObjectInfo, PartTag
from sluice_core.uploads.model import ObjectRef


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object as it was when it was opened. Its bytes stay while it is open.

    `read(offset, length)` yields up to `length` bytes in blocks of at most 1 MiB.
    """

    info: ObjectInfo
    read: Callable[[int, int], AsyncGenerator[bytes, None]]


class ListenerStore(Protocol):
    """Store that takes the bodies of clients itself. Errors are those of `ObjectStore`.

    A body is read once and written as it arrives, in constant memory. Its CRC32C need only be
    known when it has been read (`ArrivingBody`).
    """

    async def receive(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        """Store a new object. It appears when all of its bytes have arrived, or not at all.

        A repeat with equal bytes changes nothing and returns the stored object, so that a client
        may send it again when it missed the response. Raise `AlreadyExists` OBJECT_EXISTS for
        other bytes: a URL that leaks after its use cannot change the object.
        """
        ...

    async def receive_part(
        self, ref: ObjectRef, multipart_id: str, number: int, body: Body
    ) -> PartTag:
        """Store or replace a part."""
        ...

    def open_object(self, ref: ObjectRef) -> AbstractAsyncContextManager[OpenObject]:
        """Open an object for reading. Raise `NotFound` OBJECT_NOT_FOUND."""
        ...


class ObjectCreated(Protocol):
    """Notification of a new object, as a store sends it: at least once, in any order."""

    async def __call__(self, ref: ObjectRef, *, happened_at: float) -> None:
        """Hand the notification over. On return it is as durable as its consumer requires.

        An error makes the client's request fail, which the client repeats.

        Args:
            happened_at: Unix seconds.
        """
        ...
