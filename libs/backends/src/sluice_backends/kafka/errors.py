"""Translation of the client library's errors; none of them leaves this package."""

from __future__ import annotations

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    RecordListTooLargeError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from sluice_core.errors import Unavailable

UNAVAILABLE = "EVENTS_UNAVAILABLE"

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

CREDENTIALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
)
_DENIED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
_NO_ANSWER = (
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    TimeoutError,
    OSError,
)


def unavailable(error: BaseException) -> Unavailable:
    """Return the error for the caller: it is uncertain whether Kafka has the events."""
    return Unavailable(UNAVAILABLE, _message(error))


def _message(error: BaseException) -> str:
    if isinstance(error, CREDENTIALS):
        return "Kafka refuses the credentials; check the username, password and mechanism."
    if isinstance(error, _DENIED):
        return "Kafka's access rules deny this; allow Write on the topics and Read on the groups."
    if isinstance(error, NotEnoughReplicasError | NotEnoughReplicasAfterAppendError):
        return "Too few replicas of a topic are in sync; bring brokers back or lower the setting."
    if isinstance(error, InvalidTopicError):
        return "Kafka refuses the topic's name; correct it."
    if isinstance(error, _NO_ANSWER):
        return "Kafka does not answer in time; check the brokers and the network, then try again."
    return f"Kafka failed ({type(error).__name__}); try again."
