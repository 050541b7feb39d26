"""Health check of a container's gRPC server: exit code 0 if it answers SERVING.

Run `healthcheck.py SETTING`, the environment variable with the server's listen address.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0
METRICS_PORT = "9464"


def main() -> int:
    """Check once, on the loopback interface: the server listens on all of them."""
    if os.environ.get("SLUICE_TLS__CERT_FILE"):
        return check_readiness()
    port = os.environ[sys.argv[1]].rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def check_readiness() -> int:
    """Ask for `/readyz`, since a server with TLS may require a certificate for gRPC.

    The certificate need not name 127.0.0.1, and nothing secret is sent or believed.
    """
    address = os.environ.get("SLUICE_METRICS_ADDRESS", METRICS_PORT)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"https://127.0.0.1:{address.rpartition(':')[2]}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=context):
            return 0
    except OSError as error:  # an answer of 503 is one
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
