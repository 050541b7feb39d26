"""Handling of missing prerequisites: a skip, or a failure in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(message: str) -> NoReturn:
    """Skip the test; fail it under SLUICE_REQUIRE_SERVICES=1, which CI sets.

    Args:
        message: what is missing and how to install it.
    """
    if os.environ.get("SLUICE_REQUIRE_SERVICES") == "1":
        pytest.fail(message)
    pytest.skip(message)
