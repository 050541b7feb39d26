"""OpenAPI document of the gateway for `web/`, from which its API client gets its types.

`python tools/web_api.py` writes `web/openapi.json`; `--check` compares it instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "web" / "openapi.json"
sys.path.insert(0, str(ROOT / "tests"))

from support.gateway import running_gateway  # noqa: E402 - needs the path above


async def current_document() -> str:
    """Return the document as a running gateway answers it, with sorted members."""
    with tempfile.TemporaryDirectory(prefix="sluice-web-api-") as folder:
        async with running_gateway(Path(folder)) as gateway:
            reply = await gateway.get("/openapi.json")
            return json.dumps(reply.json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Return the exit code: 1 if the document is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    is_check = parser.parse_args().check
    document = asyncio.run(current_document())
    if not is_check:
        DOCUMENT.write_text(document, encoding="utf-8")
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == document:
        return 0
    print(f"{DOCUMENT.relative_to(ROOT)} is stale; run `make web-api`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
