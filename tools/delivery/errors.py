"""The error of a release step."""

from __future__ import annotations


class DeliveryError(Exception):
    """The step failed; the text says why and what to do."""
