"""Client of one SQS queue, with errors as `SluiceError`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from pydantic import SecretStr

from sluice_backends.certificates import certificate_problem, check_tls_files
from sluice_backends.sqs.options import SqsOptions
from sluice_core.errors import FailedPrecondition, PermissionDenied, SluiceError, Unavailable

BATCH: Final = 10
"""Maximum number of messages per request, a limit of SQS."""
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
_SPARE_CONNECTIONS: Final = 4
_VENDOR_ERRORS: Final = (ClientError, BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)
_MISSING: Final = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"}
)
_REFUSED_STATUS: Final = frozenset({401, 403})
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A received message, invisible to others until its visibility timeout ends."""

    message_id: str
    receipt: str
    """Receipt handle; the next receive of the message invalidates it."""
    body: str
    receives: int
    """Number of receives, including this one."""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Attributes of a queue; `waiting` approximates its messages, including hidden ones."""

    waiting: int
    has_dead_letters: bool
    max_receives: int | None = None
    """Receives after which a message becomes a dead letter; None without a redrive policy."""


class SqsQueue:
    """One queue.

    Every call raises `Unavailable` QUEUE_UNAVAILABLE for transient errors, `PermissionDenied`
    QUEUE_DENIED, and `FailedPrecondition` QUEUE_NOT_FOUND or QUEUE_REFUSED.
    """

    def __init__(self, client: Any, options: SqsOptions) -> None:
        self._client = client
        self._options = options

    async def receive(self, most: int) -> Sequence[QueuedMessage]:
        """Receive up to `most` messages, at most `BATCH`; empty after a long poll without any."""
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(most, BATCH),
            WaitTimeSeconds=self._options.wait_seconds,
            VisibilityTimeout=self._options.visibility_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            QueuedMessage(
                message["MessageId"],
                message["ReceiptHandle"],
                message["Body"],
                int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for message in answer.get("Messages", ())
        ]

    async def delete(self, message: QueuedMessage) -> None:
        """Delete a processed message."""
        await self._call("delete_message", ReceiptHandle=message.receipt)

    async def hide(self, message: QueuedMessage, seconds: int) -> None:
        """Hide a message from others for `seconds` from now; 0 makes it visible at once."""
        await self._call(
            "change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=seconds
        )

    async def facts(self) -> QueueFacts:
        """Read the attributes of the queue."""
        answer = await self._call(
            "get_queue_attributes", AttributeNames=[*_COUNTS, "RedrivePolicy"]
        )
        found = answer.get("Attributes", {})
        return QueueFacts(
            sum(int(found.get(name, 0)) for name in _COUNTS),
            "RedrivePolicy" in found,
            _max_receives(found.get("RedrivePolicy")),
        )

    async def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return await getattr(self._client, operation)(
                QueueUrl=self._options.queue_url, **parameters
            )
        except _VENDOR_ERRORS as error:
            raise _translated(error) from error


@asynccontextmanager
async def open_queue(options: SqsOptions, concurrency: int) -> AsyncIterator[SqsQueue]:
    """Open a client of the queue; makes no request.

    Raise `ConfigurationError` for authorities that cannot be loaded.
    """
    check_tls_files("SLUICE_SQS__CA_BUNDLE", ca=options.ca_bundle)
    url = urlsplit(options.queue_url)
    config = AioConfig(
        region_name=options.signing_region,
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=options.wait_seconds + _ANSWER_SECONDS,
        max_pool_connections=concurrency + _SPARE_CONNECTIONS,
        retries={"total_max_attempts": 3, "mode": "standard"},
        warm_up_loader_caches=True,
    )
    async with get_session().create_client(
        "sqs",
        endpoint_url=f"{url.scheme}://{url.netloc}",
        config=config,
        verify=options.ca_bundle,
        aws_access_key_id=_secret(options.access_key),
        aws_secret_access_key=_secret(options.secret_key),
        aws_session_token=_secret(options.session_token),
    ) as client:
        yield SqsQueue(client, options)


def _translated(error: Exception) -> SluiceError:
    """Translate a vendor error without its text, which may quote credentials of the request."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermissionDenied(
            "QUEUE_DENIED",
            "No credentials for the queue were found; set them, or give this machine a role.",
        )
    if not isinstance(error, ClientError):
        problem = certificate_problem(error, "SLUICE_SQS__CA_BUNDLE")
        if problem is not None:
            return Unavailable("QUEUE_UNAVAILABLE", f"The queue's certificate {problem}.")
        return Unavailable("QUEUE_UNAVAILABLE", "The queue does not answer; try again later.")
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if code in _MISSING:
        return FailedPrecondition(
            "QUEUE_NOT_FOUND",
            "The queue does not exist; compare the URL with the one that SQS shows.",
        )
    if status in _REFUSED_STATUS or code.startswith("AccessDenied"):
        return PermissionDenied(
            "QUEUE_DENIED",
            f"The queue refuses access ({code or status}); check the credentials, and that they may"
            " receive, delete and change messages and get the queue's attributes.",
        )
    if status >= 500 or "Throttl" in code or status == 429:
        return Unavailable(
            "QUEUE_UNAVAILABLE", f"The queue answered {code or status}; try again later."
        )
    return FailedPrecondition(
        "QUEUE_REFUSED", f"The queue refused a request ({code or status}); check its settings."
    )


def _max_receives(policy: str | None) -> int | None:
    """Return the `maxReceiveCount` of a redrive policy in JSON."""
    try:
        return None if policy is None else int(json.loads(policy)["maxReceiveCount"])
    except (ValueError, KeyError, TypeError):
        return None


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
