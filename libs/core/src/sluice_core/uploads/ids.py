"""Identifiers: random where they must be unguessable, derived where a retry must find them."""

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
    """Return the identity of a new ledger (rule 28), without a dash, so that ids can carry it."""
    return "".join(secrets.choice(_NONCE_ALPHABET) for _ in range(_NONCE_LENGTH))


def new_node_id() -> str:
    """Return a node id: a UUIDv7, so that ids sort by time."""
    return str(uuid_utils.uuid7())


def new_token() -> str:
    """Return a staging token, which names the bytes of one attempt to send one chunk."""
    return str(uuid_utils.uuid7().hex)


def new_upload_id(nonce: str, tenant: str, request_id: str) -> str:
    """Return an upload id prefixed with the nonce of its ledger (rule 28).

    With a request id it is derived from (tenant, request id), so that a retry yields the same id.
    """
    unique = (
        uuid.uuid5(_UPLOADS, f"{tenant}\n{request_id}").hex
        if request_id
        else str(uuid_utils.uuid7().hex)
    )
    return f"{nonce}-{unique}"


def direct_upload_id(node_id: str) -> str:
    """Return the upload id of an object that a client put through a presigned URL.

    It is derived from the node id, so that repeated notifications yield the same one. No ledger
    has the nonce `direct`.
    """
    return f"direct-{node_id}"


def direct_multipart_id(node_id: str, attempt: int) -> str:
    """Return the upload id that the intent of a multipart through presigned URLs has (rule 13).

    It begins with the id that the adoption of the object has, which the intent does not hinder.
    """
    return f"{direct_upload_id(node_id)}-{attempt}"


def nonce_of(upload_id: str) -> str:
    """Return the ledger nonce of an upload id."""
    return upload_id.partition("-")[0]


def event_id(node_id: str, event_type: str, sequence: int) -> str:
    """Return the stable id of an event (rule 23), so that consumers can drop duplicates.

    Upload events use the node id too: an upload id derived from a request id is reused, and
    consumers would drop a new event under an old id as a duplicate.
    """
    return str(uuid.uuid5(_EVENTS, f"{node_id}\n{event_type}\n{sequence}"))
