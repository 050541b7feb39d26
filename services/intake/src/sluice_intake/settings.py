"""Conversion of the process settings to the options of the intake."""

from __future__ import annotations

from sluice_common.settings import SluiceSettings
from sluice_intake.options import IntakeOptions


def intake_options(settings: SluiceSettings) -> IntakeOptions:
    """Return the options of the settings; all others keep their defaults."""
    limits, throttle = settings.limits, settings.throttle
    return IntakeOptions(
        ledger=settings.to_ledger_options(),
        durability=settings.durability,
        default_bucket=settings.bucket,
        default_part_bytes=settings.part_bytes,
        preferred_chunk_bytes=limits.preferred_chunk_bytes,
        max_unary_message_bytes=limits.max_unary_message_bytes,
        max_accepts_in_flight=limits.max_accepts_in_flight,
        unary_budget_bytes=limits.unary_bytes,
        unary_yield_seconds=limits.unary_yield_seconds,
        budget_stall_seconds=throttle.budget_stall_seconds,
        look_ahead_stall_seconds=throttle.look_ahead_stall_seconds,
        max_delay_seconds=throttle.max_delay_seconds,
        unary_budget_wait_seconds=throttle.unary_wait_seconds,
        retry_after_seconds=throttle.retry_after_seconds,
        chunk_stall_seconds=throttle.chunk_stall_seconds,
        chunk_fair_bytes=throttle.chunk_fair_bytes,
    )
