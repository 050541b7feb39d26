"""Conversion of the process settings to the options of the processor."""

from __future__ import annotations

import shlex
from typing import Final

from sluice_backends.sqs.options import SqsOptions
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_processor.images.model import ImageOptions, ThumbnailFormat
from sluice_processor.options import ProcessorOptions

_WALL_MULTIPLE: Final = 6
"""Wall time of a picture as a multiple of its processor time: a child with a sixth of a core is
slow, but does not hang."""


def processor_options(settings: SluiceSettings) -> ProcessorOptions:
    """Return the options of the settings; all others keep their defaults."""
    chosen = settings.processor
    return ProcessorOptions(
        images=ImageOptions(
            thumbnail_sizes=tuple(int(size) for size in chosen.thumbnail_sizes.split(",")),
            thumbnail_format=ThumbnailFormat(chosen.thumbnail_format),
            thumbnail_quality=chosen.thumbnail_quality,
            max_source_bytes=chosen.max_source_bytes,
            max_pixels=chosen.max_pixels,
            workers=chosen.workers,
            child_memory_bytes=chosen.child_memory_bytes,
            cpu_seconds=chosen.picture_seconds,
            wall_seconds=chosen.picture_seconds * _WALL_MULTIPLE,
        ),
        concurrency=chosen.concurrency,
        attempts=chosen.attempts,
        handling_seconds=chosen.handling_seconds,
        retries=chosen.retries,
        retry_seconds=chosen.retry_seconds,
        drain_seconds=settings.drain_seconds * 0.8,
        spool_dir=chosen.spool_dir,
        scan_command=tuple(shlex.split(chosen.scan_command or "")),
        scan_address=chosen.scan_address or "",
        scan_seconds=chosen.scan_seconds,
        bucket=settings.bucket,
        events_follow=settings.events is not Events.OFF,
    )


def sqs_options(settings: SluiceSettings) -> SqsOptions | None:
    """Return the queue of S3 notifications, or None if none is set."""
    sqs = settings.sqs
    return None if sqs.queue_url is None else SqsOptions(**sqs.model_dump())
