"""A process that commits uploads until it is killed: `python -m support.committer URL`."""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from sluice_backends.sql.catalogue import open_catalogue
from support.commits import finished_upload

PATHS = 3


async def main(url: str) -> None:
    """Commit uploads and write the node id of every confirmed commit, one per line.

    The paths repeat, so most commits supersede a node.
    """
    async with open_catalogue(url) as catalogue:
        for number in count():
            commit = finished_upload(f"path-{number % PATHS}")
            await catalogue.commit_node(commit)
            sys.stdout.write(f"{commit.node_id}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
