"""The Sluice SDK: client, values, errors and options.

Everything else in this package is private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluice_client.exports import *  # noqa: F403
else:
    # Type checkers must not see this function: they would accept every name.
    def __getattr__(name: str) -> object:
        """Import the public names on first use.

        Modules of this package that need no gRPC, such as the entry point of the command, then do
        not load it. Every public name is capitalized: a submodule does not load the others.
        """
        if name == "__all__":
            return _public_names()
        if not name[:1].isupper() or name not in _public_names():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module("sluice_client.exports"), name)
        globals()[name] = value  # the next access does not call this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_public_names()})


def _public_names() -> list[str]:
    return [name for name in vars(import_module("sluice_client.exports")) if name[0].isupper()]
