"""Identifiers: random where they must not be guessed, derived where a repeat must find them."""

from __future__ import annotations

import secrets
import string
import uuid

import uuid_utils

_EVENTS = uuid.UUID("6d3f0f0e-2c0b-5a53-9a52-0d5c9cfb21aa")
_UPLOADS = uuid.UUID("b1a7c5de-93a4-5e0a-8a55-4f1f0c8c2f6e")

_NONCE_ALPHABET = string.digits + string.ascii_lowercase
_NONCE_LENGTH = 8


def new_nonce() -> str:
    """The identity of a new ledger (rule 28); without a dash, so that ids can carry it."""
    return "".join(secrets.choice(_NONCE_ALPHABET) for _ in range(_NONCE_LENGTH))


def new_node_id() -> str:
    """A node id: UUIDv7, so that ids sort by time."""
    return str(uuid_utils.uuid7())


def new_token() -> str:
    """A staging token: names the bytes of one attempt to send one chunk."""
    return str(uuid_utils.uuid7().hex)


def new_upload_id(nonce: str, tenant: str, request_id: str) -> str:
    """An upload id that tells which ledger made it (its nonce is the prefix, rule 28).

    With a request id it is derived from (tenant, request id), so that a repeat names the same.
    """
    unique = (
        uuid.uuid5(_UPLOADS, f"{tenant}\n{request_id}").hex
        if request_id
        else str(uuid_utils.uuid7().hex)
    )
    return f"{nonce}-{unique}"


def direct_upload_id(node_id: str) -> str:
    """Stands for the upload of an object that a client put by itself: whoever notices it, and
    however often, its node has one upload id. No ledger has a nonce like that."""
    return f"direct-{node_id}"


def nonce_of(upload_id: str) -> str:
    """The ledger nonce that an upload id carries."""
    return upload_id.partition("-")[0]


def event_id(node_id: str, event_type: str, sequence: int) -> str:
    """The stable id of an event (rule 23): publishing it twice is harmless.

    Of the node's id, also where the event is the upload's: an upload id that is derived from a
    request id comes back, and a new fact under an old id would be dropped as seen.
    """
    return str(uuid.uuid5(_EVENTS, f"{node_id}\n{event_type}\n{sequence}"))
