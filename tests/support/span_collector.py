"""An OTLP collector for tests that keeps what it receives."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

_SECONDS = 5.0


class SpanCollector(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers every export. `spans` are its raw messages, `headers` what came with them."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans = b""
        self.headers = b""

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.spans += request
        self.headers += repr(tuple(context.invocation_metadata())).encode()
        return b""


@contextmanager
def span_collector() -> Iterator[SpanCollector]:
    """Serve a collector inside the block."""
    collector = SpanCollector()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[collector])  # one export at a time
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait(_SECONDS)
