"""The live updates of the panel, bundled from web/ and run in Node."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.foreign_clients import ROOT, node_client
from support.missing import missing
from support.stompjs import StompJs, running_client

WEB = ROOT / "web"
_SOURCE = "src/lib/websocket/client.ts"
_BUNDLE_SECONDS = 120


class PanelLive(StompJs):
    """A running client, and the lines that it prints."""

    def ask(self, line: str) -> None:
        """Have the client obey: `follow JOB`, `unfollow JOB` or `wake`."""
        self._input.write(f"{line}\n".encode())

    async def state_of(self, photo_id: str, status: str) -> None:
        """Wait until a snapshot or a change says that a photo has a status."""
        while True:
            line = await self.next_line()
            if line["event"] == "change" and line["photoId"] == photo_id:
                found = line["status"]
            elif line["event"] == "snapshot":
                found = line["statuses"].get(photo_id)
            else:
                continue
            if found == status:
                return


@asynccontextmanager
async def panel_live(folder: Path, url: str, token: str, *jobs: str) -> AsyncIterator[PanelLive]:
    """Run a client that follows the jobs at a gateway.

    Args:
        folder: takes the bundle.
    """
    command = await asyncio.to_thread(node_client, "panel_live")
    bundle = await asyncio.to_thread(_bundle, folder)
    async with running_client(command, str(bundle), url, token, *jobs) as process:
        yield PanelLive(process)


def _bundle(folder: Path) -> Path:
    bundler = WEB / "node_modules" / ".bin" / "rolldown"
    if not bundler.exists():
        missing("the tests of the panel's parts need its packages; run `npm ci` in web/")
    bundle = folder / "live.cjs"
    options = ["--format", "cjs", "--platform", "node", "--tsconfig", "tsconfig.json"]
    done = subprocess.run(
        [str(bundler), _SOURCE, *options, "--file", str(bundle)],
        cwd=WEB,
        capture_output=True,
        text=True,
        timeout=_BUNDLE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return bundle
