"""Choice between servers of one kind, by an environment variable."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tools.backends.errors import ChoiceError
from tools.backends.service import Facts


@dataclass(frozen=True, slots=True)
class Choice:
    """An environment variable and its valid server kinds."""

    variable: str
    kinds: tuple[str, ...]

    def requested(self) -> str:
        """Return the kind that was requested by name, "" for none. Raise `ChoiceError`."""
        requested = os.environ.get(self.variable, "")
        if requested not in ("", *self.kinds):
            names = ", ".join(self.kinds)
            raise ChoiceError(
                f"{self.variable} is {requested!r}: set it to one of {names}, or unset it"
            )
        return requested

    def check(self, service: str, facts: Facts) -> None:
        """Raise `ChoiceError` if a running server is not of the requested kind."""
        requested, kind = self.requested(), facts.get("kind", "unknown")
        if requested not in ("", kind):
            raise ChoiceError(
                f"{self.variable} asks for {requested}, and a server of kind {kind} runs already: "
                f"stop it with `services.py down {service}` and try again"
            )
