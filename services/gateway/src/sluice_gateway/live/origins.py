"""Origins whose pages may open a WebSocket: browsers apply no same-origin policy to those."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_ORIGIN: Final = re.compile(
    r"https?://[a-z0-9._-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?"
)
_DEFAULT_PORT: Final = re.compile(r"http:.*:80$|https:.*:443$")


class Origins:
    """The allowed origins, such as `https://photos.example` (RFC 6454, as browsers send them).

    A list, and no "same host" rule: with DNS rebinding a foreign page has the host of this server.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        """Raise `ValueError` for what no browser sends: a path, upper case, a default port, `*`."""
        self._allowed = frozenset(allowed)
        for origin in self._allowed:
            has_default_port = _DEFAULT_PORT.match(origin) is not None
            if has_default_port or _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"no origin: {origin}; write it as https://host or https://host:port"
                )

    def allow(self, origins: list[str]) -> bool:
        """Return True for these `Origin` headers of a handshake.

        Without one the client is no browser: its user's cookies are not at stake, and sessions
        need a token anyway. Several are no browser's either, but a smuggler's.
        """
        return not origins or (len(origins) == 1 and origins[0] in self._allowed)
