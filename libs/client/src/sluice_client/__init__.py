"""The Sluice SDK: `Client`, what it returns, what it raises, and how it is tuned.

Everything else in this package is private.

The modules are imported when a name of theirs is first used: what is below this package and needs
no gRPC, such as the entry point of the command, does not bring it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sluice_client.client import Client
    from sluice_client.errors import (
        Aborted,
        AlreadyExists,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        SluiceError,
        SourceChanged,
        SourceNotRepeatable,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        UploadBusy,
        UploadFailed,
        UploadGone,
    )
    from sluice_client.model import (
        ChunkRange,
        DownloadResult,
        Drive,
        DrivePolicy,
        Durability,
        FileIdentity,
        Integrity,
        Limits,
        Node,
        Processing,
        ProcessingState,
        Thumbnail,
        UploadResult,
        UploadState,
        UploadStatus,
    )
    from sluice_client.options import ClientOptions
    from sluice_client.progress import Phase, Progress, ProgressCallback
    from sluice_client.retry import RetryPolicy
    from sluice_client.uploads.sources import Source

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ChunkRange",
    "Client",
    "ClientOptions",
    "DataLoss",
    "DeadlineExceeded",
    "DownloadResult",
    "Drive",
    "DrivePolicy",
    "Durability",
    "FailedPrecondition",
    "FileIdentity",
    "Integrity",
    "Internal",
    "InvalidArgument",
    "Limits",
    "Node",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Phase",
    "Processing",
    "ProcessingState",
    "Progress",
    "ProgressCallback",
    "ResourceExhausted",
    "RetryPolicy",
    "SluiceError",
    "Source",
    "SourceChanged",
    "SourceNotRepeatable",
    "Thumbnail",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UploadBusy",
    "UploadFailed",
    "UploadGone",
    "UploadResult",
    "UploadState",
    "UploadStatus",
]

_MODULES: Final = {
    "sluice_client.client": ("Client",),
    "sluice_client.errors": (
        "Aborted",
        "AlreadyExists",
        "DataLoss",
        "DeadlineExceeded",
        "FailedPrecondition",
        "Internal",
        "InvalidArgument",
        "NotFound",
        "OutOfRange",
        "PermissionDenied",
        "ResourceExhausted",
        "SluiceError",
        "SourceChanged",
        "SourceNotRepeatable",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
        "UploadBusy",
        "UploadFailed",
        "UploadGone",
    ),
    "sluice_client.model": (
        "ChunkRange",
        "DownloadResult",
        "Drive",
        "DrivePolicy",
        "Durability",
        "FileIdentity",
        "Integrity",
        "Limits",
        "Node",
        "Processing",
        "ProcessingState",
        "Thumbnail",
        "UploadResult",
        "UploadState",
        "UploadStatus",
    ),
    "sluice_client.options": ("ClientOptions",),
    "sluice_client.progress": ("Phase", "Progress", "ProgressCallback"),
    "sluice_client.retry": ("RetryPolicy",),
    "sluice_client.uploads.sources": ("Source",),
}
"""The public names by the module that defines them."""

_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
