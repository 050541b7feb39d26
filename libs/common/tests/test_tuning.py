"""The choices of a process that have to be made before grpc is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from sluice_common.tuning import tune_process
tune_process()
assert "grpc" not in sys.modules
import asyncio, grpc.aio

async def answer(request, context):
    return request

async def main():
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary("/s/m")(b"x") == b"x"
    await server.stop(None)

asyncio.run(main())
print(os.environ["GRPC_EXPERIMENTS"])
"""


@pytest.mark.parametrize(
    ("given", "chosen"),
    [({}, "-event_engine_listener"), ({"GRPC_EXPERIMENTS": ""}, "")],
    ids=["the operator said nothing", "the operator wants gRPC as it comes"],
)
def test_the_listener_is_chosen_and_grpc_accepts_the_choice(
    given: dict[str, str], chosen: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=given,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == chosen
    assert not done.stderr, "gRPC does not know the experiment any more"
