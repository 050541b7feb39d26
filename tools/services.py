"""Start and stop a real Redis, MariaDB, Apache Kafka and S3 server for tests and for a laptop.

    python tools/services.py up | down | status | env | get | run -- COMMAND

docs/services.md has the details. The programme itself is the package `tools.backends`; this file
only makes it callable from anywhere.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    runpy.run_module("tools.backends", run_name="__main__")
