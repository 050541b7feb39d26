"""What a data directory may hold when nothing is in flight: objects of nodes and nothing else."""

from __future__ import annotations

import time

from support.server import StandaloneServer

SWEEP_SECONDS = 30.0


def leftovers(server: StandaloneServer) -> list[str]:
    """Chunk files and multiparts on disk, relative to the data directory."""
    chunks = [path for path in (server.data_dir / "chunks").rglob("*") if path.is_file()]
    objects = (server.data_dir / "objects").rglob("*")
    multiparts = [path for path in objects if "multipart" in path.parts[-2:] and path.is_dir()]
    return [str(path.relative_to(server.data_dir)) for path in [*chunks, *multiparts]]


def assert_nothing_is_left(server: StandaloneServer, objects: int) -> None:
    """Within a few sweeps there is no chunk, no multipart and exactly `objects` objects."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while (left := leftovers(server)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
    manifests = list((server.data_dir / "objects").rglob("manifest*.json"))
    assert len(manifests) == objects
