"""What can go wrong, as sentences for the person at the terminal."""

from __future__ import annotations


class ServiceError(Exception):
    """A service could not be started or stopped; says what to do next."""


class ChoiceError(ServiceError):
    """A server that was asked for by name cannot be had. Nothing may take its place."""


class NotReadyError(Exception):
    """The server does not answer yet; worth asking again."""
