"""Health check of a container's gRPC server: exit code 0 if it answers SERVING.

Run `healthcheck.py SETTING`, the environment variable with the server's listen address.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0


def main() -> int:
    """Check once, on the loopback interface: the server listens on all of them.

    With TLS check readiness by HTTPS instead: gRPC may require a certificate of its clients.
    """
    if os.environ.get("SLUICE_TLS__CERT_FILE"):
        import readiness  # lies beside this file

        return readiness.main()
    port = os.environ[sys.argv[1]].rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
