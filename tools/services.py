"""Real Redis, MariaDB, Apache Kafka and S3 servers for tests and developers (docs/services.md).

python tools/services.py up | down | status | env | get | run -- COMMAND
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    runpy.run_module("tools.backends", run_name="__main__")
