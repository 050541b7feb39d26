"""A process that commits uploads until it is killed: `python -m support.committer URL`.

Writes the node id of every commit that was confirmed, line by line. The paths repeat, so that
most commits supersede a node.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from sluice_backends.sql.catalogue import open_catalogue
from support.commits import finished_upload

PATHS = 3


async def main(url: str) -> None:
    async with open_catalogue(url) as catalogue:
        for number in count():
            commit = finished_upload(f"path-{number % PATHS}")
            await catalogue.commit_node(commit)
            sys.stdout.write(f"{commit.node_id}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
