#!/usr/bin/python3
"""The subset of MinIO's client that deploy/compose.yaml uses, in the standard library.

mc ready local; mc alias set NAME URL USER PASSWORD; mc mb --ignore-existing NAME/BUCKET
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

ALIASES = Path("/tmp/mc.json")
REGION = "us-east-1"
NOTHING = hashlib.sha256(b"").hexdigest()


def ready() -> int:
    """Return exit code 0 if a store answers, with any status."""
    connection = http.client.HTTPConnection("127.0.0.1", 9000, timeout=3)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if status < 500 else 1


def set_alias(name: str, url: str, user: str, password: str) -> int:
    ALIASES.write_text(json.dumps({name: [url, user, password]}), encoding="utf-8")
    return 0


def make_bucket(place: str) -> int:
    name, _, bucket = place.partition("/")
    url, user, password = json.loads(ALIASES.read_text(encoding="utf-8"))[name]
    address = urlsplit(url)
    headers = signed("PUT", address.netloc, f"/{bucket}", user, password)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.request("PUT", f"/{bucket}", headers=headers)
    answer = connection.getresponse()
    # 409: it exists.
    if answer.status in (200, 409):
        return 0
    sys.stderr.write(f"{answer.status} {answer.read().decode(errors='replace')}\n")
    return 1


def signed(method: str, host: str, path: str, user: str, password: str) -> dict[str, str]:
    """Return the headers of a request without a body, signed by AWS Signature Version 4."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    lines = f"host:{host}\nx-amz-content-sha256:{NOTHING}\nx-amz-date:{now}\n"
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{NOTHING}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
    key = f"AWS4{password}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={user}/{scope}"
    return {
        "x-amz-content-sha256": NOTHING,
        "x-amz-date": now,
        "Authorization": f"{credential},SignedHeaders={names},Signature={signature}",
    }


def main(arguments: list[str]) -> int:
    match arguments:
        case ["ready", "local"]:
            return ready()
        case ["alias", "set", name, url, user, password]:
            return set_alias(name, url, user, password)
        case ["mb", "--ignore-existing", place]:
            return make_bucket(place)
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
