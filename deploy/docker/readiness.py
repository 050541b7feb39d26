"""Health check of a container's process without gRPC: exit code 0 if it reports readiness."""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 3.0


def main() -> int:
    """Check once, on the loopback interface: the server listens on all of them.

    With TLS its certificate is not verified: it need not name 127.0.0.1, and nothing secret is
    sent.
    """
    port = os.environ["SLUICE_METRICS_ADDRESS"].rpartition(":")[2]
    scheme = "https" if os.environ.get("SLUICE_TLS__CERT_FILE") else "http"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"{scheme}://127.0.0.1:{port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=context):
            return 0
    except (urllib.error.URLError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
