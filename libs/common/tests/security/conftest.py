"""An authenticator for tokens of two keys."""

from __future__ import annotations

import pytest

from support import tokens
from support.jwt_authenticator import Server


@pytest.fixture
def server() -> Server:
    return Server(tokens.key_set(tokens.rsa_key(), tokens.ec_key()))
