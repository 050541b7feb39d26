"""Credentials from botocore's chain: settings, environment, files, container or instance role."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]

from sluice_backends.s3.errors import VENDOR_ERRORS, to_store_error
from sluice_backends.s3.sigv4 import Credentials


class CredentialSource:
    """Current credentials of a session.

    Args:
        session: botocore refreshes its temporary credentials a few minutes before they expire.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    async def current(self, bucket: str) -> Credentials:
        """Return the credentials. A request is sent only when they have to be refreshed.

        Raises `PermissionDenied` STORE_DENIED if there are none, `Unavailable` if a refresh fails.
        """
        try:
            source = await self._session.get_credentials()
            if source is None:
                raise NoCredentialsError
            keys = await source.get_frozen_credentials()
        except VENDOR_ERRORS as error:
            raise to_store_error(error, bucket) from error
        return Credentials(keys.access_key, keys.secret_key, keys.token)
