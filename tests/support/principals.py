"""An authenticator whose tokens spell out the principal."""

from __future__ import annotations

import json

from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated

Metadata = tuple[tuple[str, str], ...]


class SpelledPrincipals:
    """Accepts every token of `credentials`, unchecked."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization is None:
            raise Unauthenticated("NO_CREDENTIALS", "No token; send one.")
        fields = json.loads(authorization)
        return Principal(
            fields["tenant"],
            fields["subject"],
            frozenset(fields["scopes"]),
            tuple(fields["drives"]),
            frozenset(fields["groups"]),
        )


def credentials(principal: Principal) -> Metadata:
    """Return the metadata of a request of this principal."""
    fields = {
        "tenant": principal.tenant,
        "subject": principal.subject,
        "scopes": sorted(principal.scopes),
        "drives": principal.drives,
        "groups": sorted(principal.groups),
    }
    return (("authorization", json.dumps(fields)),)
