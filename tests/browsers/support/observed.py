"""What a page complained about: console, errors, violations of its policy."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Response, WebError

_LOUD: Final = ("error", "warning", "assert")
_REFUSED: Final = "Failed to load resource"
_NO_SOCKET: Final = "establish a connection to the server at ws"
"""Firefox reports a WebSocket that did not open as an error of the page, others in the console."""
_URL: Final = r"(?:https?|wss?)://127\.0\.0\.1:\d+/\S*"
_OF_NETWORK: Final = re.compile(
    "|".join(
        (
            # Chromium: of a request, and of a WebSocket that did not open or was closed.
            r"error: Failed to load resource: net::ERR_(?:CONNECTION_(?:REFUSED|RESET|CLOSED)"
            rf"|EMPTY_RESPONSE|INTERNET_DISCONNECTED|SOCKET_NOT_CONNECTED) {_URL}",
            rf"error: WebSocket connection to '{_URL}' failed: .*",
            # Firefox: of a request to another origin, whose answer it has no headers of.
            r"(?:Cross-Origin Request Blocked: )?The Same Origin Policy disallows reading "
            rf"the remote resource at {_URL} \(Reason: CORS request did not succeed\)\. "
            r"Status code: \(null\)\.",
            rf"(?:Error: )?Firefox can.t establish a connection to the server at {_URL}",
            rf"(?:Error: )?The connection to {_URL} was interrupted while the page was loading\.",
        )
    ),
    re.DOTALL,
)
"""What browsers write when a connection cannot be made or ends; no page can avoid it."""
_HAS_ARRIVED: Final = re.compile(
    r"error: Failed to load resource: the server responded with a status of 409 \(Conflict\) "
    r"http://127\.0\.0\.1:\d+/commands/upload/\w+/finalize"
)
"""The gateway's "no" when a page asks whether a PUT whose answer was lost has arrived: one for
each photo, whose id is in the address."""
_REPORT_VIOLATIONS: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}`));
"""


@dataclass
class Observed:
    """Messages of the pages of a context."""

    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    """The content security policy of each page that was loaded."""
    had_outage: bool = False
    asked_after_outage: set[str] = field(default_factory=set)
    """The refusals that were accepted."""

    def forget(self) -> None:
        """Drop the messages so far, such as those of a fault that was injected."""
        self.console.clear()
        self.errors.clear()

    @asynccontextmanager
    async def outage(self, page: Page) -> AsyncIterator[None]:
        """Allow, inside the block only, what browsers write of a network that is gone.

        From then on a page may ask for lost answers, once for each photo, whenever it comes to it.
        """
        await self.assert_silent(page)
        self.had_outage = True
        yield
        await page.evaluate("0")  # after it, what was written before it has arrived
        self.console = [line for line in self.console if not _OF_NETWORK.fullmatch(line.strip())]
        self.errors = [line for line in self.errors if not _OF_NETWORK.fullmatch(line.strip())]

    async def assert_silent(self, page: Page) -> None:
        """Assert that nothing was written, thrown or blocked."""
        self._accept_lost_answers()
        assert self.errors == [], self.errors[:3]
        assert self.console == [], self.console[:3]
        assert await page.evaluate("window.violations") == []

    def _accept_lost_answers(self) -> None:
        """Drop the first refusal of each photo after an outage."""
        kept: list[str] = []
        for line in self.console:
            is_refusal = self.had_outage and _HAS_ARRIVED.fullmatch(line) is not None
            if not is_refusal or line in self.asked_after_outage:
                kept.append(line)
            else:
                self.asked_after_outage.add(line)
        self.console = kept

    async def assert_handled(self, page: Page) -> None:
        """Assert the same, but for refusals that were handled: browsers write them themselves."""
        self.console = [line for line in self.console if _REFUSED not in line]
        await self.assert_silent(page)


async def observe(context: BrowserContext) -> Observed:
    """Record what the pages of this context complain about from now on."""
    observed = Observed()

    def note_console(message: ConsoleMessage) -> None:
        if message.type in _LOUD:
            observed.console.append(f"{message.type}: {message.text} {message.location['url']}")

    def note_response(response: Response) -> None:
        if response.request.is_navigation_request():
            policy = response.headers.get("content-security-policy", "")
            observed.policies.append(policy)

    def note_error(error: WebError) -> None:
        text = str(error.error)
        (observed.console if _NO_SOCKET in text else observed.errors).append(text)

    await context.add_init_script(_REPORT_VIOLATIONS)
    context.on("console", note_console)
    context.on("weberror", note_error)
    context.on("response", note_response)
    return observed
