"""The declared type of an object, and whether its bytes agree with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluice_core.objects.marks import PATH_MARK
from sluice_core.photos.names import CONTENT_TYPE_ALIASES
from sluice_core.ports.catalogue import Node
from sluice_core.ports.object_store import ObjectInfo
from sluice_processor.images.model import ImageFormat
from sluice_processor.images.sniff import Sniffed

_PICTURES: Final = frozenset({*(one.media_type for one in ImageFormat), "image/heif"})
"""Declared types with which the bytes are compared."""
_SAME_TYPES: Final = {
    # HEIF is the container of both others, and an animated PNG is a PNG.
    "image/heif": {"image/heif", "image/heic", "image/avif"},
    "image/heic": {"image/heif", "image/heic"},
    "image/png": {"image/png", "image/apng"},
}


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """What an object was said to be.

    Clients of uploads derive the type of a file from its name, so any picture is accepted from
    them for another one. The type of an object that came by a signed URL was chosen by whoever
    asked for the URL, and the store has enforced it: it must be that of the bytes.
    """

    media_type: str
    is_signed: bool

    @classmethod
    def of(cls, node: Node, info: ObjectInfo) -> DeclaredType:
        """Return the type without its parameters, in its usual spelling."""
        folded = node.content_type.partition(";")[0].strip().lower()
        return cls(CONTENT_TYPE_ALIASES.get(folded, folded), PATH_MARK in info.metadata)

    def disagrees(self, sniffed: Sniffed) -> bool:
        """Return whether a picture was declared and the bytes are something else."""
        if self.media_type not in _PICTURES:
            return False
        if sniffed.media_type is None or not sniffed.media_type.startswith("image/"):
            return True
        same = _SAME_TYPES.get(self.media_type, {self.media_type})
        return self.is_signed and sniffed.media_type not in same
