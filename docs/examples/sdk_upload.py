"""Upload a file with the SDK, find its node, read it back.

python docs/examples/sdk_upload.py HOST:PORT FILE
"""

import asyncio
import sys
from pathlib import Path

from sluice_client import AlreadyExists, Client, Progress


def show(progress: Progress) -> None:
    print(f"accepted {progress.accepted_bytes} of {progress.total_bytes} bytes", file=sys.stderr)


async def main(server: str, file: Path) -> None:
    async with Client(server) as client:
        result = await client.upload(
            file, drive="examples", path=f"sdk/{file.name}", sha256=True, on_progress=show
        )
        print(f"node {result.node_id}: {result.size} bytes, CRC32C {result.crc32c:08x}")

        back = await client.download(node_id=result.node_id)
        print("read back:", back.data == file.read_bytes())

        try:
            await client.upload(b"other", drive="examples", path=result.path, if_absent=True)
        except AlreadyExists as error:
            print("refused:", error.code, error.reason)

        async for node in client.list_nodes("examples", "sdk/"):
            print(node.path, node.size)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
