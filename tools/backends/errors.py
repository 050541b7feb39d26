"""Errors of the services, as sentences for the user."""

from __future__ import annotations


class ServiceError(Exception):
    """A service could not be started or stopped; the text says what to do next."""


class ChoiceError(ServiceError):
    """A server that was requested by name is unavailable. Do not replace it by another."""


class NotReadyError(Exception):
    """The server does not answer yet; retry."""
