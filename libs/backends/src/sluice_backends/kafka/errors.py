"""Kafka's errors in our words. Nothing of the client library passes this edge."""

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
    """What the caller is told: it is not certain that Kafka has the events."""
    return Unavailable(UNAVAILABLE, _sentence(error))


def _sentence(error: BaseException) -> str:
    if isinstance(error, CREDENTIALS):
        return "Kafka refuses the credentials; check the username, password and mechanism."
    if isinstance(error, _DENIED):
        return "Kafka's access rules deny this; allow Write on the topics and Read on the groups."
    if isinstance(error, NotEnoughReplicasError | NotEnoughReplicasAfterAppendError):
        return "Too few replicas of a topic are in sync; bring brokers back or lower the setting."
    if isinstance(error, InvalidTopicError):
        return "Kafka takes no such topic; look at the topic's name."
    if isinstance(error, _NO_ANSWER):
        return "Kafka does not answer in time; check the brokers and the network, then try again."
    return f"Kafka could not do it ({type(error).__name__}); try again."
